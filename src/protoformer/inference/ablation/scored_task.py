"""ScoredTask: a model with its task's dev data, whose score is asked for again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from protoformer.assembly.build import build, check_tables
from protoformer.assembly.model import STAGES
from protoformer.errors import ConfigurationError
from protoformer.modules.evaluation import EvalOutputs, gather_examples
from protoformer.modules.task_module import TaskModule
from protoformer.scoring.main_score import main_score


@dataclass(frozen=True)
class DevScore:
    """The main score of the dev sets, each metric, and the predictions of all examples in order.

    `percent` are the names of the metrics that papers print times 100.
    """

    score: float
    metrics: Mapping[str, float]
    percent: frozenset[str]
    examples: int
    predictions: list[Any]

    def changed(self, other: "DevScore") -> int | None:
        """The number of examples with another prediction; None of a language model, which keeps none, and of a regression,
        where nearly every one differs a little."""
        if not self.predictions or isinstance(self.predictions[0], float):
            return None
        return sum(a != b for a, b in zip(self.predictions, other.predictions, strict=True))


class ScoredTask:
    """The parts of a config, on the CPU.

    Raises UserError where they cannot be built, ConfigurationError where there are no dev data.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        torch.manual_seed(config["seed"])
        self.parts = build(config)
        self.module: TaskModule = self.parts.module.eval()
        data = self.parts.data
        data.setup()
        check_tables(self.parts)
        if not data.tables["validation"]:
            raise ConfigurationError(
                "no dev data to score on: task.splits.validation=<split>, or of running text task.data.held_out=0.1"
            )
        self.splits = list(data.tables["validation"])
        self.module.connect(
            total_steps=None,
            splits={stage: list(data.tables[role]) for stage, role in STAGES.items()},
            references={"val": {split: data.references("validation", split) for split in self.splits}},
        )
        if data.tables["train"]:
            self.module.prepare_training(data.tables["train"][""])
        if hasattr(self.module, "sample_tokens"):  # of a language model
            self.module.sample_tokens = 0  # type: ignore[assignment]  # an int; no text is written for a score
        self._batches = [list(loader) for loader in data.val_dataloader()]  # the same for every ablation

    def score(self) -> DevScore:
        """The score of the model as it is now."""
        scores: dict[str, float] = {}
        metrics: dict[str, float] = {}
        percent, examples, predictions = frozenset[str](), 0, list[Any]()
        for split, batches in zip(self.splits, self._batches, strict=True):
            with torch.inference_mode():
                outputs: list[EvalOutputs] = [tuple(self.module.eval_step(batch)) for batch in batches]
            evaluation = self.module.evaluate("val", split, gather_examples(outputs, 1))
            prefix = f"{split}/" if split else ""
            scores |= {prefix + name: float(value) for name, value in evaluation.scores.items()}
            metrics |= {prefix + name: float(value) for name, value in evaluation.other_metrics.items()}
            percent |= {prefix + name for name in evaluation.percent_metrics | evaluation.further_percent_metrics}
            examples += len(evaluation.example_ids())
            predictions += [row["prediction"] for row in evaluation.rows()]
        if not scores:
            raise ConfigurationError("the dev data have no labels: there is no score")
        return DevScore(main_score(scores), metrics | scores, percent, examples, predictions)

    def training_examples(self, number: int) -> list[Mapping[str, Tensor]]:
        """The first `number` training examples in the order of a run, or all of fewer, each a batch of its own.

        Raises ConfigurationError for a task without a training split.
        """
        data = self.parts.data
        if not data.tables["train"]:
            raise ConfigurationError("no training data for means and importance: task.splits.train=<split>")
        return list(islice(data.train_dataloader(), number))
