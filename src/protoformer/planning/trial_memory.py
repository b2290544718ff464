"""Memory of trials in a pool: configs as JSON on standard input, cards and bytes of each trial as JSON on standard output.

host   each process: its imports, and on the CPU what `plan` gives for a device; the parent of several ranks: its imports
card   what `plan` gives for a device, with a single row at once where `hardware.micro_batch` is chosen for the card
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch

from protoformer.assembly.model import build_module, builder_arguments
from protoformer.distributed.children import end_with_named_parent
from protoformer.distributed.world import device_count
from protoformer.errors import UserError
from protoformer.modules.task_module import TaskModule
from protoformer.planning.plan import plan, with_assumed_labels

IMPORTS = (
    512 * 2**20
)  # bytes of a process that has imported torch and Lightning and built nothing, as measured on Linux


def main() -> None:
    configs = json.load(sys.stdin)
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    trials = [trial_memory(config, has_gpus=bool(cards)) for config in configs]
    print(json.dumps({"gpus": [(card.name, card.total_memory) for card in cards], "trials": trials}))


def trial_memory(config: Mapping[str, Any], has_gpus: bool) -> tuple[int, int] | None:
    """Bytes of the host and of a card; None for what cannot be built."""
    config, hardware = with_assumed_labels(config), config["hardware"]
    on_gpu = hardware["accelerator"] == "gpu" or (hardware["accelerator"] == "auto" and has_gpus)
    if on_gpu and hardware["micro_batch"] is None:
        config = {**config, "hardware": {**hardware, "micro_batch": 1}}
    try:
        weights, device = _device_bytes(config)
    except (UserError, ValueError):
        return None
    ranks = device_count(hardware)
    host = ranks * (IMPORTS + (weights if on_gpu else device)) + (IMPORTS if ranks > 1 else 0)
    return host, device if on_gpu else 0


def _device_bytes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of the weights, and of all that a device holds."""
    with torch.device("meta"):
        hardware = {**config["hardware"], "packing": "off"}
        module = build_module({**config, "hardware": hardware}, builder_arguments(config["model"]))
    weights = sum(each.numel() * each.element_size() for each in module.parameters())
    trains = config["task"]["splits"].get("train") and type(module).loss is not TaskModule.loss
    return weights, plan(config).memory.total if trains else weights


if __name__ == "__main__":
    end_with_named_parent()
    main()
