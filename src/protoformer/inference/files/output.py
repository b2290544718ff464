"""Files of predictions, JSON lines or CSV, which an interrupted command continues after their last whole row."""

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from protoformer.errors import ConfigurationError

Record = dict[str, Any]
PREDICTED = ("prediction", "probabilities", "probability", "n_best", "choice")  # columns of predictions


@dataclass(frozen=True)
class EarlierRow:
    """A row of a file that is continued: its values by column, and where it ends in the file, in bytes."""

    values: Mapping[str, Any]
    end: int


class OutputFormat(Protocol):
    """How rows are written and read again."""

    @property
    def predicted(self) -> Collection[str]:
        """The columns of predictions."""
        ...

    def record(self, own: Mapping[str, object], prediction: Mapping[str, object]) -> Record:
        """The columns of an input row, then those of its prediction."""
        ...

    def header(self, columns: Sequence[str]) -> str:
        """What the file begins with."""
        ...

    def line(self, columns: Sequence[str], record: Record) -> str:
        """A row."""
        ...

    def cell(self, value: object) -> Any:
        """A value as it is read again from a file."""
        ...

    def earlier(self, path: Path) -> Iterator[EarlierRow]:
        """The whole rows of a file, up to the first that is not."""
        ...


def own_columns(values: Mapping[str, object], row_format: OutputFormat) -> Record:
    """The columns of an input row; one that is named as a prediction's gets `input_` before its name."""
    return {f"input_{name}" if name in row_format.predicted else name: value for name, value in values.items()}


class JsonLines:
    """A JSON object a line."""

    predicted = PREDICTED

    def record(self, own: Mapping[str, object], prediction: Mapping[str, object]) -> Record:
        return {**own, **prediction}

    def header(self, columns: Sequence[str]) -> str:
        return ""

    def line(self, columns: Sequence[str], record: Record) -> str:
        try:
            text = json.dumps(plain(record), ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair in a column that is carried along
            text = json.dumps(plain(record))
        return text + "\n"

    def cell(self, value: object) -> Any:
        return json.loads(json.dumps(plain(value)))

    def earlier(self, path: Path) -> Iterator[EarlierRow]:
        end = 0
        with path.open("rb") as file:
            for raw in file:
                try:
                    values = json.loads(raw)
                except ValueError:
                    return
                if not raw.endswith(b"\n") or not isinstance(values, dict):
                    return
                end += len(raw)
                yield EarlierRow(values, end)


class Csv:
    """CSV with a header; probabilities of labels are a column each, lists and objects are JSON."""

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = labels
        self.predicted = (*PREDICTED, *map(_column_of, labels))

    def record(self, own: Mapping[str, Any], prediction: Mapping[str, Any]) -> Record:
        if not self.labels:
            return {**own, **prediction}
        probs = prediction.get("probabilities") or {}
        columns = {_column_of(label): probs.get(label) for label in self.labels}
        return {**own, "prediction": prediction["prediction"], **columns}

    def header(self, columns: Sequence[str]) -> str:
        return _csv_line(columns)

    def line(self, columns: Sequence[str], record: Record) -> str:
        return _csv_line([self.cell(record.get(name)) for name in columns])

    def cell(self, value: object) -> str:
        value = plain(value)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def earlier(self, path: Path) -> Iterator[EarlierRow]:
        end = 0
        record = b""
        names: list[str] | None = None
        with path.open("rb") as file:
            for raw in file:
                record += raw
                end += len(raw)
                if record.count(b'"') % 2 or not raw.endswith(b"\n"):  # inside of a quoted field
                    continue
                fields = next(csv.reader(io.StringIO(record.decode("utf-8", "replace"), newline="")), [])
                if names is None:
                    names = fields
                elif len(fields) != len(names):
                    return
                else:
                    yield EarlierRow(dict(zip(names, fields, strict=True)), end)
                record = b""


def _column_of(label: str) -> str:
    return f"probability_{label}"


def _csv_line(fields: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def plain(value: object) -> Any:
    """A value that JSON can hold: not-a-number is null, dates, bytes and decimals are text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


SUFFIXES = (".jsonl", ".csv")


def output_format(out: str, labels: Sequence[str] = ()) -> OutputFormat:
    """The format that a name says; `labels` are those whose probabilities are columns of a CSV.

    Raises ConfigurationError for another name.
    """
    path = Path(out).expanduser()
    if path.is_dir():
        raise ConfigurationError(f"--out {out}: a folder; name a file in it, such as {path / 'out.jsonl'}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--out {out}: its folder does not exist")
    if path.exists() and not path.is_file():  # a pipe or a device
        return JsonLines()
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"--out {out}: the name ends in {' or '.join(SUFFIXES)}")
    return Csv(labels) if path.suffix == ".csv" else JsonLines()


def is_beginning(path: Path) -> bool:
    """Whether a file without a whole row is the beginning of one of predictions: a call was interrupted in its first row."""
    with path.open("rb") as file:
        first, rest = file.readline(), file.read(1)
    return not rest and (path.suffix == ".csv" or not first or (first[:1] == b"{" and not first.endswith(b"\n")))
