"""Under pytest every annotated forward of blocks, models and scoring is checked against its shapes."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
for name in ("COLUMNS", "LINES"):  # readline, which pytest imports, sets them: tables would have another width
    os.environ.pop(name, None)

from jaxtyping import install_import_hook

install_import_hook(["protoformer.blocks", "protoformer.models", "protoformer.scoring"], "beartype.beartype")

import gc
from collections.abc import Iterator

import pytest
import torch

from . import light_runs
from .run_folders import write_run as write_run

light_runs.lighten()


def pytest_configure(config: pytest.Config) -> None:
    """All tests but those of a GPU run on the CPU, also where there is a GPU: golden numbers are the CPU's, and a forked rank
    or trial cannot use CUDA."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: they are the longest files, and no worker is to end alone with one."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: those of a compressed file hold the time, and two workers would collect different tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    gc.collect()


@pytest.fixture
def whole_runs() -> Iterator[None]:
    """Runs in this process leave nothing out (see `light_runs`)."""
    with light_runs.whole_runs():
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def frozen() -> None:
    """Modules and tests stay to the end: without them the collector is quick. Whole runs unfreeze them."""
    if not gc.get_freeze_count():
        gc.freeze()


torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it gives, most of all on a busy machine
