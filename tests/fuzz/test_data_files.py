"""Mutated data files: whatever a file holds, its rows are read, or the error is one line that names it."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from protoformer.data.examples.documents import Corpus
from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.source import DatasetRef
from protoformer.errors import UserError

CASES = 400
CONTEXT = "Ada wrote notes on the engine in 1843."
ROWS: list[dict[str, Any]] = [
    {
        "id": str(number),
        "text": f"text {number}, quoted",
        "label": number % 2,
        "en": "a cat",
        "de": "eine Katze",
        "question": "Who wrote?",
        "context": CONTEXT,
        "answers": {"text": ["Ada"], "answer_start": [0]},
        "choices": {"text": ["one", "two", "three"], "label": ["A", "B", "C"]},
        "key": "ABC"[number % 3],
        "translation": {"en": "a dog", "de": "ein Hund"},
    }
    for number in range(6)
]
READERS: list[Any] = [
    LabelledTextReader("set", "text", labels=["no", "yes"]),
    LabelledTextReader("set", "text", "context", labels=None),
    ExtractiveQAReader("set"),
    MultipleChoiceReader("set", "question", options="choices", choices=["A", "B", "C"], label="key"),
    ParallelTextReader("set", "en", "de"),
    ParallelTextReader("set", "en", "de", column="translation"),
]
VALUES: list[Any] = [
    None, True, -1, 3, 2**70, 0.5, float("nan"), float("inf"), "", " ", "-", "true", "0", "\ud83d", "é" * 9, "x" * 50_000,
    [], {}, [[]], [None], {"text": None}, {"text": ["a"], "label": [1, 2]}, {"text": "a", "answer_start": "0"},
    [{"text": "Ada", "answer_start": 0.0}], {"text": ["Ada"], "answer_start": [None]}, {"en": 1, "de": ["x"]}, [1, "a", {}],
    {"\ud800": 1}, {"text": {"a": 1}, "answer_start": 0}, [True, "x"],
]  # fmt: skip
Mutation = Callable[[random.Random, bytes], bytes]


def truncated(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def flipped(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def inserted(draw: random.Random, content: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    more = draw.choice(
        [b'"', b"\n", b"\r", b",", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"[", b"{", b"}", b"\xff\xfe"]
    )
    return content[:at] + more * draw.randint(1, 3) + content[at:]


def doubled(draw: random.Random, content: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] + content[end:]


def recoded(draw: random.Random, content: bytes) -> bytes:
    encoding = draw.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp037"])
    return content.decode("utf-8", "replace").encode(encoding, "replace")


MUTATIONS: list[Mutation] = [truncated, flipped, inserted, doubled, recoded]


def mutated_rows(draw: random.Random) -> list[dict[str, Any]]:
    """The rows with some values of other types, nulls, and missing or further columns."""
    rows = [dict(row) for row in ROWS]
    for _ in range(draw.randint(0, 4)):
        row, name = draw.choice(rows), draw.choice(list(ROWS[0]))
        row[name] = draw.choice(VALUES)
    if draw.random() < 0.2:
        draw.choice(rows).pop(draw.choice(list(ROWS[0])), None)
    if draw.random() < 0.2:
        name, value = draw.choice(list(ROWS[0])), draw.choice(VALUES)
        rows = [{**row, name: value} for row in rows]
    return rows


def written(draw: random.Random, form: str, folder: Path) -> bytes:
    """A file of mutated rows."""
    rows = mutated_rows(draw)
    if form == "parquet":
        path = folder / "whole.parquet"
        try:
            table = pa.Table.from_pylist(rows)
            if draw.random() < 0.1:
                table = table.append_column("text", table.column(draw.randrange(table.num_columns)))
            pq.write_table(table, path)
        except (pa.ArrowException, OverflowError, UnicodeError):  # what parquet cannot hold
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path.read_bytes()
    if form in ("jsonl", "json"):
        lines = [json.dumps(row) for row in rows]
        return ("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]").encode()
    separator = "," if form == "csv" else "\t"
    names = list(ROWS[0])
    if draw.random() < 0.1:
        names[0] = draw.choice(names)
    lines = [separator.join(names)]
    for row in rows:
        cells = [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
        lines.append(separator.join('"' + cell.replace('"', '""') + '"' if form == "csv" else cell for cell in cells))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def outcome(folder: Path, path: Path, reader: Any, role: Any, on_bad_row: Any) -> str:
    """`read`, or `refused` in one line that names the file; anything else is raised."""
    try:
        if reader is None:
            list(Corpus([{"dataset": "set"}]).documents(FilesSource(str(path)), "train", on_bad_row))
        else:
            reader.read(LocalSource(str(folder)).load(DatasetRef("set"), "train"), role, on_bad_row)
    except UserError as error:
        message = str(error)
    else:
        return "read"
    assert "\n" not in message, message
    assert "train" in message, message
    message.encode()  # it can be printed
    return "refused"


def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for case in range(CASES):
        draw = random.Random(case)
        form = draw.choice(["csv", "tsv", "json", "jsonl", "parquet"])
        folder = tmp_path / str(case)
        (folder / "set").mkdir(parents=True)
        content = written(draw, form, folder)
        for _ in range(draw.randint(0, 2)):
            content = draw.choice(MUTATIONS)(draw, content)
        path = folder / "set" / f"train.{form}"
        path.write_bytes(content)
        for reader in (draw.choice(READERS), draw.choice([None, *READERS])):
            outcomes[
                outcome(
                    folder, path, reader, draw.choice(["train", "validation", "test"]), draw.choice(["error", "skip"])
                )
            ] += 1
    assert outcomes.total() == 2 * CASES
    assert min(outcomes.values()) > CASES / 4, outcomes  # both ends are reached
