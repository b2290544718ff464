"""A tracked run that was stopped and continued is one run: each step once, as in metrics.jsonl, logged by rank 0 alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from protoformer.config.compose import compose
from protoformer.reporting.results import tracked_offline
from protoformer.runs.folder import RunFolder
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train
from protoformer.training.trackers import tracking, wandb_files, wandb_logger

from ..forked_ranks import forked_ranks
from .wandb_server import fake_server

WORDS = (
    "model=bert_l2_h128",
    "model.d_model=16",
    "model.d_ff=32",
    "task=glue/mrpc",
    "task.max_len=24",
    "source=sample",
    "source.rows=60",
    "init_from=scratch",
    "tracking=wandb_offline",
    "tracking.tags=[tried]",
    "recipe.batch_size=8",
    "recipe.epochs=1",
    "trainer.log_every=1",
    "trainer.checkpoint_every=3",
    "hardware.threads=1",
)
WANDB = Path(sys.executable).with_name("wandb")


def config(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}", *overrides])


def only_run(tmp_path: Path) -> Path:
    return next((tmp_path / "out").rglob("config.yaml")).parent


def parts(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/offline-run-*/*.wandb"))


def read(file: Path) -> list[dict[str, Any]]:
    """The records of a file, by W&B's own reader."""
    completed = subprocess.run(
        [WANDB, "leet", "inspect", "--json", str(file)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "incomplete" not in completed.stderr
    return [json.loads(line) for line in completed.stdout.splitlines() if line.startswith("{")]


def history(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in found if record["type"] == "history"]


def expected(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl as rows of W&B."""
    lines = read_metrics(run / "metrics.jsonl")
    return [
        {
            **{k: v for k, v in line.items() if k not in ("step", "time")},
            "trainer/global_step": line["step"],
            "_step": i,
        }
        for i, line in enumerate(lines, start=1)
    ]


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without W&B's clock, tables (`name.path` and so on), and what a repeated step took."""
    left_out = (
        "_runtime",
        "_timestamp",
        "train/examples_per_s",
        "train/tokens_per_s",
        "train/flops_per_s",
        "train/mfu",
        "train/data_wait",
    )
    return [
        {k: v for k, v in row.items() if k not in left_out and "." not in k and not isinstance(v, dict)} for row in rows
    ]


def fails_at(step: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Train until an error after this step; what W&B was sent is written."""

    def fail(self: StepLogger, trainer: pl.Trainer, *rest: Any) -> None:
        if trainer.global_step == step:
            raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", fail)
        with pytest.raises(ZeroDivisionError):
            train(config(tmp_path), "")
    time.sleep(1)  # W&B names folders by the second
    return only_run(tmp_path)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "lost", ["its end", pytest.param("nothing", marks=SLOW), pytest.param("everything", marks=SLOW)]
)
def test_two_offline_folders_merge_to_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """The first part ends two steps behind its last checkpoint, and a kill loses of it what W&B had not written."""
    run = fails_at(5, monkeypatch, tmp_path)
    (first,) = parts(run)
    assert [row["_step"] for row in history(read(first))] == [1, 2, 3, 4, 5]
    if lost == "its end":
        ends = [end for _, end in wandb_files.records(first.open("rb"))]
        os.truncate(first, ends[-15] + 20)
    elif lost == "everything":
        os.truncate(first, wandb_files.FILE_HEADER)
    train(config(tmp_path), "")

    files = parts(run)
    assert len(files) == (1 if lost == "everything" else 2)
    if lost != "everything":
        assert files[0] == first
    found = [read(file) for file in files]
    if lost == "its end":
        assert 0 < len(history(found[0])) < 3
    rows = [row for part in found for row in history(part)]
    assert [row["_step"] for row in rows] == list(range(1, len(rows) + 1))
    assert numbers(rows) == [pytest.approx(line) for line in numbers(expected(run))]
    steps = [row["trainer/global_step"] for row in rows if "train/loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    told = [next(record["run"] for record in part if record["type"] == "run") for part in found]
    for each in told:
        assert each["run_id"] == (run / "tracker_id").read_text().strip()
        assert each["run_group"] == "bert_l2_h128/glue/mrpc"
        assert each["job_type"] == "train"
        assert set(each["tags"]) == {"bert_l2_h128", "glue/mrpc", "tried"}
        assert each["config"]["update"]["recipe"]["batch_size"] == 8
    table = json.loads((files[-1].parent / "files" / rows[-1]["mistakes.path"]).read_text())
    assert table["columns"] == ["text", "gold", "predicted", "probability"]


def test_the_listed_command_uploads_one_run(tmp_path: Path) -> None:
    """By W&B's own `wandb sync`, to a server that answers as the real one."""
    folder = RunFolder(tmp_path, "run")
    words = {
        "tracking": {"mode": "wandb_offline", "project": "p", "entity": None, "tags": [], "sweep": "search"},
        "choices": {"model": "bert", "task": "glue/rte"},
    }
    lines = [{"step": 10 * i, "epoch": 0, "train/loss": 1 / i} for i in range(1, 8)]
    for kept, logged in ((0, 5), (3, 7)):  # the first part ends two rows behind its checkpoint
        with tracking.tracked_run(words, folder, resumed_step=kept) as run:
            assert isinstance(run.logger, wandb_logger.RowLogger)
            run.logger.continue_from(lines[:kept])
            for line in lines[kept:logged]:
                run.logger.log_metrics({key: line[key] for key in line if key != "step"}, int(line["step"]))
            run.summary = {"val/score": 0.5}
        time.sleep(1)
    listed = tracked_offline(tmp_path)
    assert listed["tracked offline"] == ", ".join(f"wandb/{file.parent.name}" for file in parts(tmp_path))
    assert listed["upload"] == f"WANDB_RESUME=allow wandb sync {tmp_path}/wandb"
    with fake_server() as server:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        environ |= {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": "0" * 40, "WANDB_DIR": str(tmp_path)}
        command = listed["upload"].replace("wandb sync", f"{WANDB} sync", 1)
        uploaded = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60)
    assert uploaded.returncode == 0, uploaded.stderr
    name = folder.tracker_id()
    assert list(server.history) == [name]
    rows = [json.loads(row) for row in server.history[name]]
    assert [(row["_step"], row["trainer/global_step"], row["train/loss"]) for row in rows] == [
        (i, 10 * i, pytest.approx(1 / i)) for i in range(1, 8)
    ]
    assert (server.runs[name]["groupName"], server.runs[name]["jobType"]) == ("search", "trial")
    assert server.summaries[name]["best/val/score"] == 0.5
    assert tracked_offline(tmp_path) == {}  # W&B has marked them


def test_of_two_ranks_the_first_alone_logs(tmp_path: Path) -> None:
    with forked_ranks():
        train(config(tmp_path, "hardware=ddp_cpu", "trainer.limit_train_batches=3"), "")
    run = only_run(tmp_path)
    (file,) = parts(run)
    assert numbers(history(read(file))) == [pytest.approx(line) for line in numbers(expected(run))]


class ServedRun:
    """A run that a server has rows of."""

    def __init__(self, starting_step: int) -> None:
        self.starting_step = starting_step
        self.logged: list[tuple[Any, Any]] = []

    def log(self, row: Any, step: int | None = None) -> None:
        self.logged.append((row["trainer/global_step"], step))


def test_rows_that_an_earlier_part_has_are_left_out_and_those_that_it_lacks_are_sent() -> None:
    lines = [{"step": 10 * i, "epoch": 0, "time": 1.0, "train/loss": 1.0} for i in (1, 2, 3)]
    ahead, behind = ServedRun(5), ServedRun(3)
    for run in (ahead, behind):
        logger = wandb_logger.GuardedWandbLogger(run, run.starting_step - 1)
        logger.continue_from(lines)
        for step in (40, 50):
            logger.log_metrics({"train/loss": 1.0}, step)
            logger.log_media({"samples": ()}, step)
    assert [pair for pair in ahead.logged if pair[1] <= 5] == [(40, 5), (50, 5), (50, 5)]
    assert behind.logged == [(30, 3), (40, 4), (40, 4), (50, 5), (50, 5)]
