"""W&B can neither fail nor delay a run: without an answer it is offline, and when it raises the tracking ends."""

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.training.best_effort import KeepGoing
from protoformer.training.trackers import tracking, wandb_logger

CONFIG = {
    "tracking": {"mode": "auto", "project": "p", "entity": None, "tags": []},
    "choices": {"model": "bert", "task": "glue/rte"},
}


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, logger = Lines(), logging.getLogger("protoformer")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.messages
    logger.removeHandler(handler)
    logger.setLevel(level)


class FakeRun:
    """A tracked run whose server goes away."""

    def __init__(self) -> None:
        self.logged: list[Any] = []
        self.summary: dict[str, Any] = {}
        self.starting_step = 0

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log(self, metrics: Any, step: int) -> None:
        if self.logged:
            raise ConnectionError("the server\nwent away")
        self.logged.append(metrics)

    def finish(self, exit_code: int) -> None:
        raise TimeoutError("no upload")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    return RunFolder(tmp_path, "x")


def test_a_silent_server_means_offline_within_seconds(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    modes: list[str] = []

    def init(**settings: Any) -> FakeRun:
        modes.append(settings["mode"])
        return FakeRun()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_logger, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun_at = time.monotonic()
        assert wandb_logger.build_wandb_logger(CONFIG, folder) is not None
        assert time.monotonic() - begun_at < 5
    assert modes == ["offline"]
    assert len(lines) == 1
    assert "does not answer: tracking offline in" in lines[0]
    assert "wandb sync" in lines[0]


def test_errors_of_init_end_offline_and_those_of_offline_without(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    working: list[str] = ["offline"]

    def init(**settings: Any) -> FakeRun:
        if settings["mode"] not in working:
            raise PermissionError(f"{settings['mode']}\nno")
        return FakeRun()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    monkeypatch.setattr(wandb_logger, "answers", lambda url: True)
    assert wandb_logger.build_wandb_logger(CONFIG, folder) is not None
    assert "W&B: PermissionError: online no: tracking offline in" in lines[0]
    working.clear()
    assert wandb_logger.build_wandb_logger(CONFIG, folder) is None
    assert "offline no: this run is not tracked" in lines[-1]


def test_a_run_outlives_its_tracker(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(wandb, "init", lambda **settings: FakeRun())
    monkeypatch.setattr(wandb_logger, "answers", lambda url: False)
    orphan = folder.path / "wandb" / "offline-run-1-x"
    orphan.mkdir(parents=True)  # of a run that was killed before it wrote anything
    with tracking.tracked_run(CONFIG, folder, resumed_step=0) as run:
        assert not orphan.exists()
        assert isinstance(run.logger, KeepGoing)
        for step in (1, 2, 3):
            run.logger.log_metrics({"train/loss": 1.0}, step=step)
        run.misclassified = [["a", "b", "c", 0.5]]
        tracking.log_samples([run.logger], 3, [("a", "b")])
    told = [line for line in lines if "the tracker gave up" in line]
    assert told == ["the tracker gave up (ConnectionError: the server went away); metrics.jsonl has all numbers"]
    assert any("the end of the tracked run: skipped (TimeoutError" in line for line in lines)


def test_a_typed_tracker_without_a_key_is_refused_at_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_logger, "has_api_key", lambda: False)
    config = {**CONFIG, "tracking": {**CONFIG["tracking"], "mode": "wandb"}}
    with pytest.raises(ConfigurationError, match="wandb login"):
        wandb_logger.build_wandb_logger(config, folder)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("bert/glue/rte", "train", None)),
        ({"sweep": "search"}, ("search", "trial", "search")),
        ({"sweep": "search", "group": "mine", "job_type": "baseline"}, ("mine", "baseline", "search")),
    ],
)
def test_a_run_of_a_sweep_carries_group_job_type_and_name(
    keys: dict[str, str],
    expected: tuple[str, str, str | None],
    folder: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    given: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **settings: given.update(settings) or FakeRun())
    config = {**CONFIG, "tracking": {**CONFIG["tracking"], **keys}}
    assert wandb_logger.build_wandb_logger(config, folder) is not None
    assert (given["group"], given["job_type"], given["config"].get("sweep")) == expected
