"""Callbacks of a user's own: built from the config, their state saved and resumed, their code a part of the run's name."""

from pathlib import Path
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, InterruptedRunError
from protoformer.models.weights import read_pickle
from protoformer.runs.identity import run_id
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.callbacks.user import build_callbacks
from protoformer.training.run import train

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=48", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=8", "recipe.max_steps=4", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "task.max_len=24", "hardware.threads=1"),
]
SOURCE = '''
from lightning.pytorch.callbacks import Callback

class Count(Callback):
    """Counts steps."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.count = every, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.count += self.every

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict) -> None:
        self.count = state_dict["count"]

class Unsafe(Callback):
    def state_dict(self):
        return {"folder": object()}

class Other:
    pass
'''


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name; another in each test, since modules are read once."""
    name = f"callbacks_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    return name


def config(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}", *overrides])


def test_a_state_is_saved_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_module: str) -> None:
    callbacks = f"trainer.callbacks=[{{_target_:{own_module}.Count,every:2}}]"
    composed = config(tmp_path, callbacks, "trainer.keep_optimizer=true")

    def stop(self: StepLogger, trainer: Any, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step >= 1)

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError):
            train(composed, "")
    (last,) = (tmp_path / "out").rglob("last.ckpt")
    assert read_pickle(last)["callbacks"]["Count"] == {"count": 4}
    train(composed, "")
    assert read_pickle(last)["callbacks"]["Count"] == {"count": 8}


def test_callbacks_and_their_code_name_the_run(tmp_path: Path, own_module: str) -> None:
    plain = run_id(config(tmp_path))
    assert run_id(config(tmp_path, "trainer.callbacks=[]")) == plain
    word = f"trainer.callbacks=[{{_target_:{own_module}.Count}}]"
    counted = run_id(config(tmp_path, word))
    assert counted != plain
    file = tmp_path / "code" / f"{own_module}.py"
    file.write_text(SOURCE.replace("Counts steps", "Counts the steps"))
    assert run_id(config(tmp_path, word)) == counted  # a docstring
    file.write_text(SOURCE.replace("+= self.every", "+= 2 * self.every"))
    assert run_id(config(tmp_path, word)) != counted


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ("[{_target_:NAME.Other}]", "is no callback"),
        ("[{_target_:NAME.Unsafe}]", r"its state\['folder'\] holds a builtins.object"),
        ("[{_target_:NAME.Count},{_target_:NAME.Count}]", "two with the state_key Count"),
        ("[{_target_:NAME.Count,evry:3}]", "did you mean .*every"),
        ("[{_target_:NAME.Missing}]", "has no Missing"),
        ("[{every:3}]", "no _target_"),
    ],
)
def test_what_is_no_callback_is_refused_in_one_line(
    tmp_path: Path, own_module: str, callbacks: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_callbacks(config(tmp_path, f"trainer.callbacks={callbacks.replace('NAME', own_module)}"))
