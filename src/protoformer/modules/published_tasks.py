"""Tasks of published heads: what a folder of weights with a head does, as a run's config would say it.

A folder names its head in `config.json`, but no data set: the columns here are names for texts that a user gives.
"""

from collections.abc import Sequence
from typing import Any

TEXT, PAIR = "text", "pair"  # columns
_DATA, _MODULES = "protoformer.data", "protoformer.modules"


def task_of_head(kind: str, name: str, labels: Sequence[str] | None, max_len: int) -> dict[str, object] | None:
    """The node `task` of a config for a head of this kind; None for one that answers no question.

    `name` stands for the data set, `labels` are those of the head (None: a number).
    """
    of_kind = _tasks(labels).get(kind)
    if of_kind is None:
        return None
    rows, data, module = of_kind
    return {
        "kind": kind,
        "max_len": max_len,
        "rows": {**rows, "dataset": name} if rows else {},
        "splits": {"train": None, "validation": None, "test": None},
        "data": data,
        "module": module,
        "needs_head": True,
        "starts_from": "published",
    }


def _tasks(labels: Sequence[str] | None) -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Of each kind the nodes `rows`, `data` and `module`."""
    words = None if labels is None else list(labels)
    texts = {"_target_": f"{_DATA}.LabelledTextReader", "text_a": TEXT, "text_b": PAIR, "labels": words}
    classifier = {"labels": words, "metrics": ["accuracy"] if words else ["pearson"]}
    return {
        "classification": (
            texts,
            {"_target_": f"{_DATA}.ClassificationDataModule"},
            {"_target_": f"{_MODULES}.ClassificationModule", **classifier},
        ),
        "span": (
            {"_target_": f"{_DATA}.ExtractiveQAReader"},
            {"_target_": f"{_DATA}.SpanDataModule"},
            {"_target_": f"{_MODULES}.SpanModule"},
        ),
        "multiple_choice": (
            {"_target_": f"{_DATA}.MultipleChoiceReader", "context": TEXT, "choices": ["0", "1"], "options": "choices"},
            {"_target_": f"{_DATA}.MultipleChoiceDataModule"},
            {"_target_": f"{_MODULES}.MultipleChoiceModule", "choices": ["0", "1"], "metrics": ["accuracy"]},
        ),
        "pretraining": (
            {},
            {"_target_": f"{_DATA}.PretrainingDataModule"},
            {"_target_": f"{_MODULES}.PretrainingModule", "nsp": False},
        ),
        "causal_lm": (
            {},
            {"_target_": f"{_DATA}.LanguageModelingDataModule"},
            {"_target_": f"{_MODULES}.LanguageModule"},
        ),
        "translation": (
            {},
            {"_target_": f"{_DATA}.TranslationDataModule"},
            {"_target_": f"{_MODULES}.TranslationModule"},
        ),
    }
