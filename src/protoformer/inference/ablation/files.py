"""CSV files of ablations."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import replace_atomically
from protoformer.inference.ablation.results import Ablation, Pruning
from protoformer.interventions.heads import Head


def write_ablations(folder: Path, ablations: Sequence[Ablation], syntactic: Mapping[Head, Sequence[str]]) -> Path:
    """`ablation.csv`: one row a head."""
    rows = [
        (each.head, each.score, each.change, each.changed, each.importance, "; ".join(syntactic.get(each.head, ())))
        for each in ablations
    ]
    return _write(folder / "ablation.csv", ("head", "score", "change", "changed", "importance", "relations"), rows)


def write_prunings(folder: Path, prunings: Sequence[Pruning]) -> Path:
    """`pruning.csv`: one row for each number of heads that are left out."""
    return _write(
        folder / "pruning.csv", ("removed", "score", "changed"), [(p.removed, p.score, p.changed) for p in prunings]
    )


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as tmp, tmp.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path
