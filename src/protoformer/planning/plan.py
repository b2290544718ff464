"""`protoformer plan`: what a run would cost, before any weight is made; data is read for a task of prompts alone.

The model is built on the meta device and taken through one forward and backward pass there, so BERT-large takes no memory.
Rows are taken to be as long as `task.max_len`; shorter ones cost less, since padding is not computed (packing).
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.model import build_module, builder_arguments, initial_sizes, with_sizes
from protoformer.assembly.steps import limits_in_micro_batches, total_steps
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.selection import SplitSelection
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.cost import Cost, cost
from protoformer.modules.task_module import TaskModule
from protoformer.optim.schedules import warmup_steps
from protoformer.planning.evaluation import forward_flops, prompt_tokens
from protoformer.planning.memory import (
    DeviceMemory,
    device_memory,
    optimizer_copies,
    optimizer_temporaries,
    sent_bytes,
    units_of,
)
from protoformer.planning.speed import MEASURED, Speed, flops_text
from protoformer.planning.step_memory import StepMemory
from protoformer.reporting.tables import counted
from protoformer.runs.own_files import AUTO
from protoformer.sample import size as sample_size

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """Counts of a whole run, and the memory of one device."""

    parameters: int
    forward_flops_per_token: float
    training_flops_per_token: float
    memory: DeviceMemory
    sent_bytes: int  # by a device in an optimizer step
    checkpoint_bytes: int  # weights and optimizer states, of all devices together
    rows_per_step: int  # of all devices
    rows: int  # held at once by a device
    accumulation: int  # micro-batches of a device in a step
    tokens_per_row: int
    devices: int
    examples: int | None
    steps: int | None
    warmup_steps: int | None
    training_flops: float | None


@dataclass(frozen=True)
class BatchRows:
    """Rows of the batch of an optimizer step, and of the micro-batch that a device holds at once."""

    per_step: int
    per_device: int
    accumulation: int  # micro-batches of a device in a step


def print_plan(config: Mapping[str, Any], speed: Speed = MEASURED) -> None:
    """Print the plan of a composed run, with its time at a speed."""
    config = _with_initial_sizes(with_assumed_labels(config))
    module = _module(config, builder_arguments(config["model"]))
    lines = (
        _lines(plan(config), config, speed)
        if type(module).loss is not TaskModule.loss
        else _evaluation_lines(module, config)
    )
    width = max(map(len, lines))
    print(f"{config['choices']['model']} x {config['choices']['task']} on hardware={config['choices']['hardware']}")
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")


def plan(config: Mapping[str, Any]) -> Plan:
    """Cost of a composed run."""
    config = _with_initial_sizes(with_assumed_labels(config))
    task, recipe, hardware = config["task"], config["recipe"], config["hardware"]
    arguments = builder_arguments(config["model"])
    tokens = min(task["max_len"], arguments.get("max_seq_len") or task["max_len"])
    devices = _devices(hardware) * hardware["nodes"]
    rows = _batch_rows(config, tokens, devices)
    one_row, activations = _costs(config, arguments, rows, tokens)
    examples = _examples(config)
    steps = _steps(config, examples, rows)
    units = units_of(_module(config, arguments)) if hardware["fully_shard"] and devices > 1 else None
    copies = optimizer_copies(recipe.get("optimizer", "adamw"), recipe.get("momentum", 0.0)) + bool(recipe.get("ema"))
    sizes, precision = (one_row.parameter_bytes, one_row.trained_bytes), hardware["precision"]
    return Plan(
        parameters=one_row.parameters,
        forward_flops_per_token=one_row.forward_flops / tokens,
        training_flops_per_token=one_row.training_flops / tokens,
        memory=device_memory(
            one_row.parameter_bytes,
            activations,
            precision,
            trained_bytes=one_row.trained_bytes,
            buffer_bytes=one_row.buffer_bytes,
            copies=copies,
            temporary=optimizer_temporaries(recipe) * one_row.trained_bytes,
            devices=devices,
            units=units,
        ),
        sent_bytes=sent_bytes(*sizes, precision, devices=devices, accumulation=rows.accumulation, units=units),
        checkpoint_bytes=one_row.parameter_bytes + copies * one_row.trained_bytes,
        rows_per_step=rows.per_step,
        rows=rows.per_device,
        accumulation=rows.accumulation,
        tokens_per_row=tokens,
        devices=devices,
        examples=examples,
        steps=steps,
        warmup_steps=None if steps is None else warmup_steps(recipe["warmup"], steps),
        training_flops=None if steps is None else float(one_row.training_flops) * rows.per_step * steps,
    )


def _batch_rows(config: Mapping[str, Any], tokens: int, devices: int) -> BatchRows:
    """Rows of `tokens` tokens in a step and on a device; batches that count tokens hold as many as fit."""
    recipe = config["recipe"]
    batch_size = recipe["batch_size"]
    accumulation = BatchConfig(batch_size, config["hardware"]["micro_batch"], ranks=devices).accumulation
    per_device = math.ceil(math.ceil(batch_size / devices) / accumulation)
    if recipe["batching"] == "tokens":
        return BatchRows(max(1, batch_size // tokens), max(1, per_device // tokens), accumulation)
    return BatchRows(batch_size, per_device, accumulation)


def _costs(config: Mapping[str, Any], arguments: dict[str, Any], rows: BatchRows, tokens: int) -> tuple[Cost, int]:
    """The cost of a step on one row of `tokens` tokens, and the bytes that a micro-batch holds."""
    module: Any = _module(config, arguments).train()
    with torch.device("meta"):
        one_row = cost(module, lambda: module.loss(module.dummy_batch(1, tokens)).total)
    memory = StepMemory(module, config["hardware"], tokens, accumulates=rows.accumulation > 1)
    return one_row, memory.of(rows.per_device)


def _module(config: Mapping[str, Any], arguments: dict[str, Any]) -> TaskModule:
    """The task's module on the meta device, where weights take no memory."""
    with torch.device("meta"):
        return build_module({**config, "hardware": {**config["hardware"], "packing": "off"}}, arguments)


