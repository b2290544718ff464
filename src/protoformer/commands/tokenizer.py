"""`protoformer tokenizer train FILES...`: a vocabulary learnt from files, as the one file that model.tokenizer= opens."""

import argparse
import glob
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer.atomic import write_text
from protoformer.errors import DataError, UserError

if TYPE_CHECKING:
    from protoformer.text.vocabulary_training import VocabularyKind

HELP = "learn a vocabulary from text files, for model.tokenizer=FILE"

COLUMN = "text"
SUFFIXES = (".txt", ".parquet", ".jsonl")


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
    files = matching_files(patterns)
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


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """The files that names and globs (`data/*.txt`, `data/**/*.parquet`) mean, each once, in order of path."""
    files: set[Path] = set()
    for pattern in patterns:
        name = str(Path(pattern).expanduser())
        matches = [name] if Path(name).exists() else glob.glob(name, recursive=True)
        if not matches:
            raise UserError(f"{pattern}: no such file")
        files |= {Path(match) for match in matches}
    for file in files:
        if file.suffix not in SUFFIXES or not file.is_file():
            raise UserError(f"{file}: not a text file; supported: {', '.join(SUFFIXES)}")
    return sorted(files)


def texts(files: Sequence[Path]) -> Iterator[str]:
    """Every text that is not blank: a line of a .txt file, the column `text` of .parquet and .jsonl rows."""
    for file in files:
        lines = _parquet(file) if file.suffix == ".parquet" else _lines(file)
        yield from (line for line in lines if line and not line.isspace())


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}: not UTF-8 ({error.reason})") from None
            yield _field(file, number, text) if file.suffix == ".jsonl" and text.strip() else text


def _field(file: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file}, line {number}: not JSON ({error})") from None
    if not isinstance(row, dict) or COLUMN not in row:
        there = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{file}, line {number}: no column {COLUMN!r}; it has {there}")
    value = row[COLUMN]
    if value is not None and not isinstance(value, str):
        raise DataError(f"{file}, line {number}: column {COLUMN!r} holds {json.dumps(value)[:40]}, not text")
    return value or ""


def _parquet(file: Path) -> Iterator[str]:
    # not at the top: slow to import
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        kinds = {field.name: field.type for field in table.schema_arrow}
        kind = kinds.get(COLUMN)
        if kind is None:
            raise DataError(f"{file}: no column {COLUMN!r}; it has {', '.join(kinds)}")
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(f"{file}: column {COLUMN!r} holds {kind}, not text")
        for batch in table.iter_batches(batch_size=1024, columns=[COLUMN]):
            yield from (text for text in batch.column(0).to_pylist() if text)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason})") from None
    except pa.ArrowException as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None


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
        "files", nargs="+", metavar="FILE", help=".txt (one text per line), .parquet, .jsonl (column text)"
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
