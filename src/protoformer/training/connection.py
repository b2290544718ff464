"""From built parts to a module that knows its run: its steps, its splits, and what its evaluations need."""

from collections.abc import Mapping
from typing import Any

from protoformer.assembly.build import Parts
from protoformer.assembly.model import STAGES
from protoformer.assembly.steps import evaluation_limits, limits_in_micro_batches, total_steps
from protoformer.distributed.signals import StopRequest
from protoformer.errors import ConfigurationError
from protoformer.optim.clock import TrainingClock
from protoformer.training.device_fit import loss_divisor
from protoformer.training.results.data_map import check_data_map
from protoformer.training.results.record import check_slices


def has_training_split(config: Mapping[str, Any]) -> bool:
    return bool(config["task"]["splits"].get("train"))


def connect(parts: Parts, config: dict[str, Any], stop: StopRequest, clock: TrainingClock | None) -> dict[str, Any]:
    """Connect the module to its run, and return the trainer's limits on batches (`limit_train_batches` and its like)."""
    module, data = parts.module, parts.data
    stops_early = config["recipe"]["early_stopping"]["patience"] is not None and has_training_split(config)
    if stops_early and not data.tables["validation"]:
        raise ConfigurationError(
            "recipe.early_stopping.patience needs rows to validate on, and none are held out (task.data.held_out)"
        )
    check_slices(parts)
    check_data_map(parts)
    micro_batches, accumulation = len(data.train_dataloader()), data.batch_config.accumulation
    limits = limits_in_micro_batches(config["trainer"], micro_batches, accumulation)
    loaders = {"limit_val_batches": data.val_dataloader, "limit_test_batches": data.test_dataloader}
    fractions = {name: load for name, load in loaders.items() if isinstance(limits[name], float)}
    limits |= evaluation_limits(limits, {name: [len(each) for each in load()] for name, load in fractions.items()})
    module.connect(
        total_steps=total_steps(limits, micro_batches, accumulation),
        clock=clock,
        splits={stage: list(data.tables[role]) for stage, role in STAGES.items()},
        references={
            stage: {split: data.references(role, split) for split in data.tables[role]}
            for stage, role in STAGES.items()
        },
        stop=stop,
        loss_divisor=loss_divisor(module, data.batch_config, data.max_len, config["hardware"]["precision"]),
    )
    if has_training_split(config):
        module.prepare_training(data.tables["train"][""])
    return limits
