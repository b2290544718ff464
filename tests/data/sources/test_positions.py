"""Where a row stands, in messages: `line N` in files with lines, `row N` in arrays and parquet, both from 1."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from protoformer.commands.tokenizer import texts
from protoformer.data.examples.documents import Corpus
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.readers import read_batches
from protoformer.data.sources.rows import position
from protoformer.data.sources.source import DatasetRef, SplitSlice
from protoformer.errors import DataError
from protoformer.inference.files.rows import open_input

ROWS = [
    {"text": "one", "label": 0}, {"text": "two\nlines", "label": 1}, {"text": "three", "label": 7},
    {"text": "four", "label": 1},
]  # fmt: skip
PLACES = {  # of the third row, whose label is none
    "csv": "line 5", "tsv": "line 4", "jsonl": "line 3", "json": "row 3", "parquet": "row 3",
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv" | ".tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                cells = [row["text"] if path.suffix == ".csv" else row["text"].replace("\n", " ") for row in rows]
                writer.writerows([["text", "label"], *zip(cells, (row["label"] for row in rows), strict=True)])
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        case ".parquet":
            pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", PLACES)
def test_places_count_from_1_wherever_rows_are_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "set" / f"train.{suffix}")
    place = f"{path}, {PLACES[suffix]}"
    raw = LocalSource(str(tmp_path)).load(DatasetRef("set"), "train")
    assert raw.location(2) == place
    assert SplitSlice.parse("train[1:]").apply(raw).location(1) == place
    with pytest.raises(DataError) as caught:
        LabelledTextReader("set", labels=["no", "yes"], text_a="text").read(raw, "train")
    assert str(caught.value).startswith(f"{place}, column 'label': a label outside 0 to 1 (")
    stream = FilesSource(str(path)).stream(DatasetRef("set"), "train")
    assert stream.where is not None
    assert [stream.where(2) for _ in stream.batches()] == [place]
    with open_input(str(path)) as opened:
        assert [row.location for row in opened.rows][2] == place


@pytest.mark.parametrize(("name", "place"), [("t.jsonl", "line 3"), ("t.json", "row 3")])
def test_rows_that_cannot_be_read_have_the_same_places(tmp_path: Path, name: str, place: str) -> None:
    rows: list[Any] = [{"text": "one"}, {"text": "two"}, ["no object"]]
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if name == "t.jsonl" else json.dumps(rows))
    message = f"{path}, {place}: an array, where an object is expected"
    for read in (
        lambda: list(texts([path])),
        lambda: list(Corpus([{"dataset": "any"}]).documents(FilesSource(str(path)), "train")),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(message)


def test_places_go_on_from_batch_to_batch(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"text": [str(number) for number in range(25_000)]}), path)
    first, places = 0, []
    for batch in read_batches(path, None):
        places += [position(index, batch.lines, first) for index in range(batch.batch.num_rows)]
        first += batch.batch.num_rows
    assert (places[0], places[-1], len(set(places))) == ("row 1", "row 25000", 25_000)
    with open_input(str(path)) as opened:
        assert [row.location for row in opened.rows] == [f"{path}, {place}" for place in places]
