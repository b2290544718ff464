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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.training.best_effort import KeepGoing
from protoformer.training.trackers import wandb_environment

log = logging.getLogger(__name__)
SERVER = "https://api.wandb.ai"
PROBE_SECONDS = 5.0  # to wait for any answer of the server
INIT_SECONDS = 15.0  # to wait for a run of the server
FINISH_SECONDS = 120.0  # to wait for the upload of what is left, at the end
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}  # W&B's variables, of folders in the home directory


class GuardedWandbLogger(KeepGoing, WandbLogger):
    """WandbLogger whose errors end the tracking and not the run."""


def build_wandb_logger(config: Mapping[str, Any], folder: RunFolder) -> WandbLogger | None:
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
        own_folder = folder.path / "wandb"
        log.info("%s: tracking offline in %s (%s)", reason, own_folder, _how_to_upload(own_folder))
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


def _logger(config: Mapping[str, Any], folder: RunFolder, mode: str) -> WandbLogger:
    choices, tracking = config["choices"], config["tracking"]
    with folders_in(folder.path / "wandb"):
        import wandb  # slow, and only needed with this tracker

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
    return GuardedWandbLogger(experiment=run)


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


def _how_to_upload(folder: Path) -> str:
    parts = 1 + len(list(folder.glob("offline-run-*")))
    several = f" as one run, in {parts} parts so far" if parts > 1 else " later"
    return f"`wandb sync {folder}/offline-run-*` uploads it{several}"


def _end_service() -> None:
    """End W&B's own process: it holds the id of a run that could not be opened."""
    with contextlib.suppress(Exception):
        import wandb  # slow, and only needed with this tracker

        wandb.teardown()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
