"""Evaluation of in-context tasks: from log-likelihoods, or written answers, to metrics and records of predictions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.data.prompts.datamodule import InContextReferences
from protoformer.data.prompts.examples import PromptExample
from protoformer.modules.evaluation import Evaluation, PredictionRow, Ratios
from protoformer.modules.in_context.last_words import LastWords
from protoformer.modules.in_context.scored import ScoredExamples
from protoformer.scoring import classification, in_context, squad
from protoformer.scoring.calibration import AnswerScores, LabelScores
from protoformer.scoring.in_context import NORMALIZATIONS, Metric, Normalization
from protoformer.scoring.question_answering.groups import Summands, summands_of_groups

PERCENT: tuple[str, ...] = get_args(Metric.__args__[0]) + get_args(Metric.__args__[1])
Selected = Bool[Tensor, "examples"]  # the examples of one draw of shots


@dataclass(frozen=True, kw_only=True)
class InContextEvaluation(Evaluation):
    percent_metrics = frozenset(name + suffix for name in PERCENT for suffix in ("", "_stderr", "_spread"))

    predictions: Sequence[PredictionRow]
    per_example: Mapping[str, Sequence[float]]  # metrics that are means over examples
    sums: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ratios: Ratios = field(default_factory=dict)
    choice_scores: LabelScores | AnswerScores | None = None

    def rows(self) -> Iterator[PredictionRow]:
        return iter(self.predictions)

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        return self.per_example

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        return self.sums

    def example_ratios(self) -> Ratios:
        return self.ratios

    def confidences(self) -> LabelScores | AnswerScores | None:
        return self.choice_scores


@dataclass(frozen=True)
class Measured:
    """The metrics of a split: those that are means over examples, ratios of two sums over them, and those of all examples of a
    draw of shots together."""

    per_example: Mapping[str, Float[Tensor, "examples"]]
    draw: Int[Tensor, "examples"]
    group: Int[Tensor, "examples"]
    of_draw: Mapping[str, Callable[[Selected], float]] = field(default_factory=dict)
    ratios: Ratios = field(default_factory=dict)
    log_likelihood: Float[Tensor, "examples"] | None = None  # of completions
    choice_scores: LabelScores | AnswerScores | None = None

    def metrics(self) -> dict[str, float]:
        """Each metric's mean over draws of shots, its standard error over examples, its spread over draws."""
        draws = [self.draw == each for each in self.draw.unique()]
        metrics: dict[str, float] = {}
        for name, values in self.per_example.items():
            metrics |= _over_draws(name, [float(values[selected].mean()) for selected in draws])
            metrics[f"{name}_stderr"] = in_context.standard_error(values.tolist(), self.group.tolist())
        for name, pair in self.ratios.items():
            metrics |= _over_draws(name, [_ratio(*pair, selected) for selected in draws])
        for name, function in self.of_draw.items():
            metrics |= _over_draws(name, [function(selected) for selected in draws])
        return metrics

    def evaluation(
        self,
        references: InContextReferences,
        main: Sequence[Metric],
        predictions: Sequence[PredictionRow],
        **notes: str,
    ) -> InContextEvaluation:
        """`main` are the metrics that the task's score is made of; the others are logged beside them."""
        metrics = self.metrics()
        draws, left = len(self.draw.unique()), references.table.shots_left
        return InContextEvaluation(
            scores={name: metrics[name] for name in main},
            other_metrics={name: value for name, value in metrics.items() if name not in main},
            notes={"prompts": references.signature, **notes}
            | ({"shots left": f"{left:.1f} on average"} if left is not None else {})
            | ({"mean over": f"{draws} draws of shots"} if draws > 1 else {}),
            predictions=predictions,
            per_example={name: values.tolist() for name, values in self.per_example.items()},
            ratios=self.ratios,
            choice_scores=self.choice_scores,
            # the perplexity of several draws is a mean of theirs, and not made of sums over all examples
            sums={"log_likelihood": self.log_likelihood.tolist()}
            if self.log_likelihood is not None and draws == 1
            else {},
        )


def _ratio(above: Sequence[float], below: Sequence[float], selected: Selected) -> float:
    """Of the sums over selected examples; 0 of nothing."""
    indices = selected.nonzero().squeeze(1).tolist()
    return sum(above[index] for index in indices) / max(1.0, sum(below[index] for index in indices))


