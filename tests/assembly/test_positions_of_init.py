"""Texts as long as the model's positions: those of the initial weights, where the model's yaml has others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protoformer.assembly.build import build
from protoformer.commands import train
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.planning.plan import plan
from protoformer.runs.identity import run_id

LOCAL = ["source=sample", "source.rows=30", "hardware=cpu", "hardware.threads=1", "tracking=none"]
Pretrain = Callable[..., Path]


@pytest.fixture
def pretrain(tmp_path: Path) -> Pretrain:
    """A run of one step; its folder."""

    def run(*words: str) -> Path:
        places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
        steps = ["recipe.max_steps=1", "recipe.warmup=0", "recipe.batch_size=2", "trainer.limit_val_batches=1"]
        assert train.main(["model=gpt2_tiny", "task=pretrain/clm", *LOCAL, *steps, *places, *words]) == 0
        (made,) = (tmp_path / "outputs").rglob("result.json")
        return made.parent

    return run


def command(run: Path, *words: str) -> list[str]:
    return ["model=gpt2_tiny", f"init_from={run}", *LOCAL, f"paths.cache={run.parents[4] / 'cache'}", *words]


@pytest.mark.parametrize("positions", [32, 600])  # the yaml of gpt2_tiny: 512
def test_a_test_reads_as_much_as_the_run_has_positions(pretrain: Pretrain, positions: int) -> None:
    run = pretrain(f"model.max_seq_len={positions}", "model.n_layers=1")
    config = compose(command(run, "task=incontext/copa"))
    parts = build(config)
    assert parts.data.max_len == positions
    assert parts.module.backbone.max_seq_len == positions
    assert parts.model.in_config(config)["task"]["max_len"] == positions  # as config.yaml has it
    typed = compose(command(run, "task=incontext/copa", "task.max_len=30"))
    assert build(typed).data.max_len == 30
    continued = plan(compose(command(run, "task=pretrain/clm")))
    assert continued.tokens_per_row == positions
    with pytest.raises(ConfigurationError, match=f"has max_seq_len={positions}; leave one of them out"):
        build(compose(command(run, "task=incontext/copa", "model.max_seq_len=512")))


def test_a_task_with_a_length_of_its_own_keeps_it(pretrain: Pretrain) -> None:
    run = pretrain("model.max_seq_len=600", "model.n_layers=1")
    assert build(compose(command(run, "task=glue/rte"))).data.max_len == 128


def test_what_follows_the_model_does_not_name_a_run() -> None:
    follows = compose(["model=gpt2_tiny", "task=incontext/copa", "init_from=some/hub"])
    assert follows["choices"]["follows"] == ["task.max_len"]
    assert run_id(follows) == run_id(
        compose(["model=gpt2_tiny", "task=incontext/copa", "init_from=some/hub", "task.max_len=512"])
    )


def test_a_longer_test_than_training_is_said(pretrain: Pretrain, capsys: pytest.CaptureFixture[str]) -> None:
    run = pretrain("task.max_len=32")
    build(compose(command(run, "task=incontext/copa")))
    advice = "trained on texts of at most 32 tokens, and is tested on up to 512: add task.max_len=32"
    assert advice in capsys.readouterr().err
    build(compose(command(run, "task=incontext/copa", "task.max_len=32")))
    assert "trained on texts" not in capsys.readouterr().err
