"""Folders that W&B wrote offline, one for each part of a run that was stopped and continued, and their upload."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def offline_folders(run: Path) -> list[Path]:
    """Those of a run folder that `wandb sync` has not uploaded yet, in the order in which they were written."""
    folders = sorted((run / "wandb").glob("offline-run-*"))
    return [folder for folder in folders if any(folder.glob("*.wandb")) and not any(folder.glob("*.wandb.synced"))]


def upload_command(runs: Sequence[Path]) -> str:
    """The command that uploads the offline folders of run folders; the parts of one run become one, in their order.

    Without WANDB_RESUME each part would replace the one before it.
    """
    return " ".join(["WANDB_RESUME=allow wandb sync", *(shlex.quote(str(run / "wandb")) for run in runs)])
