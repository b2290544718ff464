"""What evaluating a split leaves behind, and how it is brought together from all ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

Stage = Literal["val", "test"]
EvalOutputs = tuple[Tensor, ...]  # what was observed of examples, row by row; the first holds their ids


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`scores` are the task's main metrics, between 0 and 1 at best; `other_metrics` is what else is to be logged.

    Both are empty where the references are hidden. `notes` say in words how numbers were come by, such as sacreBLEU's
    signature. A kind adds what its predictions are made of, and says whether single ones of them can be mistakes.
    """

    lists_misclassified: ClassVar[bool] = False  # only then is its data asked for the texts of its rows

    scores: Mapping[str, float]
    other_metrics: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Predictions: one mapping an example with `id`, `prediction` and `label`, in order of row number."""
        return iter(())

    def misclassified(self, texts: Sequence[str]) -> list[list[Any]]:
        """Text, gold, predicted, and how sure the model was, the worst first. `texts` are those of all rows."""
        return []

    def files(self) -> dict[str, Any]:
        """Further files, name -> JSON content."""
        return {}


def gather_examples(parts: Sequence[EvalOutputs], world_size: int) -> EvalOutputs:
    """Every rank's rows, each example once, in order of id."""
    mine = tuple(torch.cat(column) for column in zip(*parts, strict=True)) if parts else None
    everyone: list[Any] = [mine]
    if world_size > 1:
        everyone = [None] * world_size
        torch.distributed.all_gather_object(everyone, mine)
    ids, *columns = (torch.cat(column) for column in zip(*filter(None, everyone), strict=True))
    order = torch.argsort(ids, stable=True)
    order = order[torch.cat([torch.tensor([True]), ids[order][1:] != ids[order][:-1]])]
    return ids[order], *(column[order] for column in columns)
