"""A SLURM job: tasks that do not fit, the first host of its list, and the request to start it again."""

import signal
from pathlib import Path
from typing import Any

import pytest

from protoformer.distributed import signals, slurm
from protoformer.distributed.slurm import first_host
from protoformer.distributed.world import World, world
from protoformer.errors import ConfigurationError, InterruptedRunError

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}


def hardware(**changed: Any) -> dict[str, Any]:
    """hardware=slurm"""
    return {
        "accelerator": "auto", "devices": "all", "nodes": 1, "rendezvous": None, "grace": 5, "requeue": True, **changed,
    }  # fmt: skip


def step(tasks: int, nodes: int, **changed: str) -> dict[str, str]:
    return STEP | {"SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(nodes)} | changed


def test_tasks_of_a_step_are_its_ranks() -> None:
    assert world(hardware(), step(4, 2, SLURM_GPUS_ON_NODE="2")) == World("rank", 2, 2)
    assert world(hardware(accelerator="cpu"), step(4, 2, SLURM_GPUS_ON_NODE="0")) == World("rank", 2, 2)


@pytest.mark.parametrize(
    ("environ", "changed", "message"),
    [
        ({}, {}, r"hardware=slurm .*SLURM_JOB_ID is not set; submit a script that calls srun .*or choose hardware=ddp here"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, {}, r"SLURM_NTASKS=8, .*write `srun python"),
        (step(3, 2), {}, r"srun started 3 tasks on 2 nodes; as many on each are needed \(#SBATCH --ntasks-per-node\)"),
        (step(4, 2, SLURM_GPUS_ON_NODE="8"), {}, r"2 tasks on each node, where the job has 8 GPUs .*--ntasks-per-node=8"),
        (step(4, 2), {"devices": 8}, r"hardware\.devices=8, but the launcher .* started 2 processes on each machine"),
        (step(4, 2), {"devices": 2, "nodes": 4}, r"hardware\.nodes=4, but the launcher .* started 2 machines"),
        (step(2, 2), {"devices": 2, "nodes": 4}, r"hardware\.nodes=4, but the launcher .* started 2 machines"),
    ],
)  # fmt: skip
def test_jobs_that_do_not_fit_are_refused(environ: dict[str, str], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        world(hardware(**changed), environ)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[03-04]", "gpu03"),
        ("gpu-node-[01-04]", "gpu-node-01"),
        ("dgx-a100-3,dgx-a100-4", "dgx-a100-3"),
        ("rack1-gpu7", "rack1-gpu7"),
        ("a[7,9],b1", "a7"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_first_host_of_slurms_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for SLURM's command: writes its arguments to the file that is given."""
    calls = tmp_path / "calls"
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n[ "$2" != 13 ] || {{ echo no such job >&2; exit 1; }}\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return calls


def stopped_by(number: int, **changed: Any) -> None:
    """A run that a signal stops."""

    def run() -> None:
        with slurm.requeued(hardware(**changed)), signals.listen() as stop:  # in this order by a launcher of Hydra
            stop.receive(number)
            stop.check()

    with pytest.raises(InterruptedRunError):
        run()


def test_usr1_alone_starts_the_job_again(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # scancel, or a person
        stopped_by(number)
    stopped_by(signal.SIGUSR1, requeue=False)
    with signals.listen(), slurm.requeued(hardware()):
        pass  # a run that ends by itself
    assert not scontrol.exists()
    stopped_by(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "40")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    stopped_by(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_PROCID", "1")  # the first task alone
    stopped_by(signal.SIGUSR1)
    assert scontrol.read_text() == "requeue 7\nrequeue 40_3\n"


def test_a_job_that_cannot_be_requeued_says_so(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    stopped_by(signal.SIGUSR1)
    assert "scontrol requeue 13 failed (no such job): submit the job again, it continues" in caplog.text
    (scontrol.parent / "scontrol").unlink()
    stopped_by(signal.SIGUSR1)
    assert "No such file or directory" in caplog.text
