"""`protoformer overlap`: how much of test sets stands in a training corpus, and the scores on the part that does not."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, UserError
from protoformer.reporting.tables import make_console, print_table
from protoformer.runs import reader
from protoformer.runs.digests import matching_files

if TYPE_CHECKING:
    from protoformer.contamination.overlap import CorpusNgrams, Overlap, TestSet

HELP = "how much of test sets stands in a training corpus, and scores on the clean part"
BOUND = 1e-8
EVERY_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help="text, JSON lines or parquet files, as a name or a pattern")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TASK|KEY=VALUE",
        help="tasks, and keys of train for all of them (source=local source.root=DIR)",
    )
    parser.add_argument(
        "--run", nargs="+", default=[], metavar="RUN", help="finished runs of these tasks, to be scored again"
    )
    parser.add_argument(
        "--bound", type=float, default=BOUND, help=f"on the rate of false positives (default: {BOUND:g})"
    )


def run(options: argparse.Namespace) -> None:
    records = [reader.read(Path(folder)) for folder in options.run]
    tasks = [word for word in options.words if "=" not in word] or list(dict.fromkeys(each.task for each in records))
    if not tasks:
        raise ConfigurationError("no test set: name tasks, such as lm/lambada, or finished runs (--run RUN)")
    if not 0 < options.bound < 1:
        raise ConfigurationError(f"--bound {options.bound:g}: between 0 and 1")
    overrides = [word for word in options.words if "=" in word]
    # not at the top: numpy, pyarrow and tokenizers are slow to import
    from protoformer.contamination.ngrams import words
    from protoformer.contamination.overlap import EIGHT, CorpusNgrams, overlap

    test_sets = [test_set for task in tasks for test_set in _test_sets(task, overrides, records)]
    paths = matching_files(options.corpus)
    if not paths:
        raise UserError(f"{options.corpus}: no such file")
    # read twice: the number of words bounds that of n-grams, from which the filters' size follows
    capacity = sum(len(words(line)) for document in _documents(paths, "counted") for line in document)
    corpus = CorpusNgrams([EIGHT, *(each.n for each in test_sets)], max(1, capacity), options.bound)
    for document in _documents(paths, "read"):
        corpus.add_lines(document)
    _print(corpus, [(each, overlap(each, corpus)) for each in test_sets], records)


def _test_sets(task: str, overrides: Sequence[str], records: Sequence[reader.Record]) -> Iterator["TestSet"]:
    """The splits of a task that are evaluated; the examples of a run's own settings where there is a run of the task."""
    from protoformer.assembly.build import test_texts
    from protoformer.contamination.overlap import TestSet

    of_task = [record for record in records if record.task == task]
    config = of_task[0].config if of_task else compose(["model=gpt2", f"task={task}", *overrides])
    texts = test_texts(config)
    if not texts:
        raise UserError(f"task={task}: its examples have no texts that could be compared")
    for split, examples in texts.items():
        yield TestSet.of_texts(f"{task} {split}", examples)


def _documents(paths: Sequence[Path], what: str) -> Iterator[Iterable[str]]:
    """The documents of files, each as its lines, with a line on stderr now and then about how far that is."""
    from protoformer.data.sources.files import row_texts
    from protoformer.data.sources.text_files import base_suffix, open_text

    started = shown = time.monotonic()
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        if base_suffix(path) == ".txt":
            with open_text(path, None) as file:
                yield file
        else:
            yield from ([text] for text in row_texts(path))
        done += path.stat().st_size
        if time.monotonic() - shown > EVERY_SECONDS:
            shown = time.monotonic()
            left = (shown - started) / done * (total - done)
            print(f"{what} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {left / 60:.1f} min left", file=sys.stderr)


def _print(
    corpus: "CorpusNgrams", results: Iterable[tuple["TestSet", "Overlap"]], records: Sequence[reader.Record]
) -> None:
    from protoformer.contamination.overlap import clean_score

    console = make_console()
    rows, scored = [], []
    for test_set, result in results:
        count = len(result.dirty)
        rows.append(
            (
                test_set.name,
                f"{count:,}",
                f"{100 * result.fraction:.2f} %",
                str(result.n),
                f"{int(result.dirty.sum()):,} ({100 * result.dirty.mean() if count else 0:.1f} %)",
            )
        )
        for record in records:
            task, _, split = test_set.name.partition(" ")
            for metric, scores in _scores(record, split).items() if record.task == task else ():
                clean = clean_score(scores, test_set, result.dirty)
                scored.append(
                    (
                        record.folder.name,
                        test_set.name,
                        metric,
                        f"{100 * sum(scores.values()) / len(scores):.2f}",
                        "-" if clean is None else f"{100 * clean:.2f}",
                        f"{int((~result.dirty).sum()):,}",
                    )
                )
    print_table(
        ("test set", "examples", "8-grams in corpus", "N", "examples with an N-gram in it"), rows, console=console
    )
    if scored:
        console.print()
        columns = ("run", "test set", "metric", "all", "clean", "clean examples")
        print_table(columns, scored, "scores, times 100", console=console)
    rate = max(each.false_positive_rate for each in corpus.filters.values())
    memory = sum(each.memory for each in corpus.filters.values()) / 2**20
    console.print(
        f"corpus: {corpus.documents:,} documents, {corpus.words:,} words; Bloom filters of {memory:,.1f} MiB, which take an "
        f"n-gram that is not there for one that is with a probability of at most {rate:.1e}"
    )


def _scores(record: reader.Record, split: str) -> Mapping[str, Mapping[int, float]]:
    """By metric that is a mean over examples, the score of each example of a run by its id."""
    rows: list[dict[str, Any]] = reader.read_example_scores(record.folder, split.replace("/", "_")) or []
    return {name: {row["id"]: float(row[name]) for row in rows} for name in reader.score_names(rows)}
