"""`train.py -m ... hardware.pool=...`, `protoformer sweep --workers`: what is refused before a trial starts; the table."""

import json
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.commands import train
from protoformer.commands.sweeps.checks import CheckedSweep
from protoformer.commands.sweeps.pooled import pool_hardware, print_jobs, run_pool
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.pool import survey
from protoformer.pool.jobs import PooledJob
from protoformer.pool.words import words_of_trial

DEMO = ("experiment=demo", "paths.outputs=outputs")
GIB = 2**30


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of two cores and 5 GiB, on which a trial takes 3 GiB."""
    monkeypatch.setattr(survey, "cores", lambda: (0, 1))
    monkeypatch.setattr(survey, "available_memory", lambda: 5 * GIB)

    def estimates(configs: str) -> str:
        return json.dumps({"gpus": [], "trials": [[3 * GIB, 0] for _ in json.loads(configs)]})

    monkeypatch.setattr(survey, "estimates_of", estimates)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hardware.pool=all", "hardware=cpu"), "this is a single run; add -m and several values (seed=1,2,3)"),
        (("-m", "seed=1,2", "hardware=cpu", "hardware.pool=[]"), "hardware.pool=[] is empty; name devices"),
        (("-m", "seed=1,2", "hardware=cpu", "hardware.pool=3"), "hardware.pool=3: there are 2 cores for this process; at most"),
        (("-m", "seed=1,2", "hardware=cpu", "hardware.pool=2"), "2 trials side by side take 6.0 GiB of memory (3.0 GiB each"),
        (("-m", "seed=1,2", "hardware=gpu", "hardware.pool=2"), "no GPU was found here"),
        (("-m", "seed=1,2", "hardware=cpu", "hardware.pool=some"), "hardware.pool=some is not one of its values"),
        (("-m", "seed=1,2", "hardware=cpu", "hardware.pool=1", "hardware.devices=2"), "takes 2 slots of the pool, which has 1"),
        (("-m", "seed=1", "hardware=cpu", "hardware.pool=1,all"), "hardware.pool is 1 and all in jobs of one pool"),
    ],
)  # fmt: skip
def test_pools_that_cannot_run_are_refused_before_they_start(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*DEMO, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "3"), "workers=3: there are 2 cores for this process; at most workers=2"),
        (("--workers", "2"), "workers=2: 2 trials side by side take 6.0 GiB"),
        (
            ("--workers", "2", "hardware.pool=2"),
            "hardware.pool=2 and workers=2: both say how many trials run side by side",
        ),
    ],
)
def test_workers_of_a_sweep_are_a_pool(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text("space: {seed: {values: [1, 2, 3]}}")
    assert cli.main(["sweep", "s.yaml", *DEMO, "hardware=cpu", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_a_pool_is_not_started_by_several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match=r"hardware\.pool=all starts its own processes"):
        pool_hardware([compose([*DEMO, "hardware.pool=all"])])


def test_a_pool_and_a_launcher_of_hydra_exclude_each_other() -> None:
    plugins = {"sweeper": "basic", "launcher": "submitit_slurm"}
    sweep = CheckedSweep([["seed=1"]], [compose([*DEMO, "hardware.pool=all"])], [], plugins)
    with pytest.raises(
        ConfigurationError, match=r"hydra/launcher=submitit_slurm and hardware\.pool=all: a pool runs the jobs"
    ):
        run_pool(sweep)


def test_a_trial_is_no_pool_itself() -> None:
    typed, stated = (compose([*DEMO, f"hardware.pool={value}"]) for value in ("null", "all"))
    assert words_of_trial(["seed=1", "hardware.pool=all"], stated) == ["seed=1"]
    assert words_of_trial(["seed=1"], stated) == ["seed=1", "hardware.pool=null"]  # an experiment's own yaml states it
    assert words_of_trial(["seed=1"], typed) == ["seed=1"]


def test_the_table_has_device_status_score_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"score": 0.5, "metrics": {}, "task_type": {}}
    done = PooledJob(1, "seed=1", [], Path(), 1.0, 1, "finished", "GPU 0", 61.0, result)
    lost = PooledJob(2, "seed=2", [], Path(), 1.0, 1, "failed", "GPU 1", 2.0, None, "ended by SIGKILL", 1)
    print_jobs([done, lost, PooledJob(3, "seed=3", [], Path(), 1.0, 1)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["trial", "overrides", "device", "status", "dev", "score", "time", "error"],
        ["1", "seed=1", "GPU", "0", "finished", "50.00", "1", "min", "1", "s"],
        ["2", "seed=2", "GPU", "1", "failed", "2.0", "s", "ended", "by", "SIGKILL"],
        ["3", "seed=3", "not", "started"],
    ]
