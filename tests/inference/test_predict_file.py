"""`protoformer predict --file`: every format and kind, order, bad rows, and files that are continued after an interruption."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from protoformer.cli import main as command
from protoformer.inference import predict_file
from protoformer.inference.load import load
from protoformer.modules.kinds.classification import ClassificationModule

from .test_predict import write_run

TEXTS = ["x y", "z", "x x x x y", "? z y x", "y"]


@pytest.fixture
def sst2(tmp_path: Path) -> Path:
    return write_run(tmp_path, "glue/sst2")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def predict(*words: Any) -> int:
    return command(["predict", *map(str, words)])


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_format_gives_the_same_predictions(sst2: Path, tmp_path: Path) -> None:
    rows = [{"id": number, "sentence": text} for number, text in enumerate(TEXTS)]
    files = {
        "in.csv": lambda path: write_csv(path, rows),
        "in.tsv": lambda path: path.write_text(
            "id\tsentence\n" + "".join(f"{r['id']}\t{r['sentence']}\n" for r in rows)
        ),
        "in.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
        "in.json": lambda path: path.write_text(json.dumps(rows)),
        "in.parquet": lambda path: pq.write_table(pa.Table.from_pylist(rows), path),
        "in.txt": lambda path: path.write_text("".join(f"{text}\n" for text in TEXTS)),
    }
    predictions = {}
    for name, write in files.items():
        path, out = tmp_path / name, tmp_path / f"{name}.out.jsonl"
        write(path)
        assert predict(sst2, "--file", path, "--out", out) == 0
        records = lines(out)
        assert [record.get("sentence", record.get("text")) for record in records] == TEXTS
        assert all(list(record["probabilities"]) == ["negative", "positive"] for record in records)
        assert all(sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-4) for record in records)
        predictions[name] = [(record["prediction"], record["probabilities"]) for record in records]
    assert all(each == predictions["in.csv"] for each in predictions.values())
    assert [record["id"] for record in lines(tmp_path / "in.parquet.out.jsonl")] == list(range(5))


def test_predictions_of_a_file_are_those_of_single_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "pretrain/mlm_nsp", answers={2: "y", 3: "x", 4: "z"})
    path = tmp_path / "in.txt"
    path.write_text("x [MASK]\nx [MASK] [MASK]\n[MASK]\n")
    assert predict(run, "--file", path, "--top", 2) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["prediction"] for record in records][:2] == ["y", ["y", "x"]]
    opened = load(run)
    alone = [opened.predict(text, top=2)["prediction"] for text in path.read_text().splitlines()]
    assert [record["prediction"] for record in records] == alone
    assert all(len(record["probabilities"]) == 2 for record in records)


def test_pairs_numbers_answers_and_choices(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    pairs = write_csv(
        tmp_path / "p.csv", [{"sentence1": "x", "sentence2": "y z"}, {"sentence1": "z", "sentence2": "x"}]
    )
    number = write_run(tmp_path / "b", "glue/stsb")
    assert predict(number, "--file", pairs, "--out", out) == 0
    assert [record["prediction"] for record in lines(out)] == [1.25, 1.25]

    answers = write_run(tmp_path / "c", "squad/v1")
    questions = write_csv(tmp_path / "q.csv", [{"id": "a", "question": "x ?", "context": "X x ? x Y  x Z? x"}])
    assert predict(answers, "--file", questions, "--out", tmp_path / "q.jsonl") == 0
    (record,) = lines(tmp_path / "q.jsonl")
    assert (record["id"], record["prediction"], record["n_best"][0]["text"]) == ("a", "Y  x Z", "Y  x Z")

    swag = write_run(tmp_path / "d", "swag")
    rows = [{"q": "x y", "choices": ["y", "z z x", "?"]}, {"q": "z", "choices": ["x", "y"]}]
    choices = tmp_path / "c.jsonl"
    choices.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert predict(swag, "--file", choices, "--out", tmp_path / "o.jsonl", "--text-column", "q") == 0
    records = lines(tmp_path / "o.jsonl")
    for record, row in zip(records, rows, strict=True):
        assert record["prediction"] == row["choices"][record["choice"]]
        assert len(record["probabilities"]) == len(row["choices"])
        assert max(record["probabilities"]) == record["probabilities"][record["choice"]]


def test_csv_out_has_a_column_for_each_label(sst2: Path, tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "in.csv", [{"sentence": "x, y", "prediction": "mine"}, {"sentence": "z\ny", "prediction": ""}]
    )
    assert predict(sst2, "--file", source, "--out", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ["sentence", "input_prediction", "prediction", "probability_negative", "probability_positive"]
    assert list(rows[0]) == names
    assert [row["sentence"] for row in rows] == ["x, y", "z\ny"]
    assert rows[0]["prediction"] == "positive"
    assert float(rows[0]["probability_positive"]) > 0.5


def test_an_input_column_of_a_labels_probability_is_kept(sst2: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [{"sentence": "x", "probability_negative": "mine"}])
    for name in ("out.csv", "out.jsonl"):
        assert predict(sst2, "--file", source, "--out", tmp_path / name) == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["input_probability_negative"] == "mine"
    assert 0 <= float(row["probability_negative"]) <= 1
    assert lines(tmp_path / "out.jsonl")[0]["probability_negative"] == "mine"
    assert predict(sst2, "--file", source, "--out", tmp_path / "out.csv") == 0  # finished already


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_interrupted_file_is_continued(
    sst2: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_file, "CHUNK_ROWS", 2)
    source = write_csv(
        tmp_path / "in.csv", [{"sentence": text, "n": f"{number}\n"} for number, text in enumerate(TEXTS)]
    )
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    assert predict(sst2, "--file", source, "--out", whole) == 0
    for size in (0, 5, len(whole.read_bytes()) // 2, len(whole.read_bytes()) - 3):
        out.write_bytes(whole.read_bytes()[:size])
        assert predict(sst2, "--file", source, "--out", out) == 0
        assert out.read_bytes() == whole.read_bytes(), size
    assert "continuing" in capsys.readouterr().err
    assert predict(sst2, "--file", source, "--out", out) == 0
    assert f"{out}: finished already (5 rows)" in capsys.readouterr().err


def test_ctrl_c_keeps_whole_rows(
    sst2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_file, "CHUNK_ROWS", 2)
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{text}\n" for text in TEXTS))
    predictor: Any = predict_file.RowPredictor
    records, calls = predictor.records, []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return records(self, *arguments)

    monkeypatch.setattr(predictor, "records", interrupted)
    assert predict(sst2, "--file", source, "--out", out) == 130
    assert capsys.readouterr().err == "error: interrupted after 2 rows; the same command continues\n"
    assert len(lines(out)) == 2
    monkeypatch.setattr(predictor, "records", records)
    assert predict(sst2, "--file", source, "--out", out) == 0
    assert [record["text"] for record in lines(out)] == TEXTS


def test_a_file_of_other_rows_is_not_touched(sst2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, other, out = tmp_path / "in.txt", tmp_path / "other.txt", tmp_path / "out.jsonl"
    source.write_text("x\ny\n")
    other.write_text("z\ny\n")
    assert predict(sst2, "--file", source, "--out", out) == 0
    before = out.read_bytes()
    assert predict(sst2, "--file", other, "--out", out) == 2
    assert (
        f"--out {out} holds other rows than those of {other}: name another file, or --force" in capsys.readouterr().err
    )
    assert out.read_bytes() == before
    assert predict(sst2, "--file", other, "--out", out, "--force") == 0
    assert [record["text"] for record in lines(out)] == ["z", "y"]
    assert predict(sst2, "--file", out, "--out", out) == 2
    assert "is the file that is read" in capsys.readouterr().err


def test_a_file_of_another_model_or_of_other_options_is_not_touched(
    sst2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight that moves no prediction by more than the rounding of a batch makes another model; a copied run does not."""
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("x\ny\n")
    assert predict(sst2, "--file", source, "--out", out) == 0
    before = out.read_bytes()
    copied = Path(shutil.copytree(sst2, tmp_path / "copied"))
    assert predict(copied, "--file", source, "--out", out) == 0
    assert "finished already" in capsys.readouterr().err
    (checkpoint,) = (copied / "checkpoints").iterdir()
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["head.linear.bias"][0] += 1e-6
    torch.save(content, checkpoint)
    assert predict(copied, "--file", source, "--out", out) == 2
    message = f"--out {out} holds predictions of another model than {copied} is now (weights, tokenizer or config)"
    assert capsys.readouterr().err == f"error: {message}: name another file, or --force replaces it\n"
    assert predict(sst2, "--file", source, "--out", out, "--top", 2) == 2
    assert "was written with --top 5, this command is with --top 2" in capsys.readouterr().err
    assert predict(sst2, "--file", source, "--out", out, "--text-column", "text") == 2
    assert "was written without --text-column, this command is with --text-column text" in capsys.readouterr().err
    assert out.read_bytes() == before
    (tmp_path / ".out.jsonl.origin.json").unlink()
    assert predict(sst2, "--file", source, "--out", out) == 2
    assert "is not known (no .out.jsonl.origin.json beside it can be read)" in capsys.readouterr().err
    assert predict(copied, "--file", source, "--out", out, "--force") == 0
    assert predict(copied, "--file", source, "--out", out) == 0
    assert "finished already" in capsys.readouterr().err