def _steps(config: Mapping[str, Any], examples: int | None, rows: BatchRows) -> int | None:
    """Optimizer steps of the run; None where nothing is trained, or the task states no number of examples."""
    recipe, trainer = config["recipe"], config["trainer"]
    if examples is None and recipe["epochs"] is None and recipe["max_steps"] > 0:  # pretraining counts steps
        return total_steps(trainer, 0, rows.accumulation)
    if examples is None or not config["task"]["splits"].get("train"):
        return None
    micro_batches = math.ceil(examples / rows.per_step) * rows.accumulation
    limits = limits_in_micro_batches(trainer, micro_batches, rows.accumulation)
    return total_steps(limits, micro_batches, rows.accumulation)


def with_assumed_labels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a run whose data is not read: the head has the labels of the rows; those that are to be found in the data
    are taken to be two."""
    task, labels = config["task"], config["task"]["rows"].get("labels")
    if labels is None or "labels" not in task["module"] or task["module"]["labels"] is not None:
        return config
    return {
        **config,
        "task": {**task, "module": {**task["module"], "labels": ["0", "1"] if labels == AUTO else labels}},
    }


def _with_initial_sizes(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with the sizes of the folder or run that `init_from` names, where it lies here."""
    folder = Path(config["init_from"]).expanduser()
    is_run = (folder / "checkpoints").is_dir()
    if is_run or (folder / "config.json").is_file():
        return with_sizes(config, initial_sizes(config, InitialWeights(str(folder), folder, is_run)))
    return config


def _devices(hardware: Mapping[str, Any]) -> int:
    if hardware["devices"] != "all":
        return int(hardware["devices"])
    if hardware["accelerator"] == "cpu":
        return len(os.sched_getaffinity(0))

    n_gpus = torch.cuda.device_count()
    if not n_gpus:
        raise ConfigurationError(
            "hardware.devices=all, but this machine has no GPU; give a number, such as hardware.devices=8"
        )
    return n_gpus


