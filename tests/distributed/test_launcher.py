"""Who starts whom, in every environment that people launch from; and what comes back from ranks."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from protoformer.distributed import collectives, signals
from protoformer.distributed.launcher import launch
from protoformer.distributed.world import World, rendezvous, set_torch_environment, world
from protoformer.errors import ConfigurationError, DataError, InterruptedRunError, LostRankError

from ..e2e.commands import default_signals
from ..forked_ranks import forked_ranks


@pytest.fixture
def ready() -> Iterator[None]:
    """Ranks that begin at once."""
    with forked_ranks():
        yield


def hardware(**changed: Any) -> dict[str, Any]:
    return {"accelerator": "cpu", "devices": 1, "nodes": 1, "rendezvous": None, "grace": 5, **changed}


SBATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "1",
}
ENVIRONMENTS: dict[str, tuple[dict[str, str], dict[str, Any], World]] = {
    "a shell, one device": ({}, {}, World("alone")),
    "a shell, two devices": ({}, {"devices": 2}, World("parent", 2)),
    "torchrun": (
        {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
        {"devices": 2, "nodes": 2, "rendezvous": "a:1"},
        World("rank", 2, 2),
    ),
    "torchrun on two machines, of which the config says nothing": (
        {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
        {},
        World("rank", 2, 2),
    ),
    "torchrun of one process": (
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"},
        {"devices": 2},
        World("parent", 2),
    ),
    "sbatch": (SBATCH, {"devices": 4}, World("parent", 4)),
    "srun --pty": (SBATCH | {"SLURM_STEP_NUM_NODES": "1", "SLURM_PTY_PORT": "1"}, {"devices": 4}, World("parent", 4)),
    "srun, a task a device": (
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"},
        {"devices": 4, "nodes": 2},
        World("rank", 4, 2),
    ),
    "srun, a task a node": (
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"},
        {"devices": 4, "nodes": 2, "rendezvous": "a:1"},
        World("parent", 4, 2),
    ),
    "srun, a task a node, of which the config says nothing": (
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
        | {"SLURM_STEP_NODELIST": "gpu[03-04]"},
        {"devices": 4},
        World("parent", 4, 2),
    ),
    "srun, two tasks on one machine": (
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"},
        {"devices": 2},
        World("rank", 2, 1),
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_part_that_a_process_takes(name: str) -> None:
    environ, changed, expected = ENVIRONMENTS[name]
    assert world(hardware(**changed), environ) == expected


def test_more_nodes_need_a_place_to_meet() -> None:
    with pytest.raises(ConfigurationError, match=r"hardware\.rendezvous=HOST:PORT"):
        world(hardware(devices=2, nodes=2), {})


def test_machines_of_an_srun_step_meet_at_the_first() -> None:
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "gpu[03-04]"}
    assert rendezvous(hardware(), step) == "gpu03:20007"
    assert rendezvous(hardware(rendezvous="a:1"), step) == "a:1"
    assert rendezvous(hardware(), {}) is None


def test_a_second_task_that_srun_did_not_start_says_what_to_change() -> None:
    with pytest.raises(ConfigurationError, match=r"this is task 1 of a SLURM job.*#SBATCH --ntasks-per-node=1"):
        world(hardware(devices=2), {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"})
    with pytest.raises(ConfigurationError, match=r"hardware\.devices=4, but the launcher .* started 2 processes"):
        world(hardware(devices=4), ENVIRONMENTS["srun, two tasks on one machine"][0])


def test_counts_of_ranks_that_a_launcher_did_not_start_are_refused() -> None:
    torchrun = ENVIRONMENTS["torchrun"][0]
    assert world(hardware(), torchrun) == World("rank", 2, 2)  # 1, the default, asks for none
    with pytest.raises(ConfigurationError, match=r"hardware\.devices=4, but the launcher .* started 2 processes"):
        world(hardware(devices=4), torchrun)
    with pytest.raises(ConfigurationError, match=r"hardware\.nodes=3, but the launcher .* started 2 machines"):
        world(hardware(devices=2, nodes=3, rendezvous="a:1"), torchrun)


def test_an_srun_step_is_told_in_torchs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    step = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "8"}
    for name, value in (step | {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[03-04]"}).items():
        monkeypatch.setenv(name, value)
    before = set(os.environ)
    try:
        set_torch_environment(World("rank", 4, 2))
        told = {
            name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
        }
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
    assert told == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "gpu03",
    }


def give_back(config: dict[str, Any], place: str) -> dict[str, Any]:
    Path(place, f"rank-{os.environ.get('RANK', 'none')}").touch()
    return {"rank": os.environ.get("RANK"), "world": os.environ.get("WORLD_SIZE")}


def work_until_stopped() -> NoReturn:
    """As a run does: with safe places."""
    while True:
        signals.check()
        time.sleep(0.01)


def complain(config: dict[str, Any], place: str) -> None:
    if os.environ["RANK"] == "1":
        raise DataError(f"{place}: row 3 is empty")
    time.sleep(60)  # without a safe place


def break_down(config: dict[str, Any], place: str) -> None:
    """Rank 1 has a bug, rank 0 is then told to stop and says so."""
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("a bug")
    work_until_stopped()


def be_killed(config: dict[str, Any], place: str) -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    work_until_stopped()


def test_one_process_runs_in_place(tmp_path: Path) -> None:
    assert launch(give_back, {"hardware": hardware()}, str(tmp_path)) == {"rank": None, "world": None}


def test_two_ranks_and_what_rank_0_returns(tmp_path: Path) -> None:
    assert launch(give_back, {"hardware": hardware(devices=2)}, str(tmp_path)) == {"rank": "0", "world": "2"}
    assert {path.name for path in tmp_path.iterdir()} == {"rank-0", "rank-1"}


@pytest.mark.usefixtures("ready")
def test_an_error_of_one_rank_ends_the_others_and_is_raised_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(signals, "PATIENCE", 0.5)  # which forked ranks inherit
    with pytest.raises(DataError, match="rows: row 3 is empty"):
        launch(complain, {"hardware": hardware(devices=2)}, "rows")
    with pytest.raises(RuntimeError, match=r"(?s)rank 1 failed.*break_down.*ZeroDivisionError: a bug"):
        launch(break_down, {"hardware": hardware(devices=2)}, "")
    begun_at = time.monotonic()
    with pytest.raises(LostRankError, match=r"rank 1 was ended by SIGKILL; too little memory is the usual cause"):
        launch(be_killed, {"hardware": hardware(devices=2)}, "")
    assert time.monotonic() - begun_at < 60
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def die_while_writing(config: dict[str, Any], ending: str) -> str:
    """Rank 1 is killed while it writes its result or its error, for torch or for the parent, or when it was asked to stop."""
    if os.environ["RANK"] == "0":
        return "a result" if ending == "result" else work_until_stopped()
    number = signal.SIGTERM if ending == "stopped" else signal.SIGKILL

    def die(*given: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    pickle.dump = os.replace = die
    if ending == "error":
        raise DataError("row 3 is empty")
    if ending == "stopped":
        os.kill(os.getppid(), signal.SIGTERM)
        work_until_stopped()
    return "a result"


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("ending", ["result", "error", "stopped"])
def test_a_rank_that_dies_while_it_writes_was_stopped_or_lost(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.5)
    expected = InterruptedRunError if ending == "stopped" else LostRankError
    begun_at = time.monotonic()
    message = "the same command continues" if ending == "stopped" else "rank 1 was ended by SIGKILL"
    with pytest.raises(expected, match=message):
        launch(die_while_writing, {"hardware": hardware(devices=2)}, ending)
    assert (
        time.monotonic() - begun_at < 20
    )  # a rank that has returned does not wait for the lost one until torch kills it


def end_by_term(config: dict[str, Any], place: str) -> None:
    """As a rank ends that is only starting, when the whole process group is sent TERM."""
    os.kill(os.getppid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("ready")
def test_ranks_that_a_stop_ends_before_they_listen_were_stopped_not_lost() -> None:
    with pytest.raises(InterruptedRunError, match="stopped; the same command continues from there"):
        launch(end_by_term, {"hardware": hardware(devices=2)}, "")


def tokenise_for_long(config: dict[str, Any], folder: str) -> list[str]:
    """Rank 0 works for longer than a collective may last."""
    collectives.init_process_group(config["hardware"])

    def work() -> None:
        if os.environ["LOCAL_RANK"] == "0":
            time.sleep(1.5)
        with Path(folder, "order").open("a") as file:
            file.write(os.environ["RANK"])

    collectives.rank0_first(work)
    collectives.rank0_first(lambda: None)  # the barrier can be used again
    return [Path(folder, "order").read_text()[0]]


def test_ranks_that_start_slowly_end_with_a_stopped_parent(tmp_path: Path) -> None:
    """No rank has begun when the parent's patience ends: it says that it was stopped, and leaves no process, no traceback and
    no folder."""
    program = """
import os, signal, threading, time
from pathlib import Path
from protoformer.distributed import signals
signals.PATIENCE = 0.2
if __name__ == "__mp_main__":  # in a rank
    Path("starting").touch()
    time.sleep(60)

def stop():
    while not Path("starting").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    from protoformer.distributed.launcher import launch
    threading.Thread(target=stop).start()
    launch(print, {"hardware": {"accelerator": "cpu", "devices": 2, "nodes": 1, "rendezvous": None, "grace": 30}})
"""
    (tmp_path / "run.py").write_text(program)
    (tmp_path / "tmp").mkdir()
    process = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, timeout=60, preexec_fn=default_signals,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, cwd=tmp_path,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (143, "error: stopped; the same command continues from there\n")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.usefixtures("ready")
def test_ranks_wait_for_the_first_one_longer_than_a_collective_may_last(tmp_path: Path) -> None:
    assert launch(tokenise_for_long, {"hardware": hardware(devices=2, timeout=1)}, str(tmp_path)) == ["0"]
    assert sorted((tmp_path / "order").read_text()) == ["0", "1"]
