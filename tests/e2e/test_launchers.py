"""Ranks that somebody else started: torchrun, and two machines (faked on one) that meet; and stops at awkward moments."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from .commands import ROOT, SMALL, TRAIN, Process, Workspace, curve, error_line, finished, result, wait_for

SHORT = (*SMALL, "recipe.epochs=1", "trainer.limit_train_batches=6", "trainer.log_every=1", "model.dropout=0")
LONG = (*SMALL, "source.rows=960", "recipe.epochs=20", "trainer.log_every=5", "trainer.limit_val_batches=1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def expected(workspace: Workspace) -> Path:
    """What one process gives."""
    alone = workspace.run(*SHORT, "hardware=cpu", outputs="alone")
    assert alone.returncode == 0, alone.stderr
    (run,) = workspace.runs("alone")
    return run


def is_the_run(workspace: Workspace, outputs: str, expected: Path) -> None:
    (run,) = workspace.runs(outputs)
    assert run.name == expected.name
    assert result(run)["hardware"]["ranks"] == 2
    losses = [[line["train/loss"] for line in curve(folder) if "train/loss" in line] for folder in (run, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert not (run / "lock").exists()
    assert workspace.left_behind() == []


@pytest.mark.slow
def test_torchrun_gives_what_one_process_gives(workspace: Workspace, expected: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    torchrun.append(str(ROOT / "train.py"))
    launched = workspace.run(*SHORT, "hardware=cpu", outputs="torchrun", command=torchrun)
    assert launched.returncode == 0, launched.stderr
    again = workspace.run(*SHORT, "hardware=cpu", outputs="torchrun", command=torchrun)
    assert again.returncode == 0, again.stderr
    assert "this run is already finished" in again.stderr
    is_the_run(workspace, "torchrun", expected)


def test_two_machines_give_what_one_process_gives(workspace: Workspace, expected: Path) -> None:
    meet = f"hardware.rendezvous=127.0.0.1:{free_port()}"
    machines = [
        workspace.start(*SHORT, "hardware=cpu", "hardware.devices=1", "hardware.nodes=2", meet, outputs="nodes")
        for _ in "ab"
    ]
    ended = [finished(machine) for machine in machines]
    assert [completed.returncode for completed in ended] == [0, 0], ended
    is_the_run(workspace, "nodes", expected)


def tasks_of_srun(workspace: Workspace, outputs: str, *words: str, job: int | None = None) -> tuple[list[Process], int]:
    """Two tasks of a step on this machine, and the number of their job, from which they derive a port."""
    job = job or next(port for port in iter(free_port, None) if 20000 <= port < 40000)
    environ = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
    environ |= {
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "node[1]",
        "PATH": f"{workspace.folder}:/usr/bin:/bin",
    }
    each = ({**environ, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01")
    return [workspace.start(*words, "hardware=slurm", outputs=outputs, environ=one) for one in each], job


def test_tasks_of_srun_give_what_one_process_gives(workspace: Workspace, expected: Path) -> None:
    tasks, _ = tasks_of_srun(workspace, "srun", *SHORT)
    ended = [finished(task) for task in tasks]
    assert [completed.returncode for completed in ended] == [0, 0], ended
    is_the_run(workspace, "srun", expected)


def test_a_job_whose_time_is_up_saves_and_is_started_again(workspace: Workspace) -> None:
    script = workspace.folder / "scontrol"
    script.write_text('#!/bin/sh\necho "$@" >> calls\n')
    script.chmod(0o755)
    words = (*SHORT, "trainer.limit_train_batches=1.0", "source.rows=320", "recipe.epochs=2")
    tasks, job = tasks_of_srun(workspace, "outputs", *words)
    wait_for(lambda: any((run / "metrics.jsonl").exists() for run in workspace.runs()), tasks[0])
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    ended = [finished(task) for task in tasks]
    assert [completed.returncode for completed in ended] == [143, 143], ended
    assert (workspace.folder / "calls").read_text() == f"requeue {job}\n"
    again, _ = tasks_of_srun(workspace, "outputs", *words, job=job)
    ended = [finished(task) for task in again]
    assert [completed.returncode for completed in ended] == [0, 0], ended
    assert "continuing from step" in ended[0].stderr
    assert (workspace.folder / "calls").read_text().count("\n") == 1


@pytest.mark.slow
def test_a_stop_ends_a_whole_sweep_and_the_same_command_continues_it(workspace: Workspace) -> None:
    overrides = ("-m", *SHORT, "seed=1,2,3", "trainer.limit_train_batches=1.0", "source.rows=960", "recipe.epochs=4")
    process = workspace.start(*overrides)
    wait_for(lambda: any((run / "metrics.jsonl").exists() for run in workspace.runs()), process)
    process.send_signal(signal.SIGTERM)
    completed = finished(process)
    assert completed.returncode == 143, completed.stderr
    assert "stopped with 2 jobs not started" in completed.stderr
    assert len(workspace.runs()) == 1
    again = workspace.run(*overrides)
    assert again.returncode == 0, again.stderr
    assert sorted(result(run)["seed"] for run in workspace.runs()) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["command", "rank"])
def test_a_multirun_of_two_ranks_each_that_is_killed_is_continued_by_the_same_command(
    workspace: Workspace, victim: str
) -> None:
    words = (*SHORT, "trainer.limit_train_batches=1.0", "recipe.epochs=2", "trainer.checkpoint_every=1", "seed=1,2,3")
    whole = workspace.run("-m", *words, outputs="whole")
    assert whole.returncode == 0, whole.stderr
    words = ("-m", *words, "hardware=ddp_cpu")
    process = workspace.start(*words, command=TRAIN)
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").exists() for run in workspace.runs()[1:]), process)
    os.kill(process.pid if victim == "command" else workspace.ranks()[-1], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert workspace.left_behind() == []
    finished_runs = sum((run / "result.json").exists() for run in workspace.runs())
    assert finished_runs == (1 if victim == "command" else 2), out + err  # a lost rank ends its own job alone
    assert process.returncode != 0
    again = workspace.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "continuing from step" in again.stderr
    assert [result(run)["hardware"]["ranks"] for run in workspace.runs()] == [2, 2, 2]
    for run, expected in zip(workspace.runs(), workspace.runs("whole"), strict=True):
        losses = [[line["train/loss"] for line in curve(folder) if "train/loss" in line] for folder in (run, expected)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("hardware", [pytest.param("cpu", marks=pytest.mark.slow), "ddp_cpu"])
def test_ctrl_c_saves_and_has_its_own_exit_code(workspace: Workspace, hardware: str) -> None:
    process = workspace.start(*LONG, f"hardware={hardware}")
    wait_for(lambda: any((run / "metrics.jsonl").exists() for run in workspace.runs()), process)
    process.send_signal(signal.SIGINT)
    completed = finished(process)
    assert completed.returncode == 130, completed.stderr
    assert "the same command continues from there" in error_line(completed)
    assert (workspace.runs()[0] / "checkpoints" / "last.ckpt").exists()
    assert workspace.left_behind() == []


def test_a_stop_while_ranks_start_is_no_failure(workspace: Workspace) -> None:
    process = workspace.start(*LONG, "hardware=ddp_cpu", command=TRAIN)
    wait_for(lambda: len(workspace.processes()) > 1, process)  # the parent has begun to start them
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    completed = finished(process)
    assert completed.returncode == 143, completed.stderr
    assert error_line(completed) == "error: stopped; the same command continues from there"
    assert workspace.left_behind() == []
