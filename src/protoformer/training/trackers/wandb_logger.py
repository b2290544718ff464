"""Weights & Biases: the tracked run of a run folder, online where the server answers, otherwise offline.

Neither a key that is refused nor a server that does not answer fails or delays a training run: it is then tracked offline. All
that W&B writes stands in the run folder; it needs no home directory.
"""

import contextlib
import logging
import netrc
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.runs.tracked import offline_folders, upload_command
from protoformer.training.best_effort import KeepGoing
from protoformer.training.trackers import wandb_environment
from protoformer.training.trackers.wandb_files import rows_of_earlier_parts

log = logging.getLogger(__name__)
SERVER = "https://api.wandb.ai"
PROBE_SECONDS = 5.0  # to wait for any answer of the server
INIT_SECONDS = 15.0  # to wait for a run of the server
FINISH_SECONDS = 120.0  # to wait for the upload of what is left, at the end
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}  # W&B's variables, of folders in the home directory


class RowLogger(WandbLogger):
    """WandbLogger whose rows are numbered as the lines of metrics.jsonl, so that a continued run logs each of them once.

    A run that is killed continues from its last checkpoint, and logs the steps since then again; and W&B loses what it had not
    written yet. Rows that the earlier parts hold, the first `earlier_rows`, are left out; those that they lack are sent again.
    """

    def __init__(self, run: Any, earlier_rows: int) -> None:
        super().__init__(experiment=run)
        self.earlier_rows, self.rows = earlier_rows, 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows += 1
        if not self.is_behind:
            self.experiment.log({**metrics, "trainer/global_step": step}, step=self.rows)

    @property
    def is_behind(self) -> bool:
        """Whether an earlier part of the run holds the last row already."""
        return self.rows <= self.earlier_rows

    def continue_from(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Begin behind these lines of metrics.jsonl."""
        self.rows = 0
        for line in lines:
            self.log_metrics({key: line[key] for key in line if key not in ("step", "time")}, line["step"])

    @rank_zero_only
    def log_media(self, media: Mapping[str, Any], step: int | None = None) -> None:
        """Add tables or images to the last row."""
        at_step = {} if step is None else {"trainer/global_step": step}
        self.experiment.log({**media, **at_step}, step=max(self.rows, self.earlier_rows + self.is_behind))


class GuardedWandbLogger(KeepGoing, RowLogger):
    """RowLogger whose errors end the tracking and not the run."""


def build_wandb_logger(config: Mapping[str, Any], folder: RunFolder) -> RowLogger | None:
    """The logger of a run; None where W&B cannot write even offline.

    `tracking.mode=auto` is online where an API key is set. Raises ConfigurationError for `wandb` without a key.
    """
    mode = config["tracking"]["mode"]
    if mode == "wandb" and not wandb_environment.mode() and not has_api_key():
        raise ConfigurationError(
            "tracking=wandb: no W&B key; `wandb login` sets one, tracking=wandb_offline needs none"
        )
    if mode != "wandb_offline":
        reason = _reason_to_stay_offline()
        if reason is None:
            try:
                return _logger(config, folder, wandb_environment.mode() or "online")
            except Exception as error:  # of any kind, from several libraries: the run goes on without
                reason = f"W&B: {_one_line(error)}"
                _end_service()
        command = upload_command([folder.path])
        log.info("%s: tracking offline in %s (`%s` uploads it later)", reason, folder.path / "wandb", command)
    try:
        return _logger(config, folder, "offline")
    except Exception as error:  # as above
        log.warning("W&B: %s: this run is not tracked; metrics.jsonl has its numbers", _one_line(error))
        return None


def _reason_to_stay_offline() -> str | None:
    if (requested := wandb_environment.mode()) == "disabled":
        return None
    if requested == "offline":
        return "WANDB_MODE=offline"
    if requested != "online" and not has_api_key():
        return "no W&B key is set"
    return None if answers(server()) else f"{server()} does not answer"


def has_api_key() -> bool:
    """Whether W&B has an API key: in the environment, or in a netrc file, where `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    files: list[str | Path | None] = [os.environ.get("NETRC")]
    with contextlib.suppress(RuntimeError):  # no home directory
        files += [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if file and netrc.netrc(str(file)).authenticators(server().split("//")[-1]) is not None:
                return True
    return False


def server() -> str:
    """The address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL") or SERVER


def answers(url: str) -> bool:
    """Whether a server gives any answer within PROBE_SECONDS, through the proxies of the environment."""
    answered = threading.Event()

    def probe() -> None:
        try:
            with urllib.request.urlopen(url, timeout=PROBE_SECONDS):
                answered.set()
        except urllib.error.HTTPError:  # also an answer
            answered.set()
        except (OSError, ValueError):
            return

    thread = threading.Thread(target=probe, daemon=True)  # a name server that is silent has no timeout of ours
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def _logger(config: Mapping[str, Any], folder: RunFolder, mode: str) -> RowLogger:
    choices, tracking = config["choices"], config["tracking"]
    with folders_in(folder.path / "wandb"):
        import wandb  # slow, and only needed with this tracker

        earlier_rows = _earlier_rows(folder)

        # not by WandbLogger: its call uses a deprecated setting and warns about it every time
        tags = [choices["model"], choices["task"], *tracking["tags"]]
        sweep = tracking.get("sweep")
        settings = {
            "project": tracking["project"],
            "entity": tracking["entity"],
            "name": folder.path.name,
            "group": tracking.get("group") or sweep or f"{choices['model']}/{choices['task']}",
            "job_type": tracking.get("job_type") or ("trial" if sweep else "train"),
            "tags": tags,
            **wandb_environment.settings(choices.get("set", ()), tags),
        }
        run = wandb.init(
            **settings,
            id=folder.tracker_id(),
            config={k: v for k, v in config.items() if k not in ("paths", "tracking")}
            | ({"sweep": sweep} if sweep else {}),
            dir=str(folder.path),
            mode=mode,  # type: ignore[arg-type]  # a Literal there; wandb itself refuses other texts
            resume=None if mode == "offline" else "allow",
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if mode != "offline":  # the server knows what it has, and gets the rest now
        earlier_rows = max(0, run.starting_step - 1)
        for part in offline_folders(folder.path):
            for file in part.glob("*.wandb"):
                file.with_suffix(".wandb.synced").touch()
    return GuardedWandbLogger(run, earlier_rows)


def _earlier_rows(folder: RunFolder) -> int:
    try:
        return rows_of_earlier_parts(folder.path / "wandb")
    except Exception as error:  # of any kind: the format is another program's
        log.warning("W&B: %s: steps of the earlier part of this run may be logged twice", _one_line(error))
        return 0


@contextlib.contextmanager
def folders_in(folder: Path) -> Iterator[None]:
    """Let W&B write into `folder` within the block, where the user has set no other place."""
    own = {name: str(folder / sub) for name, sub in FOLDERS.items() if not os.environ.get(name)}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]


def remove_leftovers(folder: Path) -> None:
    """Remove W&B's working folders, and those of tracked runs that were killed before anything was written."""
    for sub in FOLDERS.values():
        shutil.rmtree(folder / sub, ignore_errors=True)
    for run in folder.glob("offline-run-*"):
        if not any(file.stat().st_size for file in run.glob("*.wandb")):
            shutil.rmtree(run, ignore_errors=True)


def _end_service() -> None:
    """End W&B's own process: it holds the id of a run that could not be opened."""
    with contextlib.suppress(Exception):
        import wandb  # slow, and only needed with this tracker

        wandb.teardown()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
