"""Learning in context (arXiv 2005.14165, section 2.4): a task is described and shown by text alone; nothing is trained.

Completions are scored by their likelihood. Of several choices the best one is the answer; a single right completion counts
where greedy decoding would write it. Texts that begin alike are run once (`incontext.prefix_scoring`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.data.datamodules.in_context import InContextReferences, PromptBatch, prompt_hash
from protoformer.errors import ConfigurationError
from protoformer.incontext.prefix_scoring import TOKENS_PER_PASS, PrefixScorer, Request
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.evaluation import EvalOutputs, Evaluation, PredictionRow, Stage
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.scoring import in_context
from protoformer.scoring.in_context import Normalization

NORMALIZATIONS: tuple[Normalization, ...] = ("accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_pmi")


@dataclass(frozen=True, kw_only=True)
class InContextEvaluation(Evaluation):
    percent_metrics = frozenset({*NORMALIZATIONS, *(f"{name}_stderr" for name in NORMALIZATIONS),
                                 *(f"{name}_spread" for name in NORMALIZATIONS)})  # fmt: skip

    predictions: Sequence[PredictionRow]
    correct: Mapping[str, Sequence[float]]  # by metric, of each prediction

    def rows(self) -> Iterator[PredictionRow]:
        return iter(self.predictions)

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        return self.correct


class InContextModule(TaskModule[PromptBatch, InContextReferences]):
    """`metrics` are the scores of the task: for choices an accuracy by one of the normalisations, for completions `accuracy`
    (greedy decoding writes the completion) and `perplexity`. `tokens_per_pass` bounds memory and changes no result."""

    is_causal_lm = True
    resumes_evaluation = True
    metrics: ClassVar[tuple[str, ...]] = NORMALIZATIONS
    other_command = "; a language model continues texts: protoformer generate RUN --prompt TEXT"
    backbone: Decoder

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        metrics: Sequence[Normalization],
        tokens_per_pass: int = TOKENS_PER_PASS,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        if not isinstance(backbone, Decoder):
            raise ConfigurationError("in-context tasks need a model of the next token: choose one, such as model=gpt2")
        self.backbone, self.splits, self.metrics_of_task = backbone, splits, list(metrics)
        self.tokens_per_pass = tokens_per_pass
        self._scorer: PrefixScorer | None = None

    @property
    def scorer(self) -> PrefixScorer:
        if self._scorer is None:
            self._scorer = PrefixScorer(self.backbone.eval(), self.tokens_per_pass)
        return self._scorer

    def eval_step(self, batch: PromptBatch) -> EvalOutputs:
        """Numbers of sequences, and of each log P of its completion, tokens, and whether greedy decoding writes it."""
        sequences = [each for example in batch["sequences"] for each in example]
        likelihoods = self.scorer.score([Request(each.ids, each.start) for each in sequences])
        values = [[each.total, len(each.log_probs), each.is_greedy] for each in likelihoods]
        numbers = torch.tensor([each.number for each in sequences], dtype=torch.long)
        return numbers, torch.tensor(values, dtype=torch.double).view(-1, 3)

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> InContextEvaluation:
        numbers, values = outputs
        references = self.references[stage][split]
        scored = ScoredExamples.collect(references, numbers, values)
        correct = self._correct(scored)
        draws = scored.draw.unique().tolist()
        scores: dict[str, float] = {}
        other_metrics: dict[str, float] = {}
        for name, right in correct.items():
            means = [float(right[scored.draw == draw].mean()) for draw in draws]
            mean = sum(means) / len(means)
            (scores if name in self.metrics_of_task else other_metrics)[name] = mean
            other_metrics[f"{name}_stderr"] = in_context.standard_error(right.tolist(), scored.group.tolist())
            if len(draws) > 1:
                other_metrics[f"{name}_spread"] = in_context.spread(means)
        if not scored.is_choice:
            other_metrics["perplexity"] = in_context.perplexity(scored.log_probs[:, 0].tolist())
        return InContextEvaluation(
            scores=scores,
            other_metrics=other_metrics,
            notes={"shots": f"{len(draws)} draws" if len(draws) > 1 else ""},
            predictions=list(scored.rows(references)),
            correct={name: right.tolist() for name, right in correct.items()},
        )

    def _correct(self, scored: "ScoredExamples") -> dict[str, Float[Tensor, "examples"]]:
        """By metric, 1 for each example that is answered right."""
        if not scored.is_choice:
            return {"accuracy": scored.is_greedy[:, 0].double()}
        names = [name for name in NORMALIZATIONS if name != "accuracy_pmi" or scored.unconditional is not None]
        return {name: (scored.choose(name) == scored.gold).double() for name in names}


@dataclass(frozen=True)
class ScoredExamples:
    """Examples whose sequences have all been scored, in order of draw and row; a completion that one lacks has a log P of
    nan."""

    example: Int[Tensor, "examples"]
    log_probs: Float[Tensor, "examples choices"]
    tokens: Int[Tensor, "examples choices"]
    text_bytes: Int[Tensor, "examples choices"]
    is_greedy: Bool[Tensor, "examples choices"]
    unconditional: Float[Tensor, "examples choices"] | None
    gold: Int[Tensor, "examples"]
    draw: Int[Tensor, "examples"]
    group: Int[Tensor, "examples"]

    @classmethod
    def collect(
        cls, references: InContextReferences, numbers: Int[Tensor, "sequences"], values: Float[Tensor, "sequences 3"]
    ) -> "ScoredExamples":
        """Sequences as rows of their examples."""
        table = references.table
        first = torch.as_tensor(np.array(table.first_sequence))
        counts = first.diff()
        width = int(counts.max())
        example_of = torch.repeat_interleave(torch.arange(len(table)), counts)[numbers]
        column = numbers - first[example_of]
        grid = torch.full((len(table), width, 3), math.nan, dtype=torch.double)
        grid[example_of, column] = values
        text_bytes = torch.zeros(len(table), width, dtype=torch.long)
        text_bytes[example_of, column] = torch.as_tensor(np.array(table.completion_bytes))[numbers]
        seen = torch.zeros(len(table), dtype=torch.long).index_add_(0, example_of, torch.ones_like(example_of))
        whole = (seen == counts).nonzero().squeeze(1)
        grid, text_bytes = grid[whole], text_bytes[whole]
        unconditional = None
        if references.has_unconditional:  # the second half of each example's sequences
            half = counts[whole, None] // 2
            index = torch.arange(width // 2) + half
            unconditional = grid[..., 0].gather(1, index.clamp(max=width - 1))
            present = torch.arange(width // 2) < half
            unconditional = unconditional.masked_fill(~present, math.nan)
            grid, text_bytes = grid[:, : width // 2].clone(), text_bytes[:, : width // 2]
            grid[~present] = math.nan
        return cls(
            example=whole,
            log_probs=grid[..., 0],
            tokens=grid[..., 1].nan_to_num().long(),
            text_bytes=text_bytes,
            is_greedy=grid[..., 2] == 1,
            unconditional=unconditional,
            **{
                name: torch.as_tensor(np.array(getattr(table, name)))[whole].long()
                for name in ("gold", "draw", "group")
            },
        )

    @property
    def is_choice(self) -> bool:
        return self.log_probs.shape[1] > 1

    def choose(self, normalization: Normalization) -> Int[Tensor, "examples"]:
        return in_context.choose(self.log_probs, self.tokens, self.text_bytes, self.unconditional, normalization)

    def rows(self, references: InContextReferences) -> Iterator[PredictionRow]:
        """Records of predictions: the answer, the right one, log P of each completion, and the digest of the prompt."""
        best = self.choose("accuracy").tolist() if self.is_choice else [0] * len(self.example)
        for index, number in enumerate(self.example.tolist()):
            example = references.examples[int(references.table.row[number])]
            present = [value for value in self.log_probs[index].tolist() if not math.isnan(value)]
            yield {
                "id": number,
                "row": example.row,
                "draw": int(self.draw[index]),
                "prediction": example.completions[best[index]].strip() if self.is_choice else None,
                "label": example.completions[example.gold].strip() if example.gold >= 0 else None,
                "log_probs": [round(value, 5) for value in present],
                "prompt": prompt_hash(references.table.sequences(number)[0].ids),
            }
