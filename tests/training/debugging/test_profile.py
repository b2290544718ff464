"""A profile of training steps: its table, its trace, and that nothing of the training changes."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.runs.identity import run_id
from protoformer.runs.metrics import read_metrics
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=64", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=4", "recipe.epochs=3", "task.max_len=24", "hardware=cpu"),
    *("hardware.threads=1", "trainer.log_every=1"),
]  # fmt: skip

SHORT = ("trainer.profile=2", "trainer.max_steps=8", "hardware.micro_batch=2")


def config(folder: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={folder}/out", f"paths.cache={folder}/cache", *overrides])


def losses(folder: Path) -> list[float]:
    (file,) = folder.rglob("metrics.jsonl")
    return [line["train/loss"] for line in read_metrics(file) if "train/loss" in line]


@pytest.mark.parametrize("hardware", ["cpu", pytest.param("ddp_cpu", marks=pytest.mark.slow)])
def test_the_table_and_the_trace_are_written_and_the_losses_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], hardware: str
) -> None:
    with forked_ranks():
        train(config(tmp_path, "debug=profile", f"hardware={hardware}", *SHORT), "")
    (file,) = (tmp_path / "out").rglob("profile.txt")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("2 steps of ")
    for name in ("data wait", "forward", "backward", "optimizer and the rest", "aten::", "backbone.stack.layers.1"):
        assert name in text, name
    assert max(map(len, text.splitlines())) <= 100
    assert text.strip() in capfd.readouterr().out
    with gzip.open(file.parent / "trace.json.gz", "rt", encoding="utf-8") as trace:
        names = {event.get("name", "") for event in json.load(trace)["traceEvents"]}
    assert any(name.startswith("aten::") for name in names)
    assert "module backbone.stack.layers.1.feed_forward" in names
    if hardware == "cpu":
        (tmp_path / "plain").mkdir()
        plain = [*SHORT[1:], "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
        train(config(tmp_path / "plain", *plain), "")
        assert losses(tmp_path / "plain") == losses(tmp_path / "out")


def test_a_run_of_too_few_steps_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config(tmp_path, "debug=profile", "trainer.max_steps=3"), "")
    assert "debug=profile: nothing was measured; more than 5 steps are needed" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("profile.txt"))


def test_profiling_is_no_part_of_a_runs_name(tmp_path: Path) -> None:
    assert run_id(config(tmp_path, "trainer.profile=3")) == run_id(config(tmp_path))
