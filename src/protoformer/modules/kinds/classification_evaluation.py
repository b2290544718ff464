"""Evaluation of classification, regression and choices: labels with probabilities, or numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from protoformer.modules.evaluation import Evaluation, Misclassified, PredictionRow
from protoformer.scoring.calibration import LabelScores


@dataclass(frozen=True, kw_only=True)
class ClassificationEvaluation(Evaluation):
    """All examples of a split, in order of id; a reference of -1 is hidden. `labels` None: regression."""

    lists_misclassified = True

    ids: Int[Tensor, "examples"]
    logits: Float[Tensor, "examples labels"]
    references: Tensor
    labels: Sequence[str] | None

    def rows(self) -> Iterator[PredictionRow]:
        """Labels by name (a hidden one is None), and the probability of each; of a regression the numbers."""
        if self.labels is None:
            for example_id, prediction, gold in zip(self.ids, self.logits[:, 0], self.references, strict=True):
                label = None if gold == -1 else round(float(gold), 4)
                yield {"id": int(example_id), "prediction": round(float(prediction), 4), "label": label}
            return
        all_probs = self.logits.softmax(-1).tolist()
        predictions = self.logits.argmax(-1).tolist()
        columns = zip(self.ids, all_probs, predictions, self.references.tolist(), strict=True)
        for example_id, probs, prediction, gold in columns:
            yield {
                "id": int(example_id),
                "prediction": self.labels[prediction],
                "label": None if gold == -1 else self.labels[int(gold)],
                "probabilities": {label: round(p, 5) for label, p in zip(self.labels, probs, strict=True)},
            }

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        """Accuracy; a correlation, and F1 over a class, are no means over examples."""
        if self.labels is None or bool((self.references == -1).any()):
            return {}
        return {"accuracy": (self.logits.argmax(-1) == self.references).float().tolist()}

    def example_sums(self) -> Mapping[str, Sequence[float]]:
        """Of a regression the numbers, which `rows` rounds: too much for a model that hardly tells examples apart."""
        if self.labels is not None or bool((self.references == -1).any()):
            return {}
        return {"prediction": self.logits[:, 0].tolist(), "reference": self.references.tolist()}

    def confidences(self) -> LabelScores | None:
        labelled = self.references != -1
        if self.labels is None or not bool(labelled.any()):
            return None
        return LabelScores(self.logits[labelled].double().numpy(), self.references[labelled].long().numpy())

    def misclassified(self, texts: Sequence[str]) -> list[Misclassified]:
        """The largest probability first; of a regression the largest distance."""
        rows = []
        for row in self.rows():
            if row["label"] is None or row["label"] == row["prediction"]:
                continue
            prob = row["probabilities"][row["prediction"]] if self.labels else abs(row["prediction"] - row["label"])
            rows.append(Misclassified(texts[row["id"]], row["label"], row["prediction"], prob))
        return sorted(rows, key=lambda row: -row.confidence)
