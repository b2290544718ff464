"""Weights of a task's head, and the words of its labels held against those of the data."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protoformer.models import weights

log = logging.getLogger(__name__)

NO_WORD = re.compile(r"(?:LABEL_)?(\d+)")  # what a label is called that nobody named


@dataclass(frozen=True)
class HeadWeights:
    """A head's tensors and its purpose: the kind of task and, for a classifier, the names of its labels.

    `labels` None with `has_labels` is a regression.
    """

    state: weights.StateDict
    kind: str
    labels: list[str] | None
    has_labels: bool

    def fits(self, task: Mapping[str, Any]) -> bool:
        """Whether it is a head for a task, its labels being in the task's order."""
        return bool(self.state) and (self.kind, self.labels) == (task["kind"], labels_of(task))

    def arranged(self, task: Mapping[str, Any], source: str) -> "HeadWeights":
        """The head with its labels in the order of the task's, where they are the same labels; the log says what was done.

        Labels are the same if their words are, apart from case, spaces, hyphens and underscores. Those of a head without words
        (LABEL_0, ...) are the task's by their number.
        """
        labels = labels_of(task)
        if not self.state or self.kind != task["kind"] or not self.labels or not labels or self.labels == labels:
            return self
        rows = label_rows(self.labels, labels)
        if rows is None:
            return self
        if rows != list(range(len(rows))):
            log.info("%s: its labels %s are put in the order of the data's, %s", source, self.labels, labels)
        elif any(NO_WORD.fullmatch(label) for label in self.labels):
            log.info(
                "%s: its labels have no words (%s): taken by number for %s", source, ", ".join(self.labels), labels
            )
        state = {
            name: tensor[rows] if tensor.ndim and len(tensor) == len(rows) else tensor
            for name, tensor in self.state.items()
        }
        return replace(self, state=state, labels=labels)


def labels_of(task: Mapping[str, Any]) -> list[str] | None:
    """The names of a classifier's labels; None for a regression, and for kinds that have no labels."""
    return task["rows"].get("labels")


def label_rows(head: Sequence[str], data: Sequence[str]) -> list[int] | None:
    """For each label of the data the number of the head's label that is the same; None where the labels are others."""
    if len(head) != len(data):
        return None
    if all((number := NO_WORD.fullmatch(label)) and int(number[1]) == index for index, label in enumerate(head)):
        return list(range(len(data)))
    rows = {_plain(label): row for row, label in enumerate(head)}
    order = [rows.get(_plain(label), -1) for label in data]
    return order if sorted(order) == list(range(len(head))) else None


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(label)).strip().casefold()
