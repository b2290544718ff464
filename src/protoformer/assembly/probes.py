"""Probes of a training run, as its config names them: the data and the module of each, over the run's own model."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protoformer.assembly.build import Parts, build_datamodule
from protoformer.assembly.instantiate import instantiate, instantiate_node
from protoformer.assembly.metrics import with_complete_metrics
from protoformer.assembly.own_data import with_own_data
from protoformer.config.probes import KEY, probe_configs
from protoformer.data.datamodules.context import named_splits
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError, UserError
from protoformer.modules.evaluation import Stage
from protoformer.modules.linear_probe import LinearProbe, is_linearly_probed
from protoformer.modules.task_module import TaskModule

log = logging.getLogger(__name__)
ROLE: Role = "validation"  # that probes evaluate, whatever role their splits have in the task
STAGE: Stage = "val"
FITTED_TO = "train"  # our name of the split that a linear probe's head is fitted to


@dataclass(frozen=True)
class Probe:
    """An evaluation task that is scored with a model in training. `linear` is set where the task has a head to be fitted."""

    name: str
    data: TableDataModule[Any]
    module: TaskModule
    linear: LinearProbe | None = None

    def setup(self) -> None:
        """Encode the rows, and connect the module to them. Raises UserError, naming the probe."""
        try:
            self.data.setup()
        except UserError as error:
            raise type(error)(f"{KEY}: {self.name}: {error}") from None
        splits = list(self.data.tables[ROLE])
        references = {split: self.data.references(ROLE, split) for split in splits}
        self.module.connect(total_steps=0, splits={STAGE: splits}, references={STAGE: references})

    def batches(self) -> Iterator[tuple[str, Any]]:
        """This rank's batches, each with our name of its split."""
        for split, loader in zip(self.data.tables[ROLE], self.data.val_dataloader(), strict=True):
            for batch in loader:
                yield split, batch


def build_probes(config: Mapping[str, Any], parts: Parts, *, rank: int = 0, ranks: int = 1) -> list[Probe]:
    """The probes that `task.probes` names; `config` has the model resolved (`ResolvedModel.in_config`)."""
    return [
        _build_probe(name, each, config, parts, rank=rank, ranks=ranks) for name, each in probe_configs(config).items()
    ]


def _build_probe(
    name: str, config: dict[str, Any], run_config: Mapping[str, Any], parts: Parts, *, rank: int, ranks: int
) -> Probe:
    config["model"] = run_config["model"]
    try:
        source = instantiate(config, "source")
        config = with_own_data(config, source, parts.initial_weights)
        has_head, task = config["task"]["needs_head"], run_config["task"]
        splits = _scored_splits(config["task"]["splits"], task["probe_rows"])
        if has_head:
            splits |= {FITTED_TO: _first(config["task"]["splits"].get("train"), task["probe_train_rows"])}
        config["task"] = {**config["task"], "splits": {"train": None, ROLE: splits, "test": None}}
        module: TaskModule = instantiate_node(
            with_complete_metrics(config["task"]["module"]),
            "task.module",
            backbone=parts.module.backbone,
            splits={STAGE: list(splits)},
            optimization=None,
        )
        data = build_datamodule(config, source, parts.tokenizer, rank=rank, ranks=ranks)
        linear = _linear_probe(module, data) if has_head else None
    except UserError as error:
        raise type(error)(f"{KEY}: {name}: {error}") from None
    return Probe(name, data, module, linear)


def _linear_probe(module: TaskModule, data: TableDataModule[Any]) -> LinearProbe:
    if not is_linearly_probed(module):
        raise ConfigurationError(
            "a probe is a task that needs no training (lm/..., incontext/...), or one with a linear head (classification, "
            "multiple choice)"
        )
    has_end = hasattr(data.template, "document_end_id")
    return LinearProbe(module, data.template.document_end_id() if has_end else 0)


def _scored_splits(splits: Mapping[str, Any], rows: int) -> dict[str, str]:
    """The task's dev splits, or the test splits where it has none, of each the first rows."""
    named = named_splits(splits.get("validation")) or named_splits(splits.get("test"))
    return {name: _first(split, rows) for name, split in named.items()}


def _first(split: str | None, rows: int) -> str:
    """The first rows of a split; a part of a split is taken whole."""
    if split is None:
        raise ConfigurationError("it has no training split to fit a linear probe to")
    return split if "[" in split else f"{split}[:{rows}]"
