"""Slices in a run's card: the score of each, with its number of examples and a confidence interval."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protoformer.reporting.error_analysis.slices import OF_TEXTS, Slice, slices_by
from protoformer.reporting.paper_results import is_percent
from protoformer.reporting.tables import escape_markdown, markdown_table, p_text
from protoformer.runs import reader
from protoformer.runs.predictions import CLUSTER
from protoformer.significance.means import difference_from_rest, mean_interval
from protoformer.significance.power import holm

FEWEST = 10  # examples of a slice, and outside of it, from which it is compared with the rest
HEADS = ("slice", "examples", "score", "95 % interval", "minus the rest", "p")
NOTE = (
    "Intervals are over examples: Wilson's of a fraction, Student's t of other means, whole passages at once where examples "
    "share one. *Minus the rest*: against all other examples, its p-value corrected for the number of slices (Holm), where "
    f"both have at least {FEWEST}. *length*: words of all texts; *overlap*: distinct words that two texts share, over those of "
    "the text with fewer; *negation*: no, not, n't, never and the like, in English."
)


def section(record: reader.Record) -> str:
    """A table a split with scores that are means over examples; empty where the run has none, or records no texts."""
    names = (record.config.get("views") or {}).get("slices", OF_TEXTS)
    files = sorted((record.folder / "example_scores").glob("*.jsonl"), reverse=True)  # val before test
    tables = [table for file in files if (table := _split(record, file, names))]
    return "\n\n".join([*tables, NOTE]) if tables else ""


def _split(record: reader.Record, file: Path, names: Sequence[str]) -> str:
    scored = reader.read_example_scores(record.folder, file.stem) or []
    predictions = record.folder / "predictions" / file.name
    score = next(iter(reader.score_names(scored)), None)
    if score is None or not predictions.exists():
        return ""
    rows = reader.read_predictions(predictions)
    if [row["id"] for row in rows] != [row["id"] for row in scored]:
        return ""
    slices = [(name, each) for name in dict.fromkeys(names) for each in slices_by(name, rows)]
    if not slices:
        return ""
    split = file.stem.replace("_", "/", 1)
    clusters = np.array([row[CLUSTER] for row in scored]) if all(CLUSTER in row for row in scored) else None
    scale = 100 if is_percent(f"{split}/{score}", record.result or {}) else 1
    lines = _lines(slices, np.array([float(row[score]) for row in scored]), clusters, scale)
    heads = [score if head == "score" else head for head in HEADS]
    return f"## Slices of {escape_markdown(split)}\n\n" + markdown_table(heads, lines, right=heads[1:])


def _lines(
    slices: Sequence[tuple[str, Slice]], scores: np.ndarray, clusters: np.ndarray | None, scale: float
) -> list[tuple[str, ...]]:
    gains = [
        difference_from_rest(scores, each.members, clusters)
        if FEWEST <= each.members.sum() <= len(scores) - FEWEST
        else None
        for _, each in slices
    ]
    corrected = iter(holm([gain.p for gain in gains if gain is not None]))
    lines = [_line("all", np.ones(len(scores), dtype=bool), scores, clusters, scale, ("", ""))]
    for (name, each), gain in zip(slices, gains, strict=True):
        against = ("-", "-") if gain is None else (f"{scale * gain.difference:+.2f}", p_text(next(corrected)))
        lines.append(_line(f"{name}: {each.value}", each.members, scores, clusters, scale, against))
    return lines


def _line(
    name: str,
    members: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray | None,
    scale: float,
    against: tuple[str, str],
) -> tuple[str, ...]:
    mean, interval = mean_interval(scores[members], None if clusters is None else clusters[members])
    shown = "-" if interval is None else f"{scale * interval[0]:.2f} to {scale * interval[1]:.2f}"
    return name, f"{members.sum():,}", f"{scale * mean:.2f}", shown, *against
