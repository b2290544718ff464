"""Extractive question answering (arXiv 1810.04805, sections 4.2 and 4.3): the answer is a span of the context.

Each token gets a start and an end logit. The loss of a window is the mean of two cross-entropies over its tokens, for the start
and for the end of the answer; a window without its question's answer has both at the null position (BERT's [CLS], GPT's extract
token). Of an evaluated window its n best spans are kept, not its logits; `scoring.spans` decodes them.

Differs: padding takes no part in the softmax (in the paper's code it does).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.batches import SpanBatch
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import SpanHead
from protoformer.modules.evaluation import EvalOutputs, PredictionRow, Stage, gather_examples
from protoformer.modules.kinds.span_evaluation import NO_ANSWER, QuestionReferences, SpanEvaluation
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget
from protoformer.modules.objective.auxiliary import AuxiliaryLanguageModel
from protoformer.modules.objective.loss import Loss
from protoformer.modules.queries import Prediction, Query, QueryColumns, QueryEncoder, RankedPredictions, rounded
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.scoring import spans, squad
from protoformer.scoring.spans import NEG_INF, Answer, SpanCandidates


class SpanModule(TaskModule[SpanBatch, QuestionReferences]):
    """Keeps the `n_best` spans of at most `max_answer` tokens. With `unanswerable` a question may have no answer; that is
    predicted where the null odds exceed `null_threshold`, or (None) the threshold that is best for F1 on the first
    development split. `aux_lm_weight` is lambda of the auxiliary language model (see `auxiliary`), a window being an example.
    """

    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")  # their mean is the score
    backbone: Backbone

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
        self.tuned_threshold: float | None = None  # the best for F1 on dev
        self.auxiliary = AuxiliaryLanguageModel(backbone, aux_lm_weight)
        self.head = SpanHead(backbone.d_model)
        backbone.pooler.requires_grad_(False)  # unused: DDP would wait for its gradient

    def forward(self, batch: SpanBatch) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        return self.logits(self.hidden(batch))

    def hidden(self, batch: SpanBatch) -> HiddenStates:
        return self.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"], lengths=batch.get("lengths"))

    def logits(self, hidden: HiddenStates) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        """Start and end logits of every token; 0 at padding where the backbone packs."""
        start, end = self.head(hidden.tokens)
        return hidden.layout.unpack(start), hidden.layout.unpack(end)

    def flops(self, batch: SpanBatch) -> Tensor:
        return super().flops(batch) + self.auxiliary.flops(batch["padding_mask"], batch.get("lengths"))

    def restore(self, metrics: Mapping[str, float]) -> None:
        """Take over the threshold of no answer."""
        self.tuned_threshold = next((value for name, value in metrics.items() if name.endswith("null_threshold")), None)

    @property
    def restored_values(self) -> Mapping[str, float | None]:
        return {"null_threshold": self.tuned_threshold}

    def query_columns(self, reader: Any) -> QueryColumns:
        return QueryColumns([reader.question], reader.context)

    def predict_queries(self, queries: Sequence[Query], encoder: QueryEncoder) -> list[list[RankedPredictions]]:
        contexts = [query.pair for query in queries if query.pair is not None]
        if len(contexts) != len(queries):
            raise ConfigurationError(
                "this run's task answers a question from a context: --text QUESTION --pair CONTEXT"
            )
        reader, names = encoder.reader, [str(number) for number in range(len(queries))]
        questions = [query.text for query in queries]
        rows = encoder.encode_rows({reader.id: names, reader.question: questions, reader.context: contexts})
        outputs = gather_examples([self.eval_step(batch) for batch in rows.batches()], world_size=1)
        n_best = self.n_best_answers(outputs, rows.references)
        threshold = self.tuned_threshold if self.null_threshold is None else self.null_threshold
        # without a tuned threshold no answer is one of the n-best, like the others
        predicted = spans.chosen(n_best, (threshold or 0.0) if self.unanswerable else None)
        rankings = []
        for name, query in zip(names, queries, strict=True):
            answers = sorted(n_best[name], key=lambda answer: answer.text != predicted[name])[: query.top]
            predictions = [Prediction(answer.text or NO_ANSWER, answer.probability) for answer in answers]
            rankings.append([RankedPredictions("answer", predictions)])
        return rankings

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        """Start logit plus end logit of the most probable span of the context, whether the question has an answer or not."""
        if query.requested is not None:
            raise ConfigurationError("--target: a span is attributed as the model predicts it; leave it out")
        positions = torch.arange(len(query.ids))
        separators = positions[query.special & (positions > 0)]
        context = (
            (~query.special & (positions > separators[0]))[None] if len(separators) else query.special[None] & False
        )
        if not context.any():
            raise ConfigurationError(
                "this run's task answers a question from a context: --text QUESTION --text-b CONTEXT"
            )
        starts, ends = (each.float() for each in self.logits(query.hidden))
        null = torch.tensor([query.pooler_position])
        best = spans.candidates(starts, ends, context, context, null, n_best=self.n_best, max_answer=self.max_answer)
        start, end = int(best.start[0, 0]), int(best.end[0, 0])

        def logit(hidden: HiddenStates) -> Float[Tensor, "batch"]:
            of_starts, of_ends = self.logits(hidden)
            return of_starts[:, start] + of_ends[:, end]

        return LogitTarget(f"answer {query.tokenizer.decode(query.ids[start : end + 1].tolist())}", logit)

    def prediction_row(self, query: Query, rankings: Sequence[RankedPredictions]) -> PredictionRow:
        """The answer (empty: there is none) with its probability among the n-best, which follow it."""
        (ranking,) = rankings
        answers = [
            {"text": "" if each.text == NO_ANSWER else each.text, "probability": rounded(each.probability or 0.0)}
            for each in ranking.predictions
        ]
        return {"prediction": answers[0]["text"], "probability": answers[0]["probability"], "n_best": answers}

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
        loss = Loss((self._window_losses(batch, start.float(), end.float()) * real).sum(), real.sum())
        return self.auxiliary.add_to(loss, hidden, batch["ids"], self.backbone.output_weight, real)

    def _window_losses(self, batch: SpanBatch, start: Tensor, end: Tensor) -> Float[Tensor, "batch"]:
        # finite in place of -inf: the gradient of a row that is all padding would be NaN
        padding = ~batch["padding_mask"]
        start_loss, end_loss = (
            functional.cross_entropy(logits.masked_fill(padding, NEG_INF), position, reduction="none")
            for logits, position in ((start, batch["start_position"]), (end, batch["end_position"]))
        )
        return (start_loss + end_loss) / 2

    def eval_step(self, batch: SpanBatch) -> EvalOutputs:
        """Of each real window: id, the `n_best` spans (start, end, their logits), the logits of no answer, the loss."""
        real = batch["example_ids"] >= 0
        start, end = (logits.float() for logits in self(batch))
        # a start must be where this window has the most context; an end may be anywhere in the context
        best = spans.candidates(
            start,
            end,
            batch["context_mask"] & batch["max_context_mask"],
            batch["context_mask"],
            batch["null_position"],
            n_best=self.n_best,
            max_answer=self.max_answer,
        )
        missing = (0, self.n_best - best.start.shape[1])  # a short window has fewer spans
        outputs = (
            batch["example_ids"],
            functional.pad(best.start, missing),
            functional.pad(best.end, missing),
            functional.pad(best.start_logit, missing, value=NEG_INF),
            functional.pad(best.end_logit, missing, value=NEG_INF),
            best.null_start,
            best.null_end,
            self._window_losses(batch, start, end),
        )
        return tuple(tensor[real] for tensor in outputs)

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> SpanEvaluation:
        losses = outputs[-1]
        references = self.references[stage][split]
        n_best = self.n_best_answers(outputs, references)
        odds = {name: spans.null_odds(answers) for name, answers in n_best.items()} if self.unanswerable else {}
        gold = None
        if references.gold is not None:
            answers = dict(zip(references.ids, references.gold, strict=True))
            gold = {name: answers[name] for name in n_best}
        scores: dict[str, float] = {}
        other_metrics: dict[str, float] = {}
        threshold = None
        if gold is not None:
            other_metrics["loss"] = float(losses.mean())
        if self.unanswerable:
            tuned = self._thresholds(n_best, odds, gold)
            if stage == "val" and split == self.splits["val"][0]:
                self.tuned_threshold = tuned.get("best_f1_threshold")
            threshold = self.tuned_threshold if self.null_threshold is None else self.null_threshold
            if threshold is None:
                raise ConfigurationError(
                    "the development split hides its answers, so no threshold for no answer can be tuned on it; add "
                    "task.module.null_threshold=<number>"
                )
            other_metrics |= {**tuned, "null_threshold": threshold}
        predictions = spans.chosen(n_best, threshold)
        if gold is not None:
            means = squad.score(predictions, gold)
            scores = {name: means.pop(name) for name in self.metrics}
            other_metrics |= means
        return SpanEvaluation(
            scores=scores,
            other_metrics=other_metrics,
            n_best=n_best,
            predictions=predictions,
            gold=gold,
            null_odds=odds,
        )

    def n_best_answers(self, outputs: EvalOutputs, references: QuestionReferences) -> dict[str, list[Answer]]:
        """The n-best answers of each question over all its windows, in order of the questions; `outputs` as of `eval_step`."""
        windows, best = outputs[0].tolist(), SpanCandidates(*outputs[1:7])
        answers: dict[int, list[Answer]] = {}
        nulls: dict[int, Answer] = {}
        rows = zip(windows, best.null_start.tolist(), best.null_end.tolist(), _window_spans(best), strict=True)
        for window, null_start, null_end, window_spans in rows:
            question, null = references.question(window), Answer("", null_start, null_end)
            # no answer is as likely as the window that says so least (BERT's code)
            nulls[question] = min(null, nulls.get(question, null), key=lambda answer: answer.score)
            answers.setdefault(question, []).extend(
                Answer(references.text(window, start, end), start_logit, end_logit)
                for start, end, start_logit, end_logit in window_spans
                if start_logit > NEG_INF
            )
        return {
            references.ids[question]: spans.n_best(
                answers[question], nulls[question] if self.unanswerable else None, self.n_best
            )
            for question in sorted(answers)
        }

    def _thresholds(
        self,
        n_best: Mapping[str, Sequence[Answer]],
        odds: Mapping[str, float],
        gold: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, float]:
        """The best value of either metric over all thresholds of the null odds, and that threshold; empty where answers are
        hidden."""
        if gold is None:
            return {}
        scored = squad.each(spans.chosen(n_best, None), gold)
        best = {}
        for name, scores in (("exact_match", scored.exact_match), ("f1", scored.f1)):
            best[f"best_{name}"], best[f"best_{name}_threshold"] = squad.best_threshold(scores, odds, gold)
        return best


def _window_spans(best: SpanCandidates) -> Iterator[list[tuple[int, int, float, float]]]:
    """The spans of each window as (start, end, start logit, end logit), the best first."""
    columns = (best.start, best.end, best.start_logit, best.end_logit)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield list(zip(*row, strict=True))
