"""Answers that are a span of a context (arXiv 1810.04805, sections 4.2 and 4.3): encoder, start and end vectors.

The loss of a window is the mean of two cross-entropies, over where the answer starts and where it ends; a window that does
not show its question's answer has both at the null position (the template's: BERT's [CLS], GPT's extract token). What an
evaluated window leaves behind is its best few spans, never its logits.

Differs: padding takes no part in the softmax (in the paper's code it does).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.batches import SpanBatch
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import SpanHead
from protoformer.modules.auxiliary import AuxiliaryLanguageModel
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage, gather_examples
from protoformer.modules.loss import Loss
from protoformer.modules.queries import Prediction, Query, QueryEncoder, RankedPredictions
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.scoring import spans, squad
from protoformer.scoring.spans import IMPOSSIBLE, Answer, Candidates


class References(Protocol):
    """Of a split: its questions in order, their gold answers (None: hidden), and the way from positions to text."""

    ids: Sequence[str]
    gold: Sequence[Sequence[str]] | None

    def question(self, window: int) -> int: ...

    def text(self, window: int, start: int, end: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class SpanEvaluation(Evaluation):
    """Each question's n-best and the answer that is given, by id; `gold` None where it is hidden."""

    lists_misclassified = True
    percent_metrics = frozenset({"exact_match", "f1", "best_exact_match", "best_f1"})

    n_best: Mapping[str, Sequence[Answer]]
    given: Mapping[str, str]
    gold: Mapping[str, Sequence[str]] | None
    null_odds: Mapping[str, float] = field(default_factory=dict)  # of questions that may have no answer

    def rows(self) -> Iterator[dict[str, Any]]:
        for number, (name, text) in enumerate(self.given.items()):
            label = None if self.gold is None else list(self.gold[name])
            yield {"id": number, "question": name, "prediction": text, "label": label}

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        if self.gold is None:
            return {}
        scored = squad.each(self.given, self.gold)
        return {"exact_match": list(scored.exact_match.values()), "f1": list(scored.f1.values())}

    def misclassified(self, texts: Sequence[str]) -> list[list[Any]]:
        """The last column is the answer's share among the n-best."""
        found = []
        for row in self.rows():
            if row["label"] is None or squad.exact_match(row["prediction"], row["label"]):
                continue
            share = next((a.probability for a in self.n_best[row["question"]] if a.text == row["prediction"]), 0.0)
            gold = " | ".join(dict.fromkeys(row["label"])) or "(no answer)"
            found.append([texts[row["id"]], gold, row["prediction"] or "(no answer)", share])
        return sorted(found, key=lambda row: -row[3])

    def files(self) -> dict[str, Any]:
        """The official files of SQuAD: answers, n-best lists, and in v2.0 the odds of no answer."""
        n_best = {name: [_official(answer) for answer in answers] for name, answers in self.n_best.items()}
        odds = {name: max(-1e9, min(1e9, value)) for name, value in self.null_odds.items()}  # JSON knows no infinity
        files = {"predictions.json": dict(self.given), "nbest_predictions.json": n_best}
        return files | ({"null_odds.json": odds} if odds else {})


def _official(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("text", "probability", "start_logit", "end_logit")}


