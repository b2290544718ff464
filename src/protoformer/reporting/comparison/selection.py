"""How compared runs came to be: settings in which those of a side differ, and how their checkpoints were chosen, since scores
on what they were chosen by are higher than on other data."""

from collections.abc import Collection, Iterator

from protoformer.reporting.comparison.sides import Side, Sides
from protoformer.reporting.recipes import differing, settings
from protoformer.runs.metrics import read_curves
from protoformer.runs.reader import Record

KEYS = 4  # differing settings that are named


def notes(sides: Sides, splits: Collection[str]) -> Iterator[str]:
    """Sentences on the settings of each side's runs, and one on the checkpoints of both, where a run chose among several."""
    for title, side in zip(("these", "with"), sides, strict=True):
        keys = differing([settings(record.config) for record in side.records])
        if keys:
            more = f" and {len(keys) - KEYS} more" if len(keys) > KEYS else ""
            yield f"{title}: runs of different settings ({', '.join(keys[:KEYS])}{more}), taken for seeds of one system"
    if not any(_is_chosen(record) for side in sides for record in side.records):
        return
    these, others = map(_of_side, sides)
    dev = [split for split in splits if split.startswith("val")]
    biased = f"; scores on {', '.join(dev)}, by which they were chosen, are higher than on other data" if dev else ""
    yield f"checkpoints: these: {these}; with: {others}{biased}"


def _of_side(side: Side) -> str:
    counts = [_evaluations(record) for record in side.records if _is_chosen(record)]
    parts = []
    if counts:
        parts.append(f"the best on dev of {_range(counts)} in each run")
    if any((record.result or {}).get("averaged") for record in side.records):
        parts.append("an average of the last ones")
    if side.files:
        parts.append("files do not say")
    return ", ".join(parts) or "not chosen"


def _is_chosen(record: Record) -> bool:
    result = record.result or {}
    return bool(result.get("best")) and not result.get("averaged") and _evaluations(record) > 1


def _evaluations(record: Record) -> int:
    """The number of evaluations on dev that the log of a run has."""
    file = record.folder / "metrics.jsonl"
    return len(read_curves(file).get("val/score", ([], []))[0]) if file.exists() else 0


def _range(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
