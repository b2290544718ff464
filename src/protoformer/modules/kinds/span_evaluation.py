"""Evaluation of extractive question answering: n-best answers, and the official files of SQuAD."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from protoformer.modules.evaluation import Evaluation, Misclassified, PredictionRow
from protoformer.scoring import squad
from protoformer.scoring.calibration import AnswerScores
from protoformer.scoring.spans import Answer

NO_ANSWER = "(no answer)"  # as it is printed


class QuestionReferences(Protocol):
    """What a split's evaluation needs: its question ids in order, their gold answers (None: hidden), the index of a window's
    question, and the text of a span of a window (`start` and `end` are positions of tokens, both included)."""

    ids: Sequence[str]
    gold: Sequence[Sequence[str]] | None

    def question(self, window: int) -> int: ...

    def text(self, window: int, start: int, end: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class SpanEvaluation(Evaluation):
    """By question id: the n-best answers, the predicted one (empty: no answer), the gold answers (None: hidden)."""

    lists_misclassified = True
    percent_metrics = frozenset({"exact_match", "f1", "best_exact_match", "best_f1"})

    n_best: Mapping[str, Sequence[Answer]]
    predictions: Mapping[str, str]
    gold: Mapping[str, Sequence[str]] | None
    # score of no answer minus that of the best; SQuAD 2.0 alone
    null_odds: Mapping[str, float] = field(default_factory=dict)

    def rows(self) -> Iterator[PredictionRow]:
        for index, (question_id, text) in enumerate(self.predictions.items()):
            label = None if self.gold is None else list(self.gold[question_id])
            yield {"id": index, "question": question_id, "prediction": text, "label": label}

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        if self.gold is None:
            return {}
        scored = squad.each(self.predictions, self.gold)
        return {"exact_match": list(scored.exact_match.values()), "f1": list(scored.f1.values())}

    def confidences(self) -> AnswerScores | None:
        """Scores of the n-best, no answer among them; an answer is right where its exact match is 1."""
        if self.gold is None or not self.n_best:
            return None
        answers = [self.n_best[name] for name in self.predictions]
        scores = np.full((len(answers), max(map(len, answers))), -np.inf)
        for row, candidates in zip(scores, answers, strict=True):
            row[: len(candidates)] = [candidate.score for candidate in candidates]
        chosen = [
            [candidate.text for candidate in candidates].index(text)
            for candidates, text in zip(answers, self.predictions.values(), strict=True)
        ]
        right = squad.each(self.predictions, self.gold).exact_match.values()
        return AnswerScores(scores, np.asarray(chosen), np.asarray([each == 1 for each in right]))

    def misclassified(self, texts: Sequence[str]) -> list[Misclassified]:
        """The confidence is the probability among the n-best; the largest first."""
        rows = []
        for row in self.rows():
            if row["label"] is None or squad.exact_match(row["prediction"], row["label"]):
                continue
            prob = next((a.probability for a in self.n_best[row["question"]] if a.text == row["prediction"]), 0.0)
            gold = " | ".join(dict.fromkeys(row["label"])) or NO_ANSWER
            rows.append(Misclassified(texts[row["id"]], gold, row["prediction"] or NO_ANSWER, prob))
        return sorted(rows, key=lambda row: -row.confidence)

    def files(self) -> dict[str, object]:
        """The official files of SQuAD: answers, n-best lists, and in v2.0 the odds of no answer."""
        n_best = {name: [_official(answer) for answer in answers] for name, answers in self.n_best.items()}
        odds = {name: max(-1e9, min(1e9, value)) for name, value in self.null_odds.items()}  # JSON has no infinity
        files: dict[str, object] = {"predictions.json": dict(self.predictions), "nbest_predictions.json": n_best}
        return files | ({"null_odds.json": odds} if odds else {})


def _official(answer: Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in ("text", "probability", "start_logit", "end_logit")}
