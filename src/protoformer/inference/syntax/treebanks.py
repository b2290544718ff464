"""Treebanks that heads are chosen on and reported on: files, halves of a file, or the built-in sample."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from protoformer.errors import ConfigurationError
from protoformer.sample import BUCKETS
from protoformer.sample.treebank import treebank as sample_treebank
from protoformer.syntax import treebank
from protoformer.syntax.treebank import Sentence

SAMPLE = "sample"
SAMPLE_SENTENCES = {"validation": 500, "test": 500}  # heads are chosen on the first, and reported on the second


def read(
    choose_on: str, report_on: Sequence[str], first: int | None
) -> tuple[list[Sentence], dict[str, list[Sentence]]]:
    """Sentences to choose on, and those to report on by the treebank's name; of each treebank the `first` ones alone.

    Raises ConfigurationError where both are the same file, or where one sentence would have to be both.
    """
    names = [choose_on, *report_on]
    paths = [Path(name).expanduser().resolve() for name in names]
    if repeated := next((name for name, path in zip(names, paths, strict=True) if paths.count(path) > 1), None):
        raise ConfigurationError(
            f"--report-on {repeated}: heads are chosen on this treebank, or it is named twice; name another one"
        )
    if choose_on == SAMPLE:
        chosen, other = (_sample(split)[:first] for split in SAMPLE_SENTENCES)
        return chosen, {"sample, test": other} | _files(report_on, first)
    chosen = treebank.read(Path(choose_on).expanduser())[:first]
    if report_on:
        return chosen, _files(report_on, first)
    if len(chosen) < 2:
        raise ConfigurationError(f"{choose_on}: a single sentence; one half is to choose on, the other to report on")
    return chosen[::2], {f"{Path(choose_on).stem}, every second sentence": chosen[1::2]}


def _files(names: Iterable[str], first: int | None) -> dict[str, list[Sentence]]:
    """By the file's name, or by its path where several files have one name."""
    names = list(names)
    stems = [Path(name).stem for name in names]
    titles = [stem if stems.count(stem) == 1 else name for name, stem in zip(names, stems, strict=True)]
    return {title: treebank.read(Path(name).expanduser())[:first] for title, name in zip(titles, names, strict=True)}


def _sample(split: str) -> list[Sentence]:
    return treebank.parse(sample_treebank(Random(split), BUCKETS[split], SAMPLE_SENTENCES[split]), "sample")
