"""Evaluation of a split: what it consists of, and how examples are gathered from all ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from protoformer.scoring.calibration import AnswerScores, LabelScores

Stage = Literal["val", "test"]
# what a kind keeps of examples for their evaluation, each tensor `(examples, ...)`; the first holds their ids
EvalOutputs = tuple[Tensor, ...]
Ratios = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # metric -> what each example adds above and below
PredictionRow = dict[str, Any]  # JSON: `id`, `prediction`, `label`, and what a kind adds


@dataclass(frozen=True)
class Sample:
    """A prompt, and the text that the model wrote after it."""

    prompt: str
    text: str


class Misclassified(NamedTuple):
    """A wrong prediction. `confidence` is its probability; of a regression the distance from the reference."""

    text: str
    gold: str | float
    predicted: str | float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics and predictions of one split.

    `scores` are the task's main metrics, between 0 and 1 at best; `other_metrics` is what else is to be logged. Both are
    empty where the references are hidden. `notes` say how a number was computed, such as sacreBLEU's signature. A kind of
    task adds its predictions, and says by class attributes how reports are to read them.
    """

    lists_misclassified: ClassVar[bool] = False  # only then the texts of its rows are read
    percent_metrics: ClassVar[frozenset[str]] = frozenset()  # names of metrics that papers print times 100
    headline: ClassVar[str | None] = None  # the metric that people know a model by, where it is not the score
    has_labels: ClassVar[bool] = True  # whether its examples are labelled, so that runs can be compared by them
    free_text: ClassVar[bool] = False  # predictions are texts that the model writes, seldom equal to the reference

    scores: Mapping[str, float]
    other_metrics: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)
    further_percent_metrics: frozenset[str] = frozenset()  # as `percent_metrics`, where a config names the metrics
    class_scores: Mapping[str, object] | None = (
        None  # scores of each class and the confusion matrix, of a kind that classifies
    )
    samples: Sequence[Sample] = ()  # texts to be shown at each validation, where the model writes any

    def rows(self) -> Iterator[PredictionRow]:
        """Predictions: one mapping an example with `id`, `prediction` and `label`, in order of row number."""
        return iter(())

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        """Metrics that are means over examples: name -> the score of each of `rows`, in their order.

        Runs can be compared by these (`protoformer compare`). Empty where there are none, or references are hidden.
        """
        return {}

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        """What metrics that are no means are made of, by example: of perplexity `log_likelihood`, in nats, and `tokens`; of
        correlations `prediction` and `reference`."""
        return {}

    def example_ratios(self) -> Ratios:
        """Metrics that are ratios of two sums over examples, such as fractions of questions with several answers."""
        return {}

    def confidences(self) -> LabelScores | AnswerScores | None:
        """Scores of the labels or answers of all examples with known references, for calibration; None without such."""
        return None

    def example_ids(self) -> Sequence[int]:
        """Ids of the examples of `example_scores` and `example_sums`: those of `rows`, where a kind says nothing else."""
        return [int(row["id"]) for row in self.rows()]

    def misclassified(self, texts: Sequence[str]) -> list[Misclassified]:
        """The wrong predictions, the most confident first; `texts` are those of all rows."""
        return []

    def files(self) -> dict[str, object]:
        """Further files, name -> JSON content."""
        return {}


def gather_examples(batches: Sequence[EvalOutputs], world_size: int) -> EvalOutputs:
    """The outputs of all batches of all ranks, on the host, each example once, in order of id. Every rank calls it and gets
    them all.

    An example may come twice, since samplers give every rank as many rows.
    """
    local = tuple(torch.cat(tensors).cpu() for tensors in zip(*batches, strict=True)) if batches else None
    ranks: list[EvalOutputs | None] = [local]
    if world_size > 1:
        ranks = [None] * world_size
        torch.distributed.all_gather_object(ranks, local)
    ids, *others = (torch.cat(tensors) for tensors in zip(*filter(None, ranks), strict=True))
    # stable: of an example that came twice the first rank's outputs are kept
    order = torch.argsort(ids, stable=True)
    is_first = torch.cat([torch.tensor([True]), ids[order][1:] != ids[order][:-1]])
    order = order[is_first]
    return ids[order], *(tensor[order] for tensor in others)


def calibrations(evaluations: Mapping[Stage, Mapping[str, Evaluation]]) -> dict[str, dict[str, Any]]:
    """By split with confidences its calibration as it is, and at the temperature of the first validation split, `fitted_on`.
    Without a validation split there is none; a model that diverged has no confidences."""
    scores = {
        f"{stage}/{split}".rstrip("/"): each
        for stage, splits in evaluations.items()
        for split, evaluation in splits.items()
        if (each := evaluation.confidences()) is not None and each.are_finite
    }
    fitted_on = next((name for name in scores if name.startswith("val")), None)
    temperature = None if fitted_on is None else scores[fitted_on].temperature()
    return {
        name: {"as_is": each.calibration().as_json()}
        | (
            {}
            if temperature is None
            else {
                "temperature": {**temperature._asdict(), "fitted_on": fitted_on},
                "scaled": each.calibration(temperature.value).as_json(),
            }
        )
        for name, each in scores.items()
    }
