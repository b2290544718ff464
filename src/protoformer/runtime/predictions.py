"""Predictions on disk: one line an example, in order of row number, labels in words."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from protoformer.modules.classification import Outputs


def rows(outputs: Outputs, labels: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """What stands in the file, example by example. A hidden reference (-1) is null."""
    if labels is None:
        for number, logits, gold in zip(outputs.ids, outputs.logits[:, 0], outputs.references, strict=True):
            label = None if gold == -1 else round(float(gold), 4)
            yield {"id": int(number), "prediction": round(float(logits), 4), "label": label}
        return
    shares = outputs.logits.softmax(-1)
    best = outputs.logits.argmax(-1).tolist()
    for number, share, guess, gold in zip(outputs.ids, shares.tolist(), best, outputs.references.tolist(), strict=True):
        yield {
            "id": int(number),
            "prediction": labels[guess],
            "label": None if gold == -1 else labels[int(gold)],
            "probabilities": {word: round(p, 5) for word, p in zip(labels, share, strict=True)},
        }


def write(path: Path, outputs: Outputs, labels: Sequence[str] | None) -> None:
    """Whole or not at all: written beside its place, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.part")
    with passing.open("w", encoding="utf-8") as file:
        for row in rows(outputs, labels):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(passing, path)


def mistakes(outputs: Outputs, labels: Sequence[str] | None, texts: Sequence[str]) -> list[list[Any]]:
    """Text, gold, predicted, and the probability (regression: the distance), the worst first."""
    found = []
    for row in rows(outputs, labels):
        if row["label"] is None or row["label"] == row["prediction"]:
            continue
        worth = row["probabilities"][row["prediction"]] if labels else abs(row["prediction"] - row["label"])
        found.append([texts[row["id"]], row["label"], row["prediction"], worth])
    return sorted(found, key=lambda row: -row[3])