class SpanModule(TaskModule):
    """`unanswerable`: a question may have no answer, which is given where its odds exceed a threshold: `null_threshold`,
    or (None) the one that is best for F1 on the first development split.

    `aux_lm_weight` is lambda, by which a decoder's language model counts in training, a window being an example (see
    `auxiliary`)."""

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")  # their mean is the score

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        unanswerable: bool = False,
        n_best: int = 20,
        max_answer: int = 30,
        null_threshold: float | None = None,
        aux_lm_weight: float = 0.0,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        if unanswerable and splits["test"] and not splits["val"] and null_threshold is None:
            raise ConfigurationError(
                "questions may have no answer and there is no development split to tune the threshold on; add "
                "task.module.null_threshold=<number>"
            )
        for name, value in (("n_best", n_best), ("max_answer", max_answer)):
            if value < 1:
                raise ConfigurationError(f"task.module.{name}={value}: at least 1")
        self.backbone, self.splits = backbone, splits
        self.unanswerable, self.n_best, self.max_answer = unanswerable, n_best, max_answer
        self.null_threshold = null_threshold
        self.tuned: float | None = None  # the threshold that was best on dev
        self.auxiliary = AuxiliaryLanguageModel(backbone, aux_lm_weight)
        self.head = SpanHead(backbone.d_model)
        backbone.pooler.requires_grad_(False)  # takes no part; several ranks would wait for its gradient

    def forward(self, batch: SpanBatch) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        return self.logits(self.hidden(batch))

    def hidden(self, batch: SpanBatch) -> HiddenStates:
        return self.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"])

    def logits(self, hidden: HiddenStates) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        """The logits of a start and of an end."""
        start, end = self.head(hidden.tokens)
        return hidden.layout.unpack(start), hidden.layout.unpack(end)

    def flops(self, batch: SpanBatch) -> Tensor:
        return super().flops(batch) + self.auxiliary.flops(batch["padding_mask"])

    def predict_query(self, query: Query, encoder: QueryEncoder) -> list[RankedPredictions]:
        if query.pair is None:
            raise ConfigurationError(
                "this run's task answers a question from a context: --text QUESTION --pair CONTEXT"
            )
        reader = encoder.reader
        rows = encoder.encode_rows({reader.id: ["0"], reader.question: [query.text], reader.context: [query.pair]})
        outputs = gather_examples([self.eval_step(batch) for batch in rows.batches()], world_size=1)
        answers = self.n_best_answers(outputs, rows.references)["0"][: query.top]
        predictions = [Prediction(answer.text or "(no answer)", answer.probability) for answer in answers]
        return [RankedPredictions("answer", predictions)]

    def dummy_batch(self, batch: int, seq: int) -> SpanBatch:
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        ones = torch.ones(batch, seq, dtype=torch.bool)
        return SpanBatch(
            ids=zeros,
            padding_mask=ones,
            segment_ids=zeros,
            pooler_position=zeros[:, 0],
            example_ids=zeros[:, 0],
            context_mask=ones,
            max_context_mask=ones,
            null_position=zeros[:, 0],
            start_position=zeros[:, 0],
            end_position=zeros[:, 0],
        )

    def loss(self, batch: SpanBatch) -> Loss:
        real = batch["example_ids"] >= 0
        hidden = self.hidden(batch)
        start, end = self.logits(hidden)
        loss = Loss((self._losses(batch, start.float(), end.float()) * real).sum(), real.sum())
        return self.auxiliary.added(loss, hidden, batch["ids"], self.backbone.embeddings.token.weight, real)

    def _losses(self, batch: SpanBatch, start: Tensor, end: Tensor) -> Float[Tensor, "batch"]:
        padding = ~batch["padding_mask"]
        parts = [
            functional.cross_entropy(logits.masked_fill(padding, IMPOSSIBLE), position, reduction="none")
            for logits, position in ((start, batch["start_position"]), (end, batch["end_position"]))
        ]
        return (parts[0] + parts[1]) / 2

    def eval_step(self, batch: SpanBatch) -> EvalOutputs:
        """Of each window: its best spans, the logits of no answer, and its loss."""
        real = batch["example_ids"] >= 0
        start, end = (logits.float() for logits in self(batch))
        found = spans.candidates(
            start,
            end,
            batch["context_mask"] & batch["max_context_mask"],
            batch["context_mask"],
            batch["null_position"],
            n_best=self.n_best,
            max_answer=self.max_answer,
        )
        spare = (0, self.n_best - found.start.shape[1])  # a short window has fewer
        columns = (
            batch["example_ids"],
            functional.pad(found.start, spare),
            functional.pad(found.end, spare),
            functional.pad(found.start_logit, spare, value=IMPOSSIBLE),
            functional.pad(found.end_logit, spare, value=IMPOSSIBLE),
            found.null_start,
            found.null_end,
            self._losses(batch, start, end),
        )
        return tuple(column[real] for column in columns)

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> SpanEvaluation:
        losses = outputs[-1]
        references: References = self.references[stage][split]
        n_best = self.n_best_answers(outputs, references)
        odds = {name: spans.null_odds(answers) for name, answers in n_best.items()} if self.unanswerable else {}
        gold = None
        if references.gold is not None:
            answers = dict(zip(references.ids, references.gold, strict=True))
            gold = {name: answers[name] for name in n_best}
        scores: dict[str, float] = {}
        numbers: dict[str, float] = {}
        threshold = None
        if gold is not None:
            numbers["loss"] = float(losses.mean())
        if self.unanswerable:
            tuned = self._thresholds(n_best, odds, gold)
            if stage == "val" and split == self.splits["val"][0]:
                self.tuned = tuned.get("best_f1_threshold")
            threshold = self.tuned if self.null_threshold is None else self.null_threshold
            if threshold is None:
                raise ConfigurationError(
                    "the development split hides its answers, so no threshold for no answer can be tuned on it; add "
                    "task.module.null_threshold=<number>"
                )
            numbers |= {**tuned, "null_threshold": threshold}
        given = spans.chosen(n_best, threshold)
        if gold is not None:
            means = squad.score(given, gold)
            scores = {name: means.pop(name) for name in self.metrics}
            numbers |= means
        return SpanEvaluation(
            scores=scores, other_metrics=numbers, n_best=n_best, given=given, gold=gold, null_odds=odds
        )

    def n_best_answers(self, outputs: EvalOutputs, references: References) -> dict[str, list[Answer]]:
        """The n-best over all windows of each question, in order of the questions; `outputs` as `eval_step` gives them."""
        windows, found = outputs[0].tolist(), Candidates(*outputs[1:7])
        pieces: dict[int, list[Answer]] = {}
        nulls: dict[int, Answer] = {}
        rows = zip(windows, found.null_start.tolist(), found.null_end.tolist(), _spans(found), strict=True)
        for window, null_start, null_end, best in rows:
            question, null = references.question(window), Answer("", null_start, null_end)
            nulls[question] = min(null, nulls.get(question, null), key=lambda answer: answer.score)
            pieces.setdefault(question, []).extend(
                Answer(references.text(window, start, end), start_logit, end_logit)
                for start, end, start_logit, end_logit in best
                if start_logit > IMPOSSIBLE
            )
        return {
            references.ids[question]: spans.n_best(
                pieces[question], nulls[question] if self.unanswerable else None, self.n_best
            )
            for question in sorted(pieces)
        }

    def _thresholds(
        self,
        n_best: Mapping[str, Sequence[Answer]],
        odds: Mapping[str, float],
        gold: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, float]:
        """The best that a threshold reaches for either metric, and where; nothing where answers are hidden."""
        if gold is None:
            return {}
        scored = squad.each(spans.chosen(n_best, None), gold)
        found = {}
        for name, scores in (("exact_match", scored.exact_match), ("f1", scored.f1)):
            found[f"best_{name}"], found[f"best_{name}_threshold"] = squad.best_threshold(scores, odds, gold)
        return found


def _spans(found: Candidates) -> Iterator[list[tuple[int, int, float, float]]]:
    """Of each window, its best: where a span starts and ends, and both logits."""
    columns = (found.start, found.end, found.start_logit, found.end_logit)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield list(zip(*row, strict=True))