def _over_draws(name: str, by_draw: Sequence[float]) -> dict[str, float]:
    metrics = {name: sum(by_draw) / len(by_draw)}
    return metrics | ({f"{name}_spread": in_context.spread(by_draw)} if len(by_draw) > 1 else {})


def evaluate_scored(
    references: InContextReferences,
    numbers: Int[Tensor, "sequences"],
    values: Float[Tensor, "sequences values"],
    main: Sequence[Metric],
) -> InContextEvaluation:
    """Of choices each normalisation's accuracy; of completions whether greedy decoding writes them, and perplexity."""
    scored = ScoredExamples.collect(references, numbers, values)
    per_example: dict[str, Tensor] = {}
    of_draw: dict[str, Callable[[Selected], float]] = {}
    ratios: Ratios = {}
    log_likelihood = choice_scores = None
    normalization: Normalization = next((name for name in NORMALIZATIONS if name in main), "accuracy")
    if references.answer_type == "choice":
        right = scored.right(references)
        for name in NORMALIZATIONS:
            if name != "accuracy_pmi" or scored.unconditional is not None:
                per_example[name] = right.gather(1, scored.choose(name)[:, None]).squeeze(1).double()
        chosen = scored.choose(normalization)
        choice_scores = scored.confidences(references, normalization)
        per_example |= _texts_of_choices(scored.examples(references), chosen, main)
        others = [name for name in main if name not in per_example]
        if "exact_match" in others:
            ratios = {"exact_match": _questions_right(scored, references, chosen == scored.gold)}
        of_draw = _of_chosen(references, scored, chosen, [name for name in others if name not in ratios])
    else:
        per_example["accuracy"] = scored.is_greedy[:, 0].double()
        log_likelihood = scored.log_probs[:, 0]
        of_draw["perplexity"] = lambda selected: in_context.perplexity(scored.log_probs[selected, 0].tolist())
    notes: dict[str, str] = {}
    if scored.further.shape[-1]:
        words = LastWords(scored)
        per_example |= words.per_example()
        of_draw |= words.of_draw()
        notes["stop words"] = words.note()
    measured = Measured(per_example, scored.draw, scored.group, of_draw, ratios, log_likelihood, choice_scores)
    return measured.evaluation(references, main, list(scored.rows(references, normalization)), **notes)


def _texts_of_choices(
    examples: Sequence[PromptExample], chosen: Int[Tensor, "examples"], main: Sequence[Metric]
) -> dict[str, Tensor]:
    """Exact match and F1 of the text of the chosen option, where several are right (SuperGLUE's ReCoRD)."""
    if not all(example.answers for example in examples):
        return {}
    pairs = [(each.options[index], each.answers) for each, index in zip(examples, chosen.tolist(), strict=True)]
    functions = {"exact_match": squad.exact_match, "f1": squad.f1}
    return {
        name: torch.tensor([function(*pair) for pair in pairs], dtype=torch.double)
        for name, function in functions.items()
        if name in main
    }


def _of_chosen(
    references: InContextReferences, scored: ScoredExamples, chosen: Int[Tensor, "examples"], names: Sequence[Metric]
) -> dict[str, Callable[[Selected], float]]:
    """Metrics of all choices together: correlations of numbers, F1 over classes."""
    examples = scored.examples(references)
    metrics: dict[str, Callable[[Selected], float]] = {}
    for name in names:
        if name in classification.OF_NUMBERS:
            logits = torch.tensor(references.values, dtype=torch.double)[chosen][:, None]
            labels = torch.tensor([each.number for each in examples], dtype=torch.double)
        else:
            logits = torch.nn.functional.one_hot(chosen, scored.log_probs.shape[1]).double()
            labels = scored.gold
        metrics[name] = _OfClasses(name, logits, labels)
    return metrics


def _questions_right(
    scored: ScoredExamples, references: InContextReferences, right: Bool[Tensor, "examples"]
) -> Summands:
    """Summands of the fraction of questions of whose answers each is judged rightly (arXiv 1905.00537, MultiRC)."""
    examples = zip(scored.draw.tolist(), scored.examples(references), strict=True)
    return summands_of_groups([(draw, each.group, each.question) for draw, each in examples], right.tolist())


@dataclass(frozen=True)
class _OfClasses:
    """A metric of a classifier or a regression."""

    name: Metric
    logits: Float[Tensor, "examples labels"]
    references: Tensor

    def __call__(self, selected: Selected) -> float:
        values = classification.score([self.name], self.logits[selected], self.references[selected])  # type: ignore[list-item]
        return values[self.name]