BAD_FILES = {
    "empty.csv": (b"", "empty.csv"),
    "header.csv": (b"sentence\n", "header.csv: no rows"),
    "empty.txt": (b"", "empty.txt: no rows"),
    "empty.jsonl": (b"", "empty.jsonl"),
    "absent.csv": (b"a,b\n1,2\n", "no column 'sentence'; it has a, b: name the one with the text by --text-column"),
    "in.xlsx": (b"PK", "in.xlsx: an unknown format"),
    "line.csv": (b"sentence,n\nx,1\ny\n", "line.csv, line 3: 1 field where the header has 2"),
    "line.jsonl": (b'{"sentence": "x"}\n{"sentence": \n', "line.jsonl, line 2"),
    "surrogate.jsonl": (b'{"sentence": "x"}\n{"sentence": "\\ud800"}\n', "surrogate.jsonl, line 2"),
    "bytes.txt": (b"x\n\xff\n", "bytes.txt, line 2: not UTF-8"),
    "null.csv": (b"sentence,n\nx,1\n,2\n", "null.csv, line 3: column 'sentence': empty text"),
    "list.jsonl": (b'{"sentence": ["x"]}\n', "list.jsonl, line 1: column 'sentence': a list, not a text"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_line(sst2: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    assert predict(sst2, "--file", tmp_path / name, "--out", tmp_path / "out.jsonl") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_bad_rows_are_skipped_and_counted(sst2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"sentence": "x"}\n{"sentence": \n{"sentence": null}\n{"sentence": "y"}\n')
    for _ in range(2):
        assert predict(sst2, "--file", source, "--out", out, "--on-bad-row", "skip", "--force") == 0
        assert "2 rows without a prediction" in capsys.readouterr().err
    assert [record["prediction"] for record in lines(out)] == ["positive", None, None, "positive"]
    assert predict(sst2, "--file", source, "--out", out, "--on-bad-row", "skip") == 0
    assert "finished already" in capsys.readouterr().err


def test_long_texts_are_truncated_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "glue/sst2", max_len=6)
    (tmp_path / "in.txt").write_text("x\n" + "y " * 20 + "\n")
    assert predict(run, "--file", tmp_path / "in.txt", "--out", tmp_path / "out.jsonl") == 0
    assert "1 text truncated to 6 tokens\n" in capsys.readouterr().err


def test_standard_input(sst2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        (["--file", "-"], "x\ny\n"),
        (["--text", "-"], "x\ny\n"),
        (["--file", "-"], '{"sentence": "x"}\n{"sentence": "y"}\n'),
        (["--file", "-", "--format", "csv"], "sentence,n\nx,1\ny,2\n"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert predict(sst2, *words) == 0
        assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == ["positive"] * 2


def test_several_texts_are_answered_each(tmp_path: Path, sst2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(sst2, "--text", "x", "--text", "y z", "--top", "1") == 0
    titles = capsys.readouterr().out.splitlines()
    assert [titles[0], titles[3]] == ["x", "y z"]
    pairs = write_run(tmp_path / "b", "glue/mrpc")
    assert predict(pairs, "--text", "x", "--pair", "y", "--text", "z", "--pair", "x") == 0
    assert capsys.readouterr().out.count("label") == 2
    assert predict(pairs, "--text", "x", "--pair", "y", "--text", "z") == 2
    assert "give one --pair for each --text" in capsys.readouterr().err
    assert predict(sst2) == 2
    assert "give --text TEXT, or --file FILE" in capsys.readouterr().err
    assert predict(sst2, "--text", "x \udcff", "--text", "y") == 0
    assert "x \ufffd" in capsys.readouterr().out


def test_memory_that_runs_out_names_the_flag_and_the_same_file_goes_on(
    sst2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_file, "CHUNK_ROWS", 2)
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{text}\n" for text in [*TEXTS[:2], "x " * 20, "y " * 20]))
    module: Any = ClassificationModule
    eval_step = module.eval_step

    def with_little_memory(self: Any, batch: Any, *arguments: Any) -> Any:
        if batch["ids"].numel() > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return eval_step(self, batch, *arguments)

    monkeypatch.setattr(module, "eval_step", with_little_memory)
    message = (
        "error: out of memory with 8192 tokens at once; half as many, with the same results: --batch-tokens 4096\n"
    )
    assert predict(sst2, "--file", source, "--out", out) == 2
    assert capsys.readouterr().err == message
    assert len(lines(out)) == 2
    assert predict(sst2, "--file", source, "--out", out, "--batch-tokens", 32) == 0
    assert "2 rows are there, continuing" in capsys.readouterr().err
    assert [record["prediction"] for record in lines(out)] == ["positive"] * 4
    assert predict(sst2, "--text", "x " * 20, "--text", "y " * 20) == 2
    assert capsys.readouterr().err == message
    assert predict(sst2, "--file", source, "--batch-tokens", 0) == 2
    assert capsys.readouterr().err == "error: --batch-tokens 0: at least 1\n"
