"""A model of the same shape as another one with new random weights: what heads find without any training."""

from pathlib import Path
from typing import Any

import torch

from protoformer import hub
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.inference.opening.backbone import read_published
from protoformer.runs.reader import read_config


def random_model(source: str, seed: int) -> Any:
    """The backbone of a run, or of a folder of weights, initialised anew as its family is."""
    folder = Path(source).expanduser()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if (folder / "config.yaml").is_file():
            config = read_config(folder)
            return build_module(config, builder_arguments(config["model"])).backbone.eval()
        published = read_published(hub.resolve_folder(source))
        return published.family.builder(**published.sizes).eval()
