"""The built-in sample: generated rows in the hub's schemas, labelled by construction. It needs no network.

A small grammar draws *events* (who did what to what, where and when; `grammar.meaning`) from a lexicon (`grammar.lexicon`) and
renders them as English sentences. What follows from an event, contradicts it or leaves it open is known, so rows need no
annotator:

- `glue`: the nine GLUE tasks and the diagnostic set; `entailments`: SNLI and SciTail.
- `questions`: SQuAD, questions on a part of an event of a short story; `exams`: RACE and Story Cloze.
- `choices`: SWAG and COPA, continuations and causes of an event.
- `stories`: BookCorpus, Wikipedia and OpenWebText, documents to pretrain on.
- `translation`: Multi30k and WMT14, with an artificial language for the other one.

No row is taken from any data set. The same seed gives the same rows on every machine. Events are divided into ten buckets by
their content, so that none occurs in two splits. Test labels are hidden (-1) where they are on the hub.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import pyarrow as pa

from protoformer.errors import DataError
from protoformer.sample import choices, entailments, exams, glue, questions, stories, translation
from protoformer.sample.grammar import lexicon
from protoformer.sample.grammar.meaning import draw, realise

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


@dataclass(frozen=True)
class Subset:
    """How the rows of a split are made, and how many where no number is given.

    `schema` is inferred from the rows where it is None; a column idx, of rows that come without, numbers them.
    `hidden` stands for the label in a test split; None leaves it.
    """

    generate: Callable[[Random, str], glue.Rows]
    splits: tuple[str, ...]
    schema: pa.Schema | None = None
    rows: Mapping[str, int] | None = None  # ROWS
    numbered: bool = False
    hidden: float | None = None


def _glue(task: str) -> Subset:
    def generate(random: Random, split: str) -> glue.Rows:
        return glue.TASKS[task](random, BUCKETS[split], "country" if split.endswith("mismatched") else "town")

    hidden = {"stsb": -1.0, "mrpc": None}.get(task, -1)
    return Subset(generate, SPLITS[task], numbered=True, hidden=hidden)


def _squad(unanswerable: float) -> Subset:
    def generate(random: Random, split: str) -> glue.Rows:
        return questions.squad(random, BUCKETS[split], 1 if split == "train" else 3, unanswerable)

    return Subset(generate, ("train", "validation"), questions.SCHEMA, {"train": 10000, "validation": 500})


def _race(subset: str) -> Subset:
    return Subset(lambda random, split: exams.race(random, BUCKETS[split], subset), PLAIN, exams.RACE)


def _wmt(language: str) -> Subset:
    return Subset(
        lambda random, split: translation.structs(random, BUCKETS[split], language), PLAIN, translation.wmt(language)
    )


SUBSETS: dict[tuple[str, str | None], Subset] = {
    **{(GLUE, task): _glue(task) for task in glue.TASKS},
    ("rajpurkar/squad", "plain_text"): _squad(unanswerable=0.0),
    ("rajpurkar/squad_v2", "squad_v2"): _squad(unanswerable=0.4),
    ("allenai/swag", "regular"): Subset(
        lambda random, split: choices.swag(random, BUCKETS[split]), PLAIN, choices.SWAG, hidden=-1
    ),
    ("aps/super_glue", "copa"): Subset(
        lambda random, split: choices.copa(random, BUCKETS[split]), PLAIN, choices.COPA, numbered=True, hidden=-1
    ),
    ("stanfordnlp/snli", "plain_text"): Subset(
        lambda random, split: entailments.snli(random, BUCKETS[split]), PLAIN, entailments.SNLI
    ),
    ("allenai/scitail", "tsv_format"): Subset(
        lambda random, split: entailments.scitail(random, BUCKETS[split]), PLAIN, entailments.SCITAIL
    ),
    **{("ehovy/race", subset): _race(subset) for subset in exams.SENTENCES},
    ("LSDSem/story_cloze", "2016"): Subset(
        lambda random, split: exams.story_cloze(random, BUCKETS[split]),
        ("validation", "test"),
        exams.STORY_CLOZE,
        {"validation": 10000, "test": 1000},
    ),
    ("bentrevett/multi30k", None): Subset(
        lambda random, split: translation.columns(random, BUCKETS[split]), PLAIN, translation.MULTI30K
    ),
    **{("wmt/wmt14", f"{language}-en"): _wmt(language) for language in ("de", "fr")},
    ("bookcorpus/bookcorpus", None): Subset(
        lambda random, split: stories.bookcorpus(random, BUCKETS[split]), ("train",), stories.BOOKCORPUS
    ),
    ("wikimedia/wikipedia", "20231101.en"): Subset(
        lambda random, split: stories.wikipedia(random, BUCKETS[split]), ("train",), stories.WIKIPEDIA, {"train": 4000}
    ),
    ("Skylion007/openwebtext", None): Subset(
        lambda random, split: stories.wikipedia(random, BUCKETS[split]), ("train",), stories.BOOKCORPUS, {"train": 4000}
    ),
}


def available() -> list[tuple[str, str | None, str]]:
    """Every data set, subset and split that there is."""
    return [(*name, split) for name, subset in SUBSETS.items() for split in subset.splits]


def size(dataset: str, subset: str | None, split: str) -> int:
    """Rows of a split where no number is given. Raises DataError for what the sample has not, naming what it has."""
    return (_subset(dataset, subset, split).rows or ROWS)[split.split("_")[0]]


def generate(dataset: str, subset: str | None, split: str, seed: int = 0, rows: int | None = None) -> pa.Table:
    """All rows of a split. Raises DataError for what the sample has not, naming what it has."""
    part = _subset(dataset, subset, split)
    random = Random(f"{seed}/{subset}/{split}" if dataset == GLUE else f"{seed}/{dataset}/{subset}/{split}")
    generated = part.generate(random, split)
    table = [next(generated) for _ in range(rows or size(dataset, subset, split))]
    if part.numbered:
        table = [{**row, "idx": number} for number, row in enumerate(table)]
    if split.startswith("test") and part.hidden is not None:
        for row in table:
            row["label"] = part.hidden
    return pa.Table.from_pylist(table, schema=part.schema)


def _subset(dataset: str, subset: str | None, split: str) -> Subset:
    part = SUBSETS.get((dataset, subset))
    if part is None or split not in part.splits:
        known = ", ".join(sorted({"/".join(filter(None, name)) for name in SUBSETS}))
        there = f"its splits are {', '.join(part.splits)}" if part else f"it has {known}"
        raise DataError(f"source=sample has no {'/'.join(filter(None, (dataset, subset)))}, split {split}; {there}")
    return part


@functools.cache
def corpus(seed: int = 0) -> tuple[str, ...]:
    """Sentences that hold every word of the lexicon, to learn a vocabulary from."""
    return tuple(_corpus(seed))


def _corpus(seed: int) -> Iterator[str]:
    random = Random(f"{seed}/corpus")
    for task in glue.TASKS.values():
        generated = task(random, range(10), "town")
        for _ in range(300):
            yield from (str(text) for text in next(generated).values() if isinstance(text, str))
    for verb in lexicon.VERBS.values():
        yield " ".join((verb.base, verb.past, verb.participle, *verb.other))
    yield " ".join([*lexicon.KIND, *lexicon.KINDS, *lexicon.MANNERS, *lexicon.OPPOSITE, *lexicon.GOOD, *lexicon.BAD])
    yield " ".join(part for parts in (*lexicon.PLACES.values(), *lexicon.TIMES.values()) for part in parts)
    for genre in ("town", "country"):
        yield realise(draw(random, genre))
