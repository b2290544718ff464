"""The first lines of a run: what it is and where it lies, and, once the model and the data are there, how large it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer.reporting.tables import abbreviated, counted


def head_line(config: Mapping[str, Any], folder: Path) -> str:
    """`bert x glue/mrpc from google-bert/bert-base-uncased, in outputs/...`: known before anything is built."""
    choices = config["choices"]
    line = f"{choices['model']} x {choices['task']} from {_weights(config)}, in {folder}"
    if choices.get("debug") == "fast" and config["tracking"]["mode"] == "none":  # which its yaml selects
        return f"{line}\ndebug=fast: no tracker (tracking=auto selects the usual one)"
    return line


def size_line(parameters: int, trained: int, steps: int, max_time: str | None, batch_size: int, unit: str) -> str:
    """`22.7 M parameters, 345 steps of 32 rows`; `steps` is 0 where no number of them ends the training, or nothing is
    trained."""
    if not steps and max_time is None:
        return f"{abbreviated(parameters)} parameters, nothing to train: tested only"
    frozen = "" if trained == parameters else f" ({abbreviated(trained)} trained)"
    length = counted(steps, "step") if steps else "steps"
    limit = "" if max_time is None else f", for {max_time} at most"
    return f"{abbreviated(parameters)} parameters{frozen}, {length} of {batch_size:,} {unit}{limit}"


def _weights(config: Mapping[str, Any]) -> str:
    """The initial weights, as far as the config says."""
    if config["init_from"] != "auto":
        return str(config["init_from"])
    repo = (config["model"].get("hf") or {}).get("repo")
    return str(repo) if repo and config["task"]["starts_from"] == "published" else "scratch"
