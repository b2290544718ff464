"""The run folder: all files of a run, at a path that the same command finds again."""

import contextlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from protoformer.atomic import write_text
from protoformer.errors import RunFolderError
from protoformer.runs import reader
from protoformer.runs.identity import run_id

RunState = Literal["new", "unfinished", "finished"]


@dataclass(frozen=True)
class RunFolder:
    """`outputs/<model>/<task>/<run_id>`; a second attempt stands beside it as `<run_id>-a2`."""

    path: Path
    run_id: str
    attempt: int = 1

    @classmethod
    def locate(cls, config: Mapping[str, Any], force: bool = False) -> "RunFolder":
        """The latest attempt of this config; with `force` a fresh one beside what is there, which the same command then
        continues until it is finished."""
        choices = config["choices"]
        name = run_id(config)
        parent = Path(config["paths"]["outputs"]) / choices["model"] / choices["task"]
        attempts = [1] if (parent / name).exists() else []
        attempts += [
            int(m[1]) for p in parent.glob(f"{name}-a*") if (m := re.fullmatch(rf"{re.escape(name)}-a(\d+)", p.name))
        ]
        attempt = max(attempts, default=1)
        latest = cls(parent / _attempt(name, attempt), name, attempt)
        if not force or latest.state == "new" or (latest.state == "unfinished" and latest.read_config().get("force")):
            return latest
        return cls(parent / _attempt(name, attempt + 1), name, attempt + 1)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run folder. Raises RunFolderError where there is none; never makes one."""
        if not path.is_dir():
            raise RunFolderError(f"{path}: no such run folder{runs_beside(path.parent)}")
        if not (path / "config.yaml").exists():
            raise RunFolderError(f"{path}: no config.yaml, so this is not a run folder{runs_beside(path)}")
        # behind the hash, which may itself look like the number of an attempt
        match = re.fullmatch(r"(.*-[0-9a-f]{8})-a(\d+)", path.name)
        return cls(path, match[1], int(match[2])) if match else cls(path, path.name)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def earlier(self) -> Path:
        """The checkpoints before `last.ckpt`, while the run is not finished."""
        return self.checkpoints / "earlier"

    @property
    def earlier_checkpoints(self) -> list[Path]:
        """Those that there are, the newest first."""
        return sorted(self.earlier.glob("*.ckpt"), key=lambda path: int(path.stem))

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def averaged_checkpoint(self) -> Path:
        return self.checkpoints / "averaged.ckpt"

    @property
    def chosen_checkpoint(self) -> Path:
        """The weights that a run is known by: the mean of its last ones where it asks for that, else those of its best dev
        score, or its last where it has no dev split.

        Raises RunFolderError when there are none to choose from yet.
        """
        if self.averaged_checkpoint.exists():
            return self.averaged_checkpoint
        if self.best_checkpoint.exists():
            return self.best_checkpoint
        splits = self.read_config()["task"]["splits"] if self.config_file.exists() else {}
        if not splits.get("train"):
            raise RunFolderError(f"{self.path} is a test-only run and has no weights")
        if self.last_checkpoint.exists() and self.state == "finished":
            return self.last_checkpoint
        if self.state == "finished":
            raise RunFolderError(
                f"{self.path}: the run is finished, but its weights are not here: checkpoints/ was removed or not copied"
            )
        raise RunFolderError(f"{self.path}: no checkpoints/best.ckpt; the run has not been evaluated yet")

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def evaluation(self) -> Path:
        """Of a run that only evaluates, while it runs: what is evaluated already."""
        return self.path / "evaluation"

    @property
    def example_scores(self) -> Path:
        return self.path / "example_scores"

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def micro_batch_file(self) -> Path:
        """Of a run whose memory ran out: the automatic micro-batch that it was halved to."""
        return self.path / "micro_batch.json"

    @property
    def log_file(self) -> Path:
        return self.path / "protoformer.log"

    @property
    def state(self) -> RunState:
        """A result that cannot be read is none: the run goes on from its last checkpoint."""
        if not self.config_file.exists():
            return "new"
        try:
            return "finished" if self.read_result()["finished"] else "unfinished"
        except (RunFolderError, KeyError):
            return "unfinished"

    @property
    def has_started(self) -> bool:
        """Whether a step was trained, or anything evaluated: there is a checkpoint, a logged metric, a result, or an evaluated
        batch."""
        logged = self.metrics_file.exists() and self.metrics_file.stat().st_size > 0
        return logged or self.result_file.exists() or any(self.checkpoints.rglob("*.ckpt")) or self.evaluation.exists()

    def remove_if_not_started(self) -> bool:
        """Empty a folder in which nothing was trained or evaluated; the lock stays for its owner. Returns whether it did."""
        if self.has_started:
            return False
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "lock":
                path.unlink(missing_ok=True)
        return True

    def write_config(self, config: Mapping[str, object]) -> None:
        write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        return reader.read_config(self.path)

    def read_whole_config(self) -> dict[str, Any]:
        """As `read_config`. Raises RunFolderError where a node that every run has is missing: the file was cut short."""
        config = self.read_config()
        missing = [name for name in ("model", "task", "choices") if not isinstance(config.get(name), dict)]
        if missing:
            raise RunFolderError(f"{self.config_file} is not the whole config of a run: it lacks {', '.join(missing)}")
        return config

    def write_result(self, result: Mapping[str, object]) -> None:
        write_text(self.result_file, json.dumps(_finite(result), indent=2, ensure_ascii=False) + "\n")

    def read_result(self) -> dict[str, Any]:
        """Raises RunFolderError where there is none, or none that can be read."""
        result = reader.read_result(self.path)
        if result is None:
            raise RunFolderError(f"{self.result_file}: the run is not finished")
        return result

    def tracker_id(self) -> str:
        """run_id, attempt and four random characters, drawn once and kept; under a W&B agent the agent's own id, kept."""
        file = self.path / "tracker_id"
        if file.exists():
            return file.read_text(encoding="utf-8").strip()
        agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        name = agent or f"{self.run_id}-a{self.attempt}-{secrets.token_hex(2)}"
        write_text(file, name + "\n")
        return name


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder that is empty, and those above it that are empty then, below `top`."""
    with contextlib.suppress(OSError):  # not empty, or gone
        while folder != top and folder.is_relative_to(top):
            folder.rmdir()
            folder = folder.parent


def _finite(value: object) -> Any:
    """nan and infinity as null: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _attempt(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-a{number}"


def runs_beside(folder: Path) -> str:
    """`; runs in FOLDER: NAME, NAME and 3 more`, the newest first; "" where it has none."""
    files = sorted(folder.glob("*/config.yaml"), key=lambda file: -file.stat().st_mtime)
    if not files:
        return ""
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return f"; runs in {folder}: {', '.join(file.parent.name for file in files[:2])}{more}"
