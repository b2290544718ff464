"""Metrics of a split as functions of its examples, from what a run's folder or a file of predictions holds, for significance
tests.

Metrics that are means over examples stand in `example_scores/`, and so do the sums of which perplexity and ratios are made;
the others are computed from `predictions/` again, and must give the number of `result.json`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting.comparison.examples import Examples, Predictions, Row
from protoformer.runs import reader
from protoformer.significance import class_metrics, metrics, translation_metrics
from protoformer.significance.metrics import Metric, value

Builder = Callable[[Predictions], Metric | None]
TOLERANCE = 2e-3  # predictions are rounded
BITS = ("bits_per_byte", "bits_per_character")
PER_TOKEN = "perplexity_per_token"
MECAB = ("ja-mecab", "ko-mecab")


def of_examples(examples: Examples) -> dict[str, Metric]:
    """Name -> metric, for each metric of a split that can be computed example by example, in the order of result.json.

    Raises UserError where predictions and `result.json` disagree.
    """
    recorded = examples.metrics
    functions: dict[str, Metric] = _perplexities(examples.sums(), len(examples.scores))
    functions |= _bits(examples.sums(), recorded)
    functions |= {name: metrics.ratio_of_sums(*pair) for name, pair in examples.ratios().items()}
    functions |= _correlations(examples.sums(), recorded)
    functions |= {name: metrics.mean(examples.column(name)) for name in reader.score_names(examples.scores)}
    if examples.are_labelled:
        names = [*recorded, *(["chrf"] if "bleu" in recorded else [])]
        for name in names:
            number = recorded.get(name)
            if name in functions or not (number is None or np.isfinite(number)):
                continue
            metric = _built(name, examples.predictions)
            if metric is not None:
                _check(examples, name, value(metric), number)
                functions[name] = metric
    order = {name: index for index, name in enumerate(recorded)}
    return {name: functions[name] for name in sorted(functions, key=lambda name: order.get(name, len(order)))}


class ByExample(Protocol):
    """What of an evaluation metrics are computed from."""

    @property
    def notes(self) -> Mapping[str, str]: ...

    def rows(self) -> Iterator[Row]: ...

    def example_scores(self) -> Mapping[str, Sequence[float]]: ...

    def example_sums(self) -> Mapping[str, Sequence[float]]: ...


def of_evaluation(evaluation: ByExample, names: Sequence[str]) -> dict[str, Metric]:
    """Those of the named metrics that can be computed example by example, of an evaluation with at least one example, all of
    them labelled."""
    functions = _correlations(evaluation.example_sums(), dict.fromkeys(names, 0.0))
    functions |= {name: metrics.mean(scores) for name, scores in evaluation.example_scores().items() if name in names}
    predictions = Predictions.of_rows(list(evaluation.rows()), evaluation.notes)
    for name in names:
        metric = _built(name, predictions) if name not in functions else None
        if metric is not None:
            functions[name] = metric
    return functions


def _built(name: str, predictions: Predictions) -> Metric | None:
    """A metric of predictions; where shots were drawn several times, the mean over the draws."""
    builder = BUILDERS.get(name)
    if builder is None:
        return None
    draws = np.asarray([row.get("draw", 0) for row in predictions.rows])
    parts = []
    for draw in np.unique(draws):
        indices = np.flatnonzero(draws == draw)
        metric = builder(replace(predictions, rows=[predictions.rows[int(index)] for index in indices]))
        if metric is None:
            return None
        parts.append((indices, metric))
    return parts[0][1] if len(parts) == 1 else metrics.MeanOverDraws(parts)


def _perplexities(sums: Mapping[str, Sequence[float]], examples: int) -> dict[str, Metric]:
    """Perplexity per token, or per example where tokens are not counted; the accuracy of masked tokens."""
    functions: dict[str, Metric] = {}
    for prefix in ("", "mlm_"):
        if f"{prefix}log_likelihood" in sums:
            tokens = sums.get(f"{prefix}tokens", [1.0] * examples)
            functions[f"{prefix}perplexity"] = metrics.perplexity(sums[f"{prefix}log_likelihood"], tokens)
            if f"{prefix}correct" in sums:
                functions[f"{prefix}accuracy"] = metrics.ratio_of_sums(sums[f"{prefix}correct"], tokens)
    return functions


def _bits(sums: Mapping[str, Sequence[float]], recorded: Mapping[str, float | None]) -> dict[str, Metric]:
    """Bits per byte and per character of a language model: those per token times the tokens per byte of the whole split (from
    result.json). Of several strides those of the first, which the log-likelihoods are of."""
    if not {"log_likelihood", "tokens"} <= sums.keys() or not any(sums["log_likelihood"]):
        return {}
    losses, tokens = -np.asarray(sums["log_likelihood"]), np.asarray(sums["tokens"])
    per_token = losses.sum() / tokens.sum()
    functions: dict[str, Metric] = {}
    for name, bits in recorded.items():
        measure, stride, _ = name.partition("_stride_")
        if bits is None or measure not in BITS:
            continue
        perplexity = recorded.get(f"{PER_TOKEN if stride else 'perplexity'}{name.removeprefix(measure)}")
        if perplexity and np.isclose(np.log(perplexity), per_token, rtol=1e-6):
            functions[name] = metrics.ratio_of_sums(losses * (bits / per_token), tokens)
    return functions


def _correlations(sums: Mapping[str, Sequence[float]], recorded: Mapping[str, float | None]) -> dict[str, Metric]:
    """Of numbers that the run recorded as they are; those of `predictions/` are rounded."""
    if "prediction" not in sums:
        return {}
    predictions, references = (np.asarray(sums[name]) for name in ("prediction", "reference"))
    functions: dict[str, Metric] = {
        "pearson": metrics.pearson(predictions, references),
        "spearman": metrics.Spearman(predictions, references),
    }
    return {name: function for name, function in functions.items() if name in recorded}


def _check(examples: Examples, name: str, computed: float, recorded: float | None) -> None:
    scale = 100 if (recorded or 0) > 1 else 1  # BLEU may be recorded as papers print it
    if recorded is not None and abs(scale * computed - recorded) > TOLERANCE * scale:
        raise UserError(
            f"{examples.source}: predictions/{examples.split}.jsonl has {name} {scale * computed:.4f}, result.json "
            f"{recorded:.4f}: one of the two is not this run's, or predictions differ by less than they are rounded to"
        )


def _labels(predictions: Predictions) -> tuple[list[int], list[int], int] | None:
    """Predicted and reference labels as numbers, in the order of the task's labels, and their number; None where the order is
    not known, or where examples have options of their own."""
    numbers = {label: number for number, label in enumerate(predictions.labels or ())}
    rows = predictions.rows
    if not all(str(row[key]) in numbers for row in rows for key in ("prediction", "label")):
        return None
    predicted, references = ([numbers[str(row[key])] for row in rows] for key in ("prediction", "label"))
    return predicted, references, len(numbers)


def _of_classes(name: class_metrics.Name, average: class_metrics.Average, predictions: Predictions) -> Metric | None:
    labels = _labels(predictions)
    return None if labels is None else class_metrics.of_classes(name, average, *labels)


def _matthews(predictions: Predictions) -> Metric | None:
    labels = _labels(predictions)
    return None if labels is None else class_metrics.matthews(*labels)


def _auroc(predictions: Predictions) -> Metric | None:
    """Of two labels; that of several has no order of its examples."""
    labels = _labels(predictions)
    rows = predictions.rows
    if labels is None or labels[2] != 2 or "probabilities" not in rows[0]:
        return None
    second = list(rows[0]["probabilities"])[1]
    scores = np.asarray([row["probabilities"][second] for row in rows])
    return class_metrics.Auroc(scores, np.asarray(labels[1], dtype=float))


def _numbers(rows: Sequence[Row]) -> tuple[list[float], list[float]] | None:
    try:
        return [float(row["prediction"]) for row in rows], [float(row["label"]) for row in rows]
    except (TypeError, ValueError):
        return None


def _pearson(predictions: Predictions) -> Metric | None:
    numbers = _numbers(predictions.rows)
    return None if numbers is None else metrics.pearson(*numbers)


def _spearman(predictions: Predictions) -> Metric | None:
    numbers = _numbers(predictions.rows)
    return None if numbers is None else metrics.Spearman(*map(np.asarray, numbers))


def _texts(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Hypotheses, and the first reference of each."""
    references = [row["label"][0] if isinstance(row["label"], list) else row["label"] for row in rows]
    return [str(row["prediction"]) for row in rows], [str(each) for each in references]


def _bleu(predictions: Predictions) -> Metric:
    """By the tokenizer of the signature that the run wrote down."""
    parts = str(predictions.notes.get("bleu", "")).split("|")
    tokenizer = next((part.partition(":")[2] for part in parts if part.startswith("tok:")), None)
    # a signature has the version of MeCab's dictionary behind the tokenizer's name
    tokenizer = next((name for name in MECAB if (tokenizer or "").startswith(name)), tokenizer)
    return translation_metrics.bleu(*_texts(predictions.rows), tokenizer)


def _chrf(predictions: Predictions) -> Metric:
    return translation_metrics.chrf(*_texts(predictions.rows))


NAMES: tuple[class_metrics.Name, ...] = ("f1", "precision", "recall")
AVERAGES: Mapping[str, class_metrics.Average] = {"": "binary", "_macro": "macro", "_weighted": "weighted"}
BUILDERS: Mapping[str, Builder] = {
    **{
        f"{name}{suffix}": partial(_of_classes, name, average) for name in NAMES for suffix, average in AVERAGES.items()
    },
    "matthews_correlation": _matthews,
    "auroc": _auroc,
    "pearson": _pearson,
    "spearman": _spearman,
    "bleu": _bleu,
    "chrf": _chrf,
}
