"""Text from every source as streams of rows, and from rows to documents."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protoformer.data.examples.documents import Corpus
from protoformer.data.sources import rows
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.sample import SampleSource
from protoformer.data.sources.source import DatasetRef, RawStream
from protoformer.errors import ConfigurationError, DataError

TEXTS = ["One. Two.", "Three\nfour.", "Five"]


def written(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": [1, 2, 3], "text": TEXTS}), path, row_group_size=2)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    elif path.suffix == ".csv":
        path.write_text("id,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS)))
    elif path.suffix == ".tsv":
        path.write_text("id\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)).replace("\nfo", " fo"))
    else:
        path.write_bytes("\ufeff".encode() + "\r\n\r\n \r\n".join(TEXTS).encode())
    return path


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv", "tsv", "txt"])
def test_every_form_of_file_streams_the_same_rows_as_often_as_asked(tmp_path: Path, suffix: str) -> None:
    written(tmp_path, f"set/train.{suffix}")
    source = LocalSource(str(tmp_path))
    stream = source.stream(DatasetRef("set"), "train", columns=["text"])
    for _ in range(2):
        batches = list(stream.batches())
        assert all(batch.schema.names == ["text"] for batch in batches)
        rows = [text for batch in batches for text in batch.column(0).to_pylist()]
        assert [row.split() for row in rows] == [text.split() for text in TEXTS]
    assert stream.origin.endswith(f"set/train.{suffix}")
    assert source.load(DatasetRef("set"), "train").table.column("text").to_pylist() == rows
    with pytest.raises(DataError, match=r"train.*: no column 'body'; it has .*text"):
        list(source.stream(DatasetRef("set"), "train", columns=["body"]).batches())


def test_the_digest_of_a_stream_is_of_all_its_content(tmp_path: Path) -> None:
    path = tmp_path / "set" / "train.txt"
    path.parent.mkdir()
    digests = []
    for content in ("abcd....efgh", "abcd,,,,efgh", "abcd...efgh", "abcx....efgh", "abcd....efgx"):
        path.write_text(content * 200_000)
        digests.append(LocalSource(str(tmp_path)).stream(DatasetRef("set"), "train").digest)
    assert len(set(digests)) == 5
    assert LocalSource(str(tmp_path)).stream(DatasetRef("set"), "train").digest == digests[-1]
    assert LocalSource(str(tmp_path), encoding="latin-1").stream(DatasetRef("set"), "train").digest not in digests


def test_a_byte_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood\n\nbad \xff end\n")
    with pytest.raises(DataError, match=r"a\.txt, line 3: byte 0xFF is not UTF-8"):
        list(Corpus([{"dataset": "any"}]).documents(FilesSource(str(path)), "train"))
    kept = Corpus([{"dataset": "any"}]).documents(FilesSource(str(path)), "train", "skip")
    assert (list(kept), kept.skipped) == (["good"], 1)
    path.write_bytes(b"\xef\xbb\xbfba\xffd")
    with pytest.raises(DataError, match=r"a\.txt, line 1: byte 0xFF is not UTF-8"):
        list(Corpus([{"dataset": "any"}]).documents(FilesSource(str(path)), "train"))
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read"):
        list(FilesSource(str(broken)).stream(DatasetRef("any"), "train").batches())


def test_files_of_text_are_found_by_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "deep/er/b.txt", "c.parquet", "d.jsonl"):
        written(tmp_path, name)
    monkeypatch.setenv("HOME", str(tmp_path))
    source = FilesSource(["~/**/*.txt", str(tmp_path / "[cd].*"), str(tmp_path / "a.txt")])
    assert [path.name for path in source.paths] == ["a.txt", "b.txt", "c.parquet", "d.jsonl"]
    documents = Corpus([{"dataset": "x", "text": "body"}, {"dataset": "y"}]).documents(source, "train")
    assert len(list(documents)) == 12  # both parts are these files, which are read once
    with pytest.raises(DataError, match="holds a corpus only"):
        source.load(DatasetRef("nyu-mll/glue", subset="rte"), "train")
    with pytest.raises(DataError, match="no such file"):
        FilesSource(str(tmp_path / "*.text"))
    (tmp_path / "e.zip").write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError, match="not a text file"):
        FilesSource(str(tmp_path / "e*"))


def test_long_texts_come_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHARS_PER_BATCH", 10)
    path = written(tmp_path, "a.txt")
    assert [batch.num_rows for batch in FilesSource(str(path)).stream(DatasetRef(""), "").batches()] == [2, 1]


def test_the_sample_streams_what_it_loads() -> None:
    source = SampleSource(rows=5)
    stream = source.stream(DatasetRef("nyu-mll/glue", subset="rte"), "train", columns=["sentence1"])
    raw = source.load(DatasetRef("nyu-mll/glue", subset="rte"), "train")
    assert pa.Table.from_batches(stream.batches()).column(0).to_pylist() == raw.table.column("sentence1").to_pylist()
    assert (stream.digest, stream.origin) == (raw.digest, raw.origin)


class Rows:
    """A source whose data sets are lists of rows, two a batch."""

    def __init__(self, **sets: list[str | None]) -> None:
        self.sets = sets

    def stream(self, ref: DatasetRef, split: str, columns: list) -> RawStream:
        rows = self.sets[ref.dataset]

        def batches() -> Iterator[pa.RecordBatch]:
            for at in range(0, len(rows), 2):
                yield pa.record_batch({columns[0]: pa.array(rows[at : at + 2], pa.string())})

        return RawStream(batches, f"{ref.dataset}/{split}", ref.dataset)


def test_rows_become_documents_and_empty_ones_are_counted() -> None:
    source = Rows(wiki=["a", None, " \n", "b"], books=["1", "2", "", "3", "4", "5"])
    parts = [{"dataset": "wiki"}, {"dataset": "books", "rows_per_document": 3, "text": "line"}]
    documents = Corpus(parts).documents(source, "train")  # type: ignore[arg-type]
    for _ in range(2):
        assert list(documents) == ["a", "b", "1\n2\n3", "4\n5"]
        assert documents.skipped == 3
    assert documents.origin == "wiki/train + books/train"
    other = Corpus([parts[0], {**parts[1], "rows_per_document": 2}]).documents(source, "train")  # type: ignore[arg-type]
    assert other.digest != documents.digest


def test_a_row_of_a_file_is_a_document_whatever_data_set_was_asked_for(tmp_path: Path) -> None:
    """BooksCorpus holds a sentence a row; files do not, though the task asks for it."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.txt").write_text("One . Two .\n\nThree .\n\n\nFour .\n")
    parts = [{"dataset": "set", "rows_per_document": 100}, {"dataset": "set"}]
    for source in (FilesSource(str(tmp_path / "set" / "*.txt")), LocalSource(str(tmp_path))):
        assert list(Corpus(parts).documents(source, "train")) == ["One . Two .", "Three .", "Four ."]


def test_parts_are_checked() -> None:
    for parts, message in (
        ([{"dataset": "a", "column": "text"}], "no key column; a part has dataset, subset"),
        ([{"subset": "a"}], "no dataset"),
        ([{"dataset": "a", "rows_per_document": 0}], "at least 1"),
        ([{"dataset": "a", "rows_per_document": "many"}], "rows_per_document=many; expected a whole number"),
        ([{"dataset": 20231101}], "dataset=20231101 is not text"),
        ([], "at least one part"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Corpus(parts)


def test_a_column_of_numbers_is_read_as_text_and_one_of_lists_is_not(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "set" / "train.parquet")
    assert list(Corpus([{"dataset": "set"}]).documents(LocalSource(str(tmp_path)), "train")) == ["1", "2"]
    pq.write_table(pa.table({"text": [[1], [2]]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(DataError, match=r"column 'text' holds list<.*>, not text"):
        list(Corpus([{"dataset": "set"}]).documents(LocalSource(str(tmp_path)), "train"))
