"""Workers of a sweep around trials that only write a run's files: failed, stopped, killed, retried, pruned, shared."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protoformer.distributed.signals import StopRequest
from protoformer.errors import ConfigurationError, InterruptedRunError
from protoformer.pool import process
from protoformer.pool.slots import Slot, Slots
from protoformer.reporting.sweep.rows import configurations, importances, read_results
from protoformer.runs.lock import is_in_use
from protoformer.sweeps.journal import Journal
from protoformer.sweeps.space import parse_space
from protoformer.sweeps.specification import Sweep, with_trials
from protoformer.sweeps.worker import Located, Worker

FAKE = Path(__file__).with_name("fake_trial.py")


class FakeWorker(Worker):
    """Of trials whose folders are named as fake_trial.py names them."""

    def located(self, words: Sequence[str]) -> Located:
        values = dict(word.split("=", 1) for word in words)
        name = "-".join(f"{key}-{value}" for key, value in sorted(values.items()) if "." not in key)
        return Located(Path(values["paths.outputs"]) / "runs" / name, list(words), 5.0, int(values.get("slots", 1)))


@pytest.fixture(autouse=True)
def fake_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command", lambda: [sys.executable, str(FAKE)])


def sweep_of(outputs: Path, space: dict[str, Any], trials: int | None = None, **fields: Any) -> Sweep:
    method = "grid" if trials is None else "random"
    sweep = Sweep("s.yaml", "s", {"paths.outputs": str(outputs)}, parse_space(space, "s.yaml"), method, **fields)
    return with_trials(sweep, trials)


def run(sweep: Sweep, stop: StopRequest | None = None) -> list[str]:
    """One command: what it said."""
    lines: list[str] = []
    journal = Journal(Path(sweep.overrides["paths.outputs"]) / "sweep", sweep)
    journal.prepare()
    slots = Slots([Slot(f"slot {number}") for number in range(sweep.workers)])
    FakeWorker(journal, lines.append, slots, poll=0.01).run(stop or StopRequest())
    return lines


def rows(outputs: Path) -> list[Any]:
    return read_results(outputs / "sweep").rows


def starts(outputs: Path) -> list[int]:
    """Process ids of all trials that ever began."""
    return [int(pid) for file in outputs.glob("runs/*/starts") for pid in file.read_text().split()]


def until(met: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "not met in time"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_grid_runs_every_point_once_and_the_same_command_has_nothing_left(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1, 0.3]}, "seed": {"values": [1, 2]}})
    said = run(sweep)
    assert [tuple(row.params.values()) for row in rows(tmp_path)] == [
        ("0.1", "1"),
        ("0.1", "2"),
        ("0.3", "1"),
        ("0.3", "2"),
    ]
    assert [row.state for row in rows(tmp_path)] == ["finished"] * 4
    assert [row.score for row in rows(tmp_path)] == [0.1, 0.1, 0.3, 0.3]
    assert any("trial 2: lr=0.3 seed=1: val/score 0.3000" in line for line in said)
    assert "tracking.sweep=s" in (tmp_path / "sweep" / "trials" / "0000" / "output.log").read_text()
    assert run(sweep) == []
    assert len(starts(tmp_path)) == 4
    best, spread = read_results(tmp_path / "sweep").best, configurations(read_results(tmp_path / "sweep"))
    assert best is not None
    assert best.number == 2
    assert [(each.params, each.mean, each.deviation) for each in spread] == [
        ({"lr": "0.3"}, 0.3, 0.0),
        ({"lr": "0.1"}, 0.1, 0.0),
    ]


def test_a_failed_trial_is_a_row_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    sweep = sweep_of(
        tmp_path, {"fails": {"values": ["nan", "killed", "text", "absent", "none"]}, "lr": {"values": [0.5]}}, retries=1
    )
    run(sweep)
    errors = {row.params["fails"]: (row.state, row.error) for row in rows(tmp_path)}
    assert errors == {
        "nan": ("failed", "the loss is not finite at step 3"),
        "killed": ("failed", "ended by SIGKILL; too little memory is the usual cause"),
        "text": ("failed", "exit code 1: RuntimeError: no kernel image"),
        "absent": ("failed", "no val/score among its metrics: none"),
        "none": ("finished", ""),
    }
    run(sweep)  # each failed one once more, and no third time
    run(sweep)
    assert len(starts(tmp_path)) == 5 + 4
    assert [row.attempt for row in rows(tmp_path)] == [1, 2, 2, 2, 2]


def test_a_later_command_retries_what_failed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1, 0.2]}, "fails": {"values": ["once"]}})
    run(sweep)
    assert [row.state for row in rows(tmp_path)] == ["failed"] * 2
    run(sweep)
    assert [(row.state, row.attempt, row.score) for row in rows(tmp_path)] == [
        ("finished", 2, 0.1),
        ("finished", 2, 0.2),
    ]


def test_trials_drawn_do_not_depend_on_who_draws_them_and_their_number_can_be_raised(tmp_path: Path) -> None:
    space = {"lr": {"uniform": [0, 1]}}
    for outputs, workers in ((tmp_path / "a", 1), (tmp_path / "b", 3)):
        run(sweep_of(outputs, space, 5, workers=workers))
    run(sweep_of(tmp_path / "b", space, 7))
    one, three = ([row.score for row in rows(tmp_path / name)] for name in "ab")
    assert len(set(one)) == 5
    assert three[:5] == one
    assert len(set(three)) == 7
    assert importances(read_results(tmp_path / "b" / "sweep"), ["lr"]) == {"lr": 1.0}


def test_a_signal_stops_all_trials_and_the_same_command_continues_them(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1, 0.2, 0.3]}, "wait": {"values": [1]}}, workers=2)
    stop = StopRequest()

    def interrupt() -> None:
        until(lambda: len(list(tmp_path.glob("runs/*/metrics.jsonl"))) == 2)
        stop.receive(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(InterruptedRunError, match="2 trials unfinished and 1 not started; the same command") as raised:
        run(sweep, stop)
    thread.join()
    assert raised.value.exit_code == 130
    assert [row.state for row in rows(tmp_path)] == ["stopped", "stopped", "queued"]
    assert all(map(has_ended, starts(tmp_path)))
    (tmp_path / "go").touch()
    said = run(sweep)
    assert sum("(continued)" in line for line in said) == 2
    assert [(row.number, row.state) for row in rows(tmp_path)] == [(0, "finished"), (1, "finished"), (2, "finished")]
    assert len(starts(tmp_path)) == 5


def test_a_killed_worker_leaves_no_process_and_the_next_takes_its_trial_over(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1, 0.2]}, "wait": {"values": [1]}})
    worker = multiprocessing.get_context("fork").Process(target=run, args=(sweep,))
    worker.start()
    until(lambda: bool(starts(tmp_path)))
    until(lambda: is_in_use(tmp_path / "sweep" / "trials" / "0000"))
    (pid,) = starts(tmp_path)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    until(lambda: has_ended(pid))
    assert [row.state for row in rows(tmp_path)] == ["stopped", "queued"]
    (tmp_path / "go").touch()
    assert "trial 0: lr=0.1 wait=1 (continued)" in run(sweep)
    assert [(row.number, row.state) for row in rows(tmp_path)] == [(0, "finished"), (1, "finished")]


def test_two_workers_share_a_journal_and_do_no_trial_twice(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [i / 10 for i in range(8)]}, "slow": {"values": [0.03]}})
    other = multiprocessing.get_context("fork").Process(target=run, args=(sweep,))
    other.start()
    said = run(sweep)
    other.join()
    assert other.exitcode == 0
    assert [row.state for row in rows(tmp_path)] == ["finished"] * 8
    assert len(starts(tmp_path)) == 8
    ours = sum(": val/score" in line for line in said)
    assert 0 < ours < 8


def test_the_pruner_ends_a_trial_that_falls_behind(tmp_path: Path) -> None:
    options = {"n_startup_trials": 1, "n_warmup_steps": 0}
    space = {"lr": {"values": [0.9, 0.1, 0.95]}, "wait": {"values": [1]}}
    sweep = sweep_of(tmp_path, space, pruner="median", pruner_options=options)
    (tmp_path / "go").touch()

    def hold() -> None:  # the first has finished: the second waits for the pruner's decision
        until(lambda: len(starts(tmp_path)) >= 1 and any(tmp_path.glob("runs/lr-0.9*/result.json")))
        (tmp_path / "go").unlink()
        until(lambda: any(row.state == "pruned" for row in rows(tmp_path)))
        (tmp_path / "go").touch()

    thread = threading.Thread(target=hold)
    thread.start()
    said = run(sweep)
    thread.join()
    assert [row.state for row in rows(tmp_path)] == ["finished", "pruned", "finished"]
    assert any("trial 1: lr=0.1 wait=1: pruned after" in line for line in said)
    assert rows(tmp_path)[1].score == 0.1
    run(sweep)  # a pruned trial is done
    assert len(starts(tmp_path)) == 3


def test_trials_of_two_devices_and_of_the_same_run_wait_for_each_other(tmp_path: Path) -> None:
    space = {"lr": {"values": [0.1, 0.2]}, "slots": {"values": [2]}}
    said = run(sweep_of(tmp_path / "two", space, workers=3))
    assert ["val/score" in line for line in said] == [False, True, False, True]
    space = {
        "lr": {"values": [0.1]},
        "hardware.threads": {"values": [1, 2]},
    }  # fake_trial.py's folders have no such key
    said = run(sweep_of(tmp_path / "same", space, workers=2))
    assert ["val/score" in line for line in said] == [False, True, False, True]
    assert [row.state for row in rows(tmp_path / "same")] == ["finished"] * 2


def test_a_journal_of_another_sweep_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1]}})
    run(sweep)
    other = sweep_of(tmp_path, {"lr": {"values": [0.1, 0.2]}})
    with pytest.raises(ConfigurationError, match=r'holds another sweep: space: lr is .*"0\.1".* there and .*"0\.2"'):
        run(other)
    with pytest.raises(ConfigurationError, match=r"objective is \"val/score\" there and \"val/loss\""):
        run(replace(sweep, objective="val/loss"))
    assert run(replace(sweep, workers=2, retries=7)) == []


def test_a_broken_line_of_the_journal_is_named_and_an_unfinished_one_removed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, {"lr": {"values": [0.1]}})
    run(sweep)
    file = tmp_path / "sweep" / "journal.log"
    whole = file.read_text()
    file.write_text(whole + '{"op_code":6,"work')
    assert [row.state for row in rows(tmp_path)] == ["finished"]
    assert file.read_text() == whole
    lines = whole.splitlines(keepends=True)
    file.write_text("".join([*lines[:2], '{"op_code":\n', *lines[2:]]))
    with pytest.raises(ConfigurationError, match=r"journal\.log, line 3: not an operation .*restore the file"):
        run(sweep)
    file.write_text(json.dumps({"op_code": 4}) + "\n")
    with pytest.raises(ConfigurationError, match="is not the journal of one sweep"):
        run(sweep)
