"""`protoformer tokenizer train FILES...`: a vocabulary learnt from files, as the one file that model.tokenizer= opens."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer.atomic import write_text
from protoformer.errors import DataError, UserError
from protoformer.runs.digests import matching_files

if TYPE_CHECKING:
    from protoformer.text.vocabulary_training import VocabularyKind

HELP = "learn a vocabulary from text files, for model.tokenizer=FILE"

COLUMN = "text"


def main(
    patterns: Sequence[str],
    kind: "VocabularyKind",
    size: int,
    out: str,
    *,
    cased: bool = False,
    alphabet_size: int = 1000,
    force: bool = False,
) -> None:
    """Learn the vocabulary and write it; a file that stands there is replaced only with `force`.

    Raises UserError, in one line, for a file that is not there or cannot be read as text, and for what `train` refuses.
    """
    from protoformer.text.vocabulary_training import coverage, train  # a tokenizer library: not for --help

    target = Path(out).expanduser()
    if target.is_dir():
        raise UserError(f"{target}: is a folder; give a file name, such as --out {target}/tokenizer.json")
    if target.exists() and not force:
        raise UserError(f"{target} already exists; --force replaces it, --out names another file")
    files = text_files(patterns)
    watched = sys.stderr.isatty()
    reading = _texts_with_progress if watched else texts
    words = train(lambda: reading(files), kind, size, cased=cased, alphabet_size=alphabet_size, progress=watched)
    write_text(target, words.hf_tokenizer.to_str(pretty=True) + "\n")
    fit = coverage(words, kind, texts(files))
    fewer = f" (of {size:,}: no other pair was seen twice)" if words.vocab_size < size else ""
    print(
        f"{target}: {words.vocab_size:,} tokens{fewer}; the first {fit.texts:,} texts hold {fit.words:,} words, "
        f"{fit.tokens / max(1, fit.words):.2f} tokens a word, {fit.unknown / max(1, fit.tokens):.2%} of tokens unknown"
    )


def text_files(patterns: Sequence[str]) -> list[Path]:
    """The files that names and globs (`data/*.txt`, `data/**/*.parquet`) mean, each once, in order of path."""
    from protoformer.data.sources.readers import SUPPORTED, is_supported

    files: set[Path] = set()
    for pattern in patterns:
        matches = matching_files(pattern)
        if not matches:
            raise UserError(f"{pattern}: no such file")
        files |= set(matches)
    for file in files:
        if not is_supported(file):
            raise UserError(f"{file}: not a text file; supported: {SUPPORTED}")
    return sorted(files)


def texts(files: Sequence[Path]) -> Iterator[str]:
    """Every text that is not blank: a line of a .txt file, the column `text` of the rows of another.

    Raises DataError for a row that cannot be read or has no such column.
    """
    from protoformer.data.examples.values import as_text  # Arrow takes a quarter of a second: not for --help
    from protoformer.data.sources.readers import read_batches
    from protoformer.data.sources.rows import position
    from protoformer.data.sources.text_files import base_suffix

    for file in files:
        if base_suffix(file) == ".txt":
            yield from _lines(file)
            continue
        first_row = 0
        for each in read_batches(file, [COLUMN]):
            for row, problem in each.broken.items():
                raise DataError(f"{file}, {position(row, each.lines, first_row)}: {problem}")
            converted = as_text(each.column(COLUMN))
            if converted is None:
                raise DataError(f"{file}: column {COLUMN!r} holds {each.column(COLUMN).type}, not text")
            text_column, is_invalid = converted
            if is_invalid.any():
                where = position(int(is_invalid.argmax()), each.lines, first_row)
                raise DataError(f"{file}, {where}, column {COLUMN!r}: not UTF-8")
            first_row += each.batch.num_rows
            yield from (text for text in text_column.to_pylist() if text and not text.isspace())


def _lines(file: Path) -> Iterator[str]:
    from protoformer.data.sources.text_files import open_text, problem_of

    with open_text(file, None) as lines:
        for number, line in enumerate(lines, start=1):
            if problem := problem_of(line):
                raise DataError(f"{file}, line {number}: {problem}")
            if line and not line.isspace():
                yield line.rstrip("\r\n")


def _texts_with_progress(files: Sequence[Path]) -> Iterator[str]:
    """The texts, with a bar over them for whoever watches the terminal."""
    # not at the top: slow to import
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files", total=len(files))
        for file in files:
            bar.update(task, description=file.name)
            yield from texts([file])
            bar.advance(task)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("train",), help="learn a vocabulary; deterministic for given files")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".txt (one text per line); .parquet, .jsonl, .json, .csv, .tsv (column text)",
    )
    parser.add_argument(
        "--kind", required=True, choices=("wordpiece", "bpe", "bytelevel"), help="the type of BERT, GPT or GPT-2"
    )
    parser.add_argument(
        "--size", required=True, type=int, metavar="N", help="number of tokens, including special tokens and characters"
    )
    parser.add_argument(
        "--out", default="tokenizer.json", metavar="FILE", help="the file to write (default: %(default)s)"
    )
    parser.add_argument("--cased", action="store_true", help="keep upper case and accents (always with bytelevel)")
    parser.add_argument(
        "--alphabet",
        type=int,
        default=1000,
        metavar="N",
        help="most frequent characters to keep; bytelevel keeps all (default: 1000)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace) -> None:
    main(
        options.files,
        options.kind,
        options.size,
        options.out,
        cased=options.cased,
        alphabet_size=options.alphabet,
        force=options.force,
    )
