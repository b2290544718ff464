"""An evaluation in the middle of a training that the training does not notice."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Within the block `model` is in evaluation mode; after it, the mode of each of its modules and the states of all random
    numbers are what they were."""
    modes = {module: module.training for module in model.modules()}
    python_state = random.getstate()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        for module, training in modes.items():
            module.training = training
