"""Predictions for every row of a file: read, predicted and written some hundred rows at a time, in order.

A row of the output holds the columns of its input row, then `prediction` and what belongs to it. A file that is there already
is continued after its last whole row, where it comes from the same model and options (see `files.origin`) and the same rows.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TextIO

import torch

from protoformer.errors import ConfigurationError, DataError, UserError
from protoformer.inference.files.columns import ColumnOptions
from protoformer.inference.files.origin import REMEDY, Origin, check_origin, write_origin
from protoformer.inference.files.output import (
    Csv,
    OutputFormat,
    Record,
    is_beginning,
    output_format,
    own_columns,
)
from protoformer.inference.files.progress import Progress, counted
from protoformer.inference.files.rows import InputFile, InputRow, open_input
from protoformer.inference.opening.digest import model_digest
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.queries.encoder import BATCH_TOKENS
from protoformer.inference.queries.rows import OnBadRow, RowPredictor

CHUNK_ROWS = 256
CHUNK_CHARS = 1 << 18  # of a chunk's texts, about


class InterruptedFileError(UserError):
    """Ctrl-C between two rows; the same command continues."""

    exit_code = 130


@dataclass(frozen=True)
class FileRequest:
    """The file to read (`-`: standard input) and the one to write (None: standard output), and how rows are read."""

    file: str
    out: str | None = None
    input_format: str | None = None
    columns: ColumnOptions = field(default_factory=ColumnOptions)
    on_bad_row: OnBadRow = "error"
    top: int = 5
    force: bool = False
    batch_tokens: int = BATCH_TOKENS

    @property
    def answer_options(self) -> dict[str, str]:
        """The options that change an answer, as they are typed."""
        columns = self.columns
        typed = {
            "--text-column": columns.text,
            "--pair-column": columns.pair,
            "--choices-column": " ".join(columns.choices) or None,
            "--top": str(self.top),
        }
        return {option: value for option, value in typed.items() if value is not None}


def predict_file(opened: OpenedModel, request: FileRequest) -> None:
    """Predict every row. Raises a one-line error that names file, line and column of a row that is no query."""
    out, file = request.out, request.file
    if out and os.path.exists(out) and os.path.exists(file) and os.path.samefile(out, file):
        raise ConfigurationError(f"--out {out} is the file that is read; name another one")
    row_format = output_format(request.out or os.devnull, opened.model.row_labels)
    opened.model.to("cuda" if torch.cuda.is_available() else "cpu")
    with open_input(request.file, request.input_format) as source:
        run = FilePrediction(opened, request, source, row_format)
        if request.out is None:
            run.write(sys.stdout)
            return
        path = Path(request.out).expanduser()
        if path.is_file() or not path.exists():
            size = run.begin_or_continue(path)
            if size is None:
                print(f"{path}: finished already ({counted(run.done, 'row')}); --force predicts again", file=sys.stderr)
                return
            os.truncate(path, size)
        with path.open("a", encoding="utf-8", newline="") as target:
            run.write(target)


class FilePrediction:
    """The rows of one file on their way through a model to another. `done` rows are written."""

    def __init__(self, opened: OpenedModel, request: FileRequest, source: InputFile, row_format: OutputFormat) -> None:
        self.opened, self.request, self.source, self.row_format = opened, request, source, row_format
        self.predictor = RowPredictor(
            opened, source.name, request.columns, request.top, request.on_bad_row, request.batch_tokens
        )
        self.rows: Iterable[InputRow] = source.rows
        self.names: list[str] = []  # of the output's columns, once there are rows
        self.done = 0

    def write(self, target: TextIO) -> None:
        """Predict the remaining rows and write them as they are done.

        Raises InterruptedFileError after Ctrl-C, DataError where there are no rows at all.
        """
        progress = Progress("row", self.source.total, self.done, about=not self.source.exact)
        try:
            for chunk in _chunks(self.rows):
                records = self.predictor.records(chunk, self.row_format)
                self._check_names(records, target)
                target.write("".join(self.row_format.line(self.names, record) for record in records))
                target.flush()
                self.done += len(records)
                progress.update(self.done)
        except KeyboardInterrupt:
            more = "the same command continues" if self.request.out else "nothing more is written"
            raise InterruptedFileError(f"interrupted after {counted(self.done, 'row')}; {more}") from None
        finally:
            progress.close()
        if self.done == 0:
            raise DataError(f"{self.source.name}: no rows")
        self._print_summary(progress)

    def _check_names(self, records: Sequence[Record], target: TextIO) -> None:
        """The columns of the first rows are the header of a CSV; later rows have no others."""
        names = list(dict.fromkeys(name for record in records for name in record))
        if not self.names:
            self.names = names
            target.write(self.row_format.header(names))
        elif isinstance(self.row_format, Csv) and (more := [name for name in names if name not in self.names]):
            raise DataError(
                f"{self.source.name}: column {more[0]!r} begins after row {self.done}, and the header is written; write "
                ".jsonl, whose rows may differ"
            )

    def _print_summary(self, progress: Progress) -> None:
        where = f" -> {self.request.out}" if self.request.out else ""
        print(progress.summary(self.done) + where, file=sys.stderr)
        if truncated := self.predictor.encoder.truncated:
            print(f"{counted(truncated, 'text')} truncated to {self.opened.max_len} tokens", file=sys.stderr)
        if problems := self.predictor.problems:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            print(f"{counted(len(problems), 'row')} without a prediction: {problems[0]}{more}", file=sys.stderr)

    def begin_or_continue(self, path: Path) -> int | None:
        """The size, in bytes, of what is kept of a file, whose rows are skipped. None: it has all rows.

        A file that is begun gets the record of its origin. Raises ConfigurationError where this command does not continue it.
        """
        origin = Origin(model_digest(self.opened), self.request.answer_options)
        if path.is_file() and path.stat().st_size > 0 and not self.request.force:
            check_origin(path, origin, self.opened.name)
            return self._skip_earlier(path)
        path.open("w").close()  # first: the record of a new origin never stands beside the rows of an earlier one
        write_origin(path, origin)
        return 0

    def _skip_earlier(self, path: Path) -> int | None:
        rows = iter(self.rows)
        size = 0
        for earlier in self.row_format.earlier(path):
            row = next(rows, None)
            if row is None or not self._is_same(row, earlier.values):
                raise self._other(path)
            self.names = list(earlier.values)
            self.done, size = self.done + 1, earlier.end
        if not self.done and not is_beginning(path):
            raise self._other(path)
        upcoming = next(rows, None)
        if upcoming is None and self.done:
            return None
        self.rows = rows if upcoming is None else chain([upcoming], rows)
        if self.done:
            print(f"{path}: {counted(self.done, 'row')} are there, continuing", file=sys.stderr)
        return size

    def _is_same(self, row: InputRow, earlier: Mapping[str, object]) -> bool:
        """Whether the input's columns are as an earlier row carries them."""
        return all(
            name in earlier and self.row_format.cell(value) == earlier[name]
            for name, value in own_columns(row.values, self.row_format).items()
        )

    def _other(self, path: Path) -> ConfigurationError:
        return ConfigurationError(f"--out {path} holds other rows than those of {self.source.name}: {REMEDY}")


def _chunks(rows: Iterable[InputRow]) -> Iterator[list[InputRow]]:
    chunk: list[InputRow] = []
    chars = 0
    for row in rows:
        chunk.append(row)
        chars += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if len(chunk) == CHUNK_ROWS or chars > CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk
