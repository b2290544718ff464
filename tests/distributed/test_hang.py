"""A rank that hangs ends the job after `hardware.timeout`, with a line that says which rank it is and where the others wait."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from torch import distributed

from protoformer.config.compose import compose
from protoformer.distributed import collectives, signals
from protoformer.distributed.checks import hang
from protoformer.distributed.launcher import launch
from protoformer.errors import HungRankError
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from ..forked_ranks import forked_ranks
from .test_launcher import hardware


def gather(config: dict[str, Any], folder: str, late: str) -> list[int]:
    """Rank 1 does not enter a collective."""
    collectives.init_process_group(config["hardware"])
    Path(folder, f"pid-{os.getpid()}").touch()
    with signals.listen() as stop:
        hang.HangWatch(stop, Path(folder), config["hardware"]["timeout"])
        collectives.minimum_of_ranks(3)
        if os.environ["RANK"] == "1":
            if late == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            load_a_batch()
        return [collectives.minimum_of_ranks(int(os.environ["RANK"]))]


def load_a_batch() -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("late", "state"),
    [
        ("asleep", r"before training, its stack is in .*/stacks/rank-1.txt"),
        ("stopped", r"before training, its process is stopped \(SIGSTOP, or a debugger\)"),
    ],
)
def test_a_rank_that_does_not_arrive_ends_the_job(tmp_path: Path, late: str, state: str) -> None:
    line = (
        rf"^rank 1 did not arrive \({state}\)\. The others have waited for 1 s \(hardware\.timeout\) before training, in "
        r"all_gather \(distributed/collectives\.py, line \d+\)\. The same command continues the run"
    )
    begun_at = time.monotonic()
    with forked_ranks(), pytest.raises(HungRankError, match=line):
        launch(gather, {"hardware": hardware(devices=2, timeout=1)}, str(tmp_path), late)
    assert time.monotonic() - begun_at < 60
    if late == "asleep":
        assert "load_a_batch" in (tmp_path / "stacks" / "rank-1.txt").read_text()
    pids = [int(file.name.removeprefix("pid-")) for file in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def wait_for_the_first(config: dict[str, Any], folder: str) -> int:
    """Rank 0 works for longer than a collective may last, the other waits without one."""
    collectives.init_process_group(config["hardware"])
    with signals.listen() as stop:
        watch = hang.HangWatch(stop, Path(folder), config["hardware"]["timeout"])
        collectives.minimum_of_ranks(3)
        collectives.rank0_first(lambda: time.sleep(2.5) if os.environ["RANK"] == "0" else None)
        least = collectives.minimum_of_ranks(4)
        watch.close()
        return least


def test_ranks_that_wait_without_a_collective_are_not_hung(tmp_path: Path) -> None:
    with forked_ranks():
        assert launch(wait_for_the_first, {"hardware": hardware(devices=2, timeout=1)}, str(tmp_path)) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_training_run_says_at_which_step_it_hangs(tmp_path: Path) -> None:
    def sleep(self: StepLogger, trainer: Any, *rest: Any) -> None:
        if distributed.get_rank() == 1 and trainer.global_step == 2:
            load_a_batch()

    words = [
        "model=bert_l2_h128",
        "model.d_model=16",
        "model.d_ff=32",
        "task=glue/mrpc",
        "source=sample",
        "source.rows=60",
    ]
    words += ["init_from=scratch", "tracking=none", "hardware=ddp_cpu", "hardware.timeout=2", "hardware.threads=1"]
    paths = [f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}", "recipe.batch_size=8"]
    line = (
        r"rank 1 did not arrive \(in the training at step 2, its stack is in (.*)\)\. The others have waited for 2 s "
        r"\(hardware\.timeout\) in the training at step 2, in backward \("
    )
    patched = mock.patch.object(StepLogger, "on_train_batch_start", sleep, create=True)
    with patched, forked_ranks(), pytest.raises(HungRankError, match=line) as raised:
        train(compose([*words, *paths]), "")
    assert raised.value.exit_code == 1
    stack = Path(re.search(line, str(raised.value))[1])  # type: ignore[index]
    assert "load_a_batch" in stack.read_text()
    assert stack.is_relative_to(tmp_path / "out")
