"""Tables on the terminal, and files: CSV of the tables and of all heads."""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError
from protoformer.inference.syntax.probe import Counting, Report
from protoformer.inference.syntax.results import RelationResult, TreeResult
from protoformer.reporting.tables import print_table


def writable_folder(out: str) -> Path:
    """The folder of the files, made before anything is computed. Raises ConfigurationError where it cannot be."""
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: {error.strerror or error}; choose another folder") from None
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"--out {out}: it cannot be written to; choose another folder")
    return folder


def file_name(treebank: str) -> str:
    """The treebank's name as a part of file names."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", treebank)


def print_results(relations: Sequence[RelationResult], trees: Sequence[TreeResult]) -> None:
    """Both tables; of random models the best one."""
    heads = (
        "relation", "direction", "arcs", "head", "accuracy", "95 % interval", "offset", "its accuracy", "random",
        "against the offset",
    )  # fmt: skip
    rows = [
        (
            each.relation, each.direction.value, f"{each.arcs:,}", each.head, _percent(each.accuracy),
            f"{_percent(each.low)} to {_percent(each.high)}", f"{each.offset:+d}", _percent(each.offset_accuracy),
            _percent(max(each.random)) if each.random else "-", each.verdict,
        )
        for each in relations
    ]  # fmt: skip
    if rows:
        print_table(heads, rows, right=("arcs", "accuracy", "offset", "its accuracy", "random"))
    print()
    print_table(
        ("trees", "measure", "score", "95 % interval", "random"),
        [
            (
                each.name, each.measure, _percent(each.score), f"{_percent(each.low)} to {_percent(each.high)}",
                _percent(max(each.random)) if each.random else "-",
            )
            for each in trees
        ],
        right=("score", "random"),
    )  # fmt: skip


def write_tables(
    folder: Path, treebank: str, relations: Sequence[RelationResult], trees: Sequence[TreeResult], report: Report,
    counting: Counting, names: Sequence[str],
) -> list[Path]:  # fmt: skip
    """Three CSV files: `relations`, `trees`, and the accuracy of every head in `heads`, each with the treebank's name."""
    accuracy = report.accuracy()
    files: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
        "relations": (
            (
                "relation", "direction", "arcs", "head", "accuracy", "low", "high", "offset", "offset_accuracy", "random",
                "p", "holm_p", "verdict",
            ),
            [
                (
                    each.relation, each.direction.value, each.arcs, each.head, *_digits(each.accuracy, each.low, each.high),
                    each.offset, *_digits(each.offset_accuracy), " ".join(_digits(*each.random)),
                    *_digits(each.p, each.corrected_p), each.verdict,
                )
                for each in relations
            ],
        ),
        "trees": (
            ("trees", "measure", "score", "low", "high", "random"),
            [
                (each.name, each.measure, *_digits(each.score, each.low, each.high), " ".join(_digits(*each.random)))
                for each in trees
            ],
        ),
        "heads": (
            ("head", "relation", "direction", "accuracy"),
            [
                (name, relation, direction.value, *_digits(float(accuracy[cell, head])))
                for head, name in enumerate(names)
                for cell, (relation, direction) in enumerate(counting.cells)
            ],
        ),
    }  # fmt: skip
    return [write_csv(folder / f"{name}.{treebank}.csv", *content) for name, content in files.items()]


def write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _digits(*fractions: float) -> list[str]:
    return [f"{fraction:.4f}" for fraction in fractions]
