"""What the variables of Weights & Biases say of a tracked run. A key that was typed comes before its variable."""

import os
from collections.abc import Sequence
from typing import Any

KEYS = {  # variable -> argument of wandb.init, and the key of the config that comes before it
    "WANDB_PROJECT": ("project", "tracking.project"),
    "WANDB_ENTITY": ("entity", "tracking.entity"),
    "WANDB_RUN_GROUP": ("group", "tracking.group"),
    "WANDB_JOB_TYPE": ("job_type", "tracking.job_type"),
    "WANDB_NAME": ("name", None),
    "WANDB_NOTES": ("notes", None),
}


def mode() -> str:
    """WANDB_MODE: online, offline, disabled, or empty where it is not set."""
    requested = os.environ.get("WANDB_MODE", "").strip().lower()
    return {"dryrun": "offline", "run": "online"}.get(requested, requested)


def settings(typed_keys: Sequence[str], tags: Sequence[str]) -> dict[str, object]:
    """Arguments of wandb.init that the environment gives and nobody typed; WANDB_TAGS are added to `tags`."""
    given: dict[str, Any] = {
        argument: os.environ[variable]
        for variable, (argument, key) in KEYS.items()
        if os.environ.get(variable) and key not in typed_keys
    }
    more = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag.strip()]
    if more and "tracking.tags" not in typed_keys:
        given["tags"] = list(dict.fromkeys([*tags, *more]))
    return given
