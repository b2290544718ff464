"""Runs without what costs half of a tiny one and what hardly a test reads: pictures of the card, and a measured peak speed.

Hydra composes a run's config twice, the first time for `hydra.mode` alone, which no config here sets. A run freezes no object
and unfreezes none: every collection would walk through all modules and tests. What is left out stays in runs of fresh
interpreters (`e2e.commands.TRAIN`), and where a test asks for `whole_runs`.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra._internal.hydra import Hydra

from protoformer.distributed import devices, memory
from protoformer.reporting import calibration, card
from protoformer.training.callbacks import garbage

CPU_FLOPS_PER_S = 1e11
SKETCH = '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
peak_flops = devices.peak_flops


def _sketch(path: Path, *_: object) -> Path:
    path.write_text(SKETCH)
    return path


def _sketch_curves(metrics_file: Path, *_: object) -> Path:
    return _sketch(metrics_file.with_name("curves.svg"))


def _peak_flops(hardware: Mapping[str, Any], accelerator: str) -> float | None:
    if accelerator != "cpu":
        return peak_flops(hardware, accelerator)
    torch.randn(1024, 512), torch.randn(512, 512)  # what the measurement multiplies: later draws are as in whole runs
    return CPU_FLOPS_PER_S


def _collect() -> None:
    gc.collect()


def _no_mode(*_: object, **__: object) -> None:
    return None


LIGHT: tuple[tuple[Any, str, Any], ...] = (
    (card, "curves", SimpleNamespace(draw=_sketch_curves)),
    (calibration, "reliability", SimpleNamespace(draw=_sketch)),
    (devices, "peak_flops", _peak_flops),
    (Hydra, "get_mode", _no_mode),
    (memory, "release", _collect),
    (garbage, "AFTER_BATCHES", sys.maxsize),
)
WHOLE = [(owner, name, getattr(owner, name)) for owner, name, _ in LIGHT]


def lighten() -> None:
    """From now on, in this process and those that it forks."""
    for part in LIGHT:
        setattr(*part)


@contextlib.contextmanager
def whole_runs() -> Iterator[None]:
    """Nothing is left out within the block, of runs in this process; modules that took `peak_flops` by name keep it."""
    for part in WHOLE:
        setattr(*part)
    yield
    lighten()


if __name__ == "light_runs":  # the server of `preloaded` was told to import it
    lighten()
