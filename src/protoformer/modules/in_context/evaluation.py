"""Evaluation of in-context tasks: from log-likelihoods, or written answers, to metrics and records of predictions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.data.prompts.table import prompt_hash
from protoformer.modules.evaluation import Evaluation, PredictionRow
from protoformer.scoring import in_context, squad
from protoformer.scoring.bleu import bleu
from protoformer.scoring.in_context import NORMALIZATIONS, Metric, Normalization

PERCENT = ("accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_pmi", "exact_match", "f1", "bleu")


@dataclass(frozen=True, kw_only=True)
class InContextEvaluation(Evaluation):
    percent_metrics = frozenset(name + suffix for name in PERCENT for suffix in ("", "_stderr", "_spread"))

    predictions: Sequence[PredictionRow]
    per_example: Mapping[str, Sequence[float]]  # metrics that are means over examples

    def rows(self) -> Iterator[PredictionRow]:
        return iter(self.predictions)

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        return self.per_example


@dataclass(frozen=True)
class Means:
    """A metric of all examples: the mean over draws of shots, its standard error over examples, its spread over draws."""

    metrics: Mapping[str, float]

    @classmethod
    def over(
        cls, name: str, values: Float[Tensor, "examples"], draw: Int[Tensor, "examples"], group: Int[Tensor, "examples"]
    ) -> "Means":
        by_draw = [float(values[draw == each].mean()) for each in draw.unique()]
        metrics = {name: sum(by_draw) / len(by_draw)}
        metrics[f"{name}_stderr"] = in_context.standard_error(values.tolist(), group.tolist())
        if len(by_draw) > 1:
            metrics[f"{name}_spread"] = in_context.spread(by_draw)
        return cls(metrics)


def evaluation(
    per_example: Mapping[str, Float[Tensor, "examples"]],
    corpus_metrics: Mapping[str, float],
    main: Sequence[Metric],
    draw: Int[Tensor, "examples"],
    group: Int[Tensor, "examples"],
    predictions: Sequence[PredictionRow],
) -> InContextEvaluation:
    """`main` are the metrics that the task's score is made of; the others are logged beside them."""
    metrics = dict(corpus_metrics)
    for name, values in per_example.items():
        metrics |= Means.over(name, values, draw, group).metrics
    draws = len(draw.unique())
    return InContextEvaluation(
        scores={name: metrics[name] for name in main},
        other_metrics={name: value for name, value in metrics.items() if name not in main},
        notes={"mean over": f"{draws} draws of shots"} if draws > 1 else {},
        predictions=predictions,
        per_example={name: values.tolist() for name, values in per_example.items()},
    )


def evaluate_scored(
    references: InContextReferences,
    numbers: Int[Tensor, "sequences"],
    values: Float[Tensor, "sequences 3"],
    main: Sequence[Metric],
) -> InContextEvaluation:
    """Of choices each normalisation's accuracy; of completions whether greedy decoding writes them, and perplexity."""
    scored = ScoredExamples.collect(references, numbers, values)
    corpus_metrics = {}
    if references.answer_type == "choice":
        names = [name for name in NORMALIZATIONS if name != "accuracy_pmi" or scored.unconditional is not None]
        per_example: dict[str, Tensor] = {name: (scored.choose(name) == scored.gold).double() for name in names}
    else:
        per_example = {"accuracy": scored.is_greedy[:, 0].double()}
        corpus_metrics["perplexity"] = in_context.perplexity(scored.log_probs[:, 0].tolist())
    predictions = list(scored.rows(references, next((name for name in NORMALIZATIONS if name in main), "accuracy")))
    return evaluation(per_example, corpus_metrics, main, scored.draw, scored.group, predictions)


def evaluate_answers(
    references: InContextReferences,
    numbers: Int[Tensor, "sequences"],
    answers: Int[Tensor, "sequences longest"],
    main: Sequence[Metric],
) -> InContextEvaluation:
    """Exact match and F1 of SQuAD's normalised words, and where the task asks for it the corpus's BLEU."""
    table = references.table
    example = torch.as_tensor(np.searchsorted(table.first_sequence, numbers.numpy(), side="right") - 1)
    texts = [references.tokenizer.decode([token for token in row if token >= 0]).strip() for row in answers.tolist()]
    gold = [references.examples[int(table.row[number])].answers for number in example.tolist()]
    pairs = list(zip(texts, gold, strict=True))
    per_example = {
        "exact_match": torch.tensor([squad.exact_match(*pair) for pair in pairs], dtype=torch.double),
        "f1": torch.tensor([squad.f1(*pair) for pair in pairs], dtype=torch.double),
    }
    corpus_metrics = {}
    if "bleu" in main:
        corpus_metrics["bleu"] = bleu(texts, [answers[0] for answers in gold]).score / 100
    draw, group = (torch.as_tensor(np.array(getattr(table, name)))[example] for name in ("draw", "group"))
    predictions: list[PredictionRow] = [
        {
            "id": number,
            "row": int(table.row[number]),
            "draw": int(table.draw[number]),
            "prediction": text,
            "label": list(right),
            "prompt": prompt_hash(table.sequences(number)[0].ids),
        }
        for number, text, right in zip(example.tolist(), texts, gold, strict=True)
    ]
    return evaluation(per_example, corpus_metrics, main, draw, group, predictions)


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

    def choose(self, normalization: Normalization) -> Int[Tensor, "examples"]:
        return in_context.choose(self.log_probs, self.tokens, self.text_bytes, self.unconditional, normalization)

    def rows(self, references: InContextReferences, normalization: Normalization) -> Iterator[PredictionRow]:
        """Records of predictions: the answer, the right one, log P of each completion, and the digest of the prompt."""
        is_choice = references.answer_type == "choice"
        best = self.choose(normalization).tolist() if is_choice else []
        for index, number in enumerate(self.example.tolist()):
            example = references.examples[int(references.table.row[number])]
            present = [value for value in self.log_probs[index].tolist() if not math.isnan(value)]
            label = example.completions[example.gold].strip() if example.gold >= 0 else None
            greedy = bool(self.is_greedy[index, 0])
            yield {
                "id": number,
                "row": example.row,
                "draw": int(self.draw[index]),
                # of a completion that greedy decoding does not write nothing else is known
                "prediction": example.completions[best[index]].strip() if is_choice else label if greedy else None,
                "label": label,
                "log_probs": [round(value, 5) for value in present],
                "prompt": prompt_hash(references.table.sequences(number)[0].ids),
            }
