"""The built-in sample: rows in the hub's schemas, made by a small grammar and labelled by construction.

No row is taken from any data set. The same seed gives the same rows on every machine, and no content (who did what to
whom) stands in two splits. Test labels are hidden (-1) as on the hub, but for MRPC, whose are public.
"""

from collections.abc import Iterator
from random import Random

import pyarrow as pa

from protoformer.data.sample import glue, lexicon
from protoformer.data.sample.meaning import Genre, draw, realise
from protoformer.errors import DataError

GLUE = "nyu-mll/glue"
ROWS = {"train": 20000, "validation": 500, "test": 200}
BUCKETS = {  # of ten: no event stands in two splits
    "train": range(4, 10),
    "validation": range(2),
    "validation_matched": range(1),
    "validation_mismatched": range(1, 2),
    "test": range(2, 4),
    "test_matched": range(2, 3),
    "test_mismatched": range(3, 4),
}
PLAIN = ("train", "validation", "test")
SPLITS = dict.fromkeys(glue.TASKS, PLAIN) | {
    "mnli": ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"),
    "ax": ("test",),
}


def available() -> list[tuple[str, str, str]]:
    """Every data set, subset and split that there is."""
    return [(GLUE, subset, split) for subset, splits in SPLITS.items() for split in splits]


def generate(dataset: str, subset: str | None, split: str, seed: int = 0, rows: int | None = None) -> pa.Table:
    """All rows of a split. Raises DataError for what the sample has not, naming what it has."""
    if (dataset, subset, split) not in available():
        known = sorted({f"{data}/{part}" for data, part, _ in available()})
        splits = SPLITS.get(subset or "", ()) if dataset == GLUE else ()
        there = f"its splits are {', '.join(splits)}" if splits else f"it has {', '.join(known)}"
        raise DataError(f"source=sample has no {dataset}/{subset}, split {split}; {there}")
    assert subset is not None
    role = split.split("_")[0]
    random = Random(f"{seed}/{subset}/{split}")
    genre: Genre = "country" if split.endswith("mismatched") else "town"
    made = glue.TASKS[subset](random, BUCKETS[split], genre)
    table = [{**next(made), "idx": number} for number in range(rows or ROWS[role])]
    if role == "test" and subset != "mrpc":
        for row in table:
            row["label"] = -1.0 if subset == "stsb" else -1
    return pa.Table.from_pylist(table)


def corpus(seed: int = 0) -> Iterator[str]:
    """Sentences that hold every word of the lexicon, to learn a vocabulary from."""
    random = Random(f"{seed}/corpus")
    for task in glue.TASKS.values():
        made = task(random, range(10), "town")
        for _ in range(300):
            yield from (str(text) for text in next(made).values() if isinstance(text, str))
    for verb in lexicon.VERBS.values():
        yield " ".join((verb.base, verb.past, verb.participle, *verb.other))
    yield " ".join([*lexicon.KIND, *lexicon.KINDS, *lexicon.MANNERS, *lexicon.OPPOSITE, *lexicon.GOOD, *lexicon.BAD])
    yield " ".join(part for parts in (*lexicon.PLACES.values(), *lexicon.TIMES.values()) for part in parts)
    for genre in ("town", "country"):
        yield realise(draw(random, genre))