def _examples(config: Mapping[str, Any]) -> int | None:
    """Rows of the training split: of the sample, or as the task's yaml states them."""
    if config["choices"]["source"] == "sample" and config["recipe"]["epochs"] is not None:
        rows, selection = config["task"]["rows"], SplitSelection.parse(config["task"]["splits"]["train"])
        return selection.size(
            [
                config["source"].get("rows") or sample_size(rows["dataset"], rows.get("subset"), split)
                for split in selection.splits
            ]
        )
    return config["task"]["train_examples"]


def _lines(run_plan: Plan, config: Mapping[str, Any], speed: Speed) -> dict[str, str]:
    recipe = config["recipe"]
    parts = ("weights", "gradients", "optimizer", "activations")
    memory = ", ".join(f"{part} {getattr(run_plan.memory, part) / GIB:.2f}" for part in parts)
    device = " a device" if run_plan.devices > 1 else ""
    lines = {
        "parameters": f"{run_plan.parameters:,}",
        "FLOPs a token": (
            f"{flops_text(run_plan.forward_flops_per_token)} forward, "
            f"{flops_text(run_plan.training_flops_per_token)} forward and backward (rows of {run_plan.tokens_per_row} tokens)"
        ),
        f"memory{device}": (
            f"{run_plan.memory.total / GIB:.2f} GiB: {memory} "
            f"({run_plan.rows} rows of {run_plan.tokens_per_row} tokens at once)"
        ),
    }
    if not config["task"]["splits"].get("train"):
        return lines | {"steps": "none: this task is only tested"}
    if run_plan.devices > 1:
        lines["communication"] = f"{run_plan.sent_bytes / GIB:.2f} GiB that a device sends in a step"
    lines["checkpoint"] = f"{run_plan.checkpoint_bytes / GIB:.2f} GiB with the optimizer's state"
    if run_plan.steps is None or run_plan.training_flops is None:
        return lines | {"steps": "unknown: the task states no train_examples"}
    examples = "" if run_plan.examples is None else f"{run_plan.examples:,} examples, "
    epochs = f"{counted(recipe['epochs'], 'epoch')}, " if recipe["epochs"] else ""
    lines["steps"] = (
        f"{run_plan.steps:,} ({examples}{epochs}batch {recipe['batch_size']}; {run_plan.warmup_steps:,} to warm up)"
    )
    lines["training"] = (
        f"{flops_text(run_plan.training_flops)} in all, were every row {run_plan.tokens_per_row} tokens long"
    )
    tokens = float(run_plan.rows_per_step) * run_plan.tokens_per_row * run_plan.steps
    return lines | {"time": speed.time(run_plan.training_flops, tokens, run_plan.devices, config["hardware"])}


def _evaluation_lines(module: TaskModule, config: Mapping[str, Any]) -> dict[str, str]:
    """Of a kind that trains nothing: what the evaluation costs."""
    parameters = list(module.parameters())
    weights = sum(each.numel() * each.element_size() for each in parameters)
    lines = {
        "parameters": f"{sum(each.numel() for each in parameters):,}",
        "memory": f"{weights / GIB:.2f} GiB of weights",
        "steps": "none: this task is only tested",
    }
    tokens = prompt_tokens(config)
    if isinstance(tokens, str):
        return lines | {"evaluation": f"unknown: {tokens}"}
    if not tokens.examples or not isinstance(module.backbone, Backbone):
        return lines
    length = tokens.requested / tokens.sequences
    flops = forward_flops(module.backbone, tokens.computed, length)
    return lines | {
        "evaluation": f"{tokens.examples:,} examples, {tokens.sequences:,} sequences of {length:.0f} tokens on average",
        "tokens": (
            f"{tokens.requested:,}, of which {tokens.computed:,} are run: each is used "
            f"{tokens.requested / max(1, tokens.computed):.1f} times"
        ),
        "FLOPs": f"{flops_text(flops)} in all, without the output matrix",
    }
