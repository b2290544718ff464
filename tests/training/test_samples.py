"""What a language model writes at a validation, seen in the run folder, on the terminal and in both trackers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.modules.evaluation import Sample
from protoformer.modules.kinds.language_modeling import LanguageEvaluation
from protoformer.training.callbacks.samples import LogSamples, read_samples
from protoformer.training.run import train

WORDS = [
    "model=gpt2_tiny", "task=pretrain/clm", "source=sample", "source.rows=40", "model.d_model=16", "model.d_ff=32",
    "recipe.batch_size=8", "recipe.max_steps=2", "recipe.epochs=null", "task.max_len=24", "task.data.held_out=0.2",
    "task.module.sample_tokens=5", "task.module.prompts=['',the]", "trainer.val_check_interval=1", "hardware.threads=1",
]  # fmt: skip


def run(folder: Path, *overrides: str) -> Path:
    train(compose([*WORDS, f"paths.outputs={folder}", f"paths.cache={folder / 'cache'}", *overrides]), "")
    (config,) = folder.glob("*/pretrain/clm/*/config.yaml")
    return config.parent


def test_wandb_has_a_table_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = read_samples(run(tmp_path, "tracking=wandb_offline") / "samples.jsonl")
    assert [(sample["step"], sample["prompt"]) for sample in written] == [(1, ""), (1, "the"), (2, ""), (2, "the")]
    tables = [json.loads(file.read_text()) for file in tmp_path.rglob("files/media/table/samples_*.json")]
    rows = [row for table in tables for row in table["data"]]
    assert sorted(rows) == sorted([sample["step"], sample["prompt"], sample["text"]] for sample in written)
    assert "step 1  writes: " in capsys.readouterr().out


def test_tensorboard_has_them_as_text(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(tmp_path, "tracking=tensorboard")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    actual = events.Tensors("samples/1/text_summary")
    assert [event.step for event in actual] == [1, 2]
    texts = [sample["text"] for sample in read_samples(folder / "samples.jsonl") if sample["prompt"]]
    for event, text in zip(actual, texts, strict=True):
        assert f"the{text}" in event.tensor_proto.string_val[0].decode()


def test_a_text_with_line_breaks_of_other_scripts_stays_one_line_when_a_run_goes_on(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x1cf\r\ng"
    actual = LanguageEvaluation(scores={}, other_metrics={}, samples=[Sample("", text)])
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"), is_global_zero=True, global_step=3, loggers=[])
    LogSamples(tmp_path).on_validation_end(trainer, SimpleNamespace(evaluations={"val": {"": actual}}))
    LogSamples(tmp_path).on_train_start(trainer, SimpleNamespace())  # type: ignore[arg-type]  # of a run that goes on
    assert read_samples(tmp_path / "samples.jsonl") == [{"step": 3, "prompt": "", "text": text}]


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text('{"step": 1, "prompt": "", "text": "a"}\n{"step": 2, "pro')
    assert read_samples(file) == [{"step": 1, "prompt": "", "text": "a"}]


def test_what_would_steer_a_terminal_is_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actual = LanguageEvaluation(scores={}, other_metrics={}, samples=[Sample("", "red \x1b[31m\a text" + 300 * "x")])
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"), is_global_zero=True, global_step=3, loggers=[])
    LogSamples(tmp_path).on_validation_end(trainer, SimpleNamespace(evaluations={"val": {"": actual}}))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\a" not in out
    assert len(out) < 220
