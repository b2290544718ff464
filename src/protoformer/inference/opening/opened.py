"""A model that is ready for use, with what reads texts for it."""

from dataclasses import dataclass
from typing import Any

from protoformer.assembly.instantiate import instantiate
from protoformer.modules.task_module import TaskModule
from protoformer.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class OpenedModel:
    """A task's module in evaluation mode on the CPU, its tokenizer, and the config that it is built from.

    `name` is what messages call it. A model that is not `of_run` comes from a folder of published weights: its config holds the
    nodes `model` and `task` alone, and names no columns of a data set.
    """

    model: TaskModule
    tokenizer: Tokenizer
    config: dict[str, Any]
    name: str = "this run"
    of_run: bool = True

    @property
    def max_len(self) -> int:
        """The longest sequence in tokens: longer texts are truncated as in training."""
        return min(self.config["task"]["max_len"], self.model.backbone.max_seq_len)

    def template(self) -> Any:
        """The model's input template."""
        return instantiate(self.config, "model.template", tokenizer=self.tokenizer)
