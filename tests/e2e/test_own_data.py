"""Tables of one's own: each command of docs/own-data.md runs to its end on a tiny model, and keeps the labels it found."""

import csv
import json
import random
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from protoformer import cli

from .commands import ROOT, Workspace, error_line, predictions, result

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line) for text in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in text.splitlines()
]
TINY = (
    "model.d_model=32",
    "model.d_ff=64",
    "model.n_layers=1",
    "tracking=none",
    "recipe.batch_size=8",
    "recipe.max_steps=2",
    "hardware.threads=1",
)
WORDS = {"negative": ["awful", "bad"], "neutral": ["plain", "so so"], "positive": ["great", "lovely, really"]}
STARS = {"negative": 1, "neutral": 2.5, "positive": 4}


def write_csv(file: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",") -> None:
    with file.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text, delimiter=delimiter).writerows(rows)


def write_data(folder: Path) -> None:
    """The files that the page's commands name."""
    draw = random.Random(0)
    labels = [draw.choice(list(WORDS)) for _ in range(60)]
    reviews = [(f"film {i} was {draw.choice(WORDS[label])}", label, STARS[label]) for i, label in enumerate(labels)]
    write_csv(folder / "reviews.csv", [("review", "sentiment", "stars"), *reviews])
    write_csv(folder / "new.csv", [("review",), ("a great film",), ("a bad film",)])
    pairs = [(f"film {i}", f"film {i + i % 2}", "no" if i % 2 else "yes") for i in range(40)]
    write_csv(folder / "pairs.tsv", [("first", "second", "same"), *pairs], "\t")
    exam = [
        {"question": f"what is {i}", "a": "one", "b": "two", "c": "three", "answer": "abc"[i % 3]} for i in range(40)
    ]
    (folder / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))
    questions = [(f"which film is {i}", f"film {i} is number {i} of them", f"number {i}") for i in range(40)]
    write_csv(folder / "questions.csv", [("question", "context", "answers"), *questions])
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": f"q{i}", "question": question, "answers": [{"text": answer, "answer_start": 0}]}],
        }
        for i, (question, context, answer) in enumerate((q, f"{a} of them", a) for q, _, a in questions)
    ]
    (folder / "squad.json").write_text(
        json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})
    )
    (folder / "texts").mkdir()
    texts = [(f"le film numero {i}", f"il film numero {i}") for i in range(40)]
    for column, language in enumerate(("fr", "it")):
        (folder / "texts" / f"train.{language}").write_text("".join(f"{row[column]}\n" for row in texts))
    write_csv(folder / "pairs.csv", [("fr", "it"), *texts])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("own")
    write_data(folder)
    words = sorted({word for file in folder.glob("*.*") for word in re.findall(r"\w+", file.read_text().lower())})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *words]) + "\n")
    return Workspace(folder)


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *words: str, outputs: str = "outputs") -> Any:
    monkeypatch.chdir(workspace.folder)
    swapped = {"model=bert": "model=bert_l2_h128", "model=transformer": "model=transformer_tiny"}
    mine = [*TINY]
    if "model=bert" in words:
        mine += ["init_from=scratch", "model.tokenizer=vocab.txt", "task.max_len=32"]
    else:
        mine += ["recipe.batch_size=400", "task.module.dev_beams=1", "task.module.beams=1", "model.n_heads=2"]
        mine.remove("recipe.batch_size=8")
    return workspace.run_here(*(swapped.get(word, word) for word in words), *mine, outputs=outputs)


def local(command: Sequence[str]) -> bool:
    return "task.rows.dataset=fancyzhx/ag_news" not in command


@pytest.mark.parametrize("command", [*filter(local, COMMANDS)], ids=lambda command: " ".join(command[2:])[:60])
def test_a_command_of_the_page_runs_to_its_end(
    command: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = f"outputs{COMMANDS.index(command)}"
    done = run(workspace, monkeypatch, *command[2:], outputs=outputs)
    assert done.returncode == 0, done.stderr
    runs = workspace.runs(outputs)
    assert len(runs) == (5 if "-m" in command else 1)
    rows: list[int] = []
    for folder in runs:
        score = result(folder)["metrics"]["val/score"]
        assert score == score
        rows.append(len((folder / "predictions" / "val.jsonl").read_text().splitlines()))
    assert sum(rows) == {"reviews.csv": 60 if "-m" in command else 6}.get(_file(command), 4)


def _file(command: Sequence[str]) -> str:
    return next(word.removeprefix("source.root=") for word in command if word.startswith("source.root="))


def test_labels_are_found_listed_kept_and_not_reordered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(workspace, monkeypatch, *COMMANDS[0][2:], outputs="kept")
    assert first.returncode == 0, first.stderr
    assert "3 labels: negative (" in first.stderr
    assert "54 rows train, 6 validate (stratified by sentiment; task.split_seed draws others)" in first.stderr
    (folder,) = workspace.runs("kept")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    labels = ["negative", "neutral", "positive"]
    assert config["task"]["rows"]["labels"] == config["task"]["module"]["labels"] == labels
    assert config["task"]["splits"] == {
        "train": "train[all but 10% held out, seed 0]", "validation": "train[10% held out, seed 0]", "test": None,
    }  # fmt: skip
    again = run(workspace, monkeypatch, *COMMANDS[0][2:], outputs="kept")
    assert "already finished" in again.stderr
    (folder / "result.json").unlink()  # goes on from its last checkpoint
    goes_on = run(workspace, monkeypatch, *COMMANDS[0][2:], outputs="kept")
    assert goes_on.returncode == 0, goes_on.stderr
    assert yaml.safe_load((folder / "config.yaml").read_text())["task"]["rows"]["labels"] == labels
    # a part of the training data without some label has the labels of the file
    part = run(workspace, monkeypatch, *COMMANDS[0][2:], "task.splits.train='train[:4]'", "task.splits.validation='train[4:8]'",
               outputs="part")  # fmt: skip
    assert part.returncode == 0, part.stderr
    (folder,) = workspace.runs("part")
    assert yaml.safe_load((folder / "config.yaml").read_text())["task"]["rows"]["labels"] == labels
    monkeypatch.chdir(workspace.folder)
    assert cli.main(["predict", str(folder), "--text", "a great film"]) == 0


def test_labels_that_are_given_are_taken_in_their_order(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["positive", "negative", "neutral"]
    done = run(workspace, monkeypatch, *COMMANDS[0][2:], f"task.rows.labels=[{','.join(labels)}]", outputs="given")
    assert done.returncode == 0, done.stderr
    (folder,) = workspace.runs("given")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["task"]["rows"]["labels"] == config["task"]["module"]["labels"] == labels
    assert list(json.loads(predictions(folder)["val.jsonl"].splitlines()[0])["probabilities"]) == labels


def test_files_of_a_folder_and_labels_that_training_never_saw(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, *rows = (workspace.folder / "reviews.csv").read_text().splitlines(keepends=True)
    (tmp_path / "train.csv").write_text("".join([head, *rows[:40]]))
    (tmp_path / "dev.csv").write_text("".join([head, *rows[40:50], "film x was odd,mixed,3\n"]))
    (tmp_path / "test.csv").write_text("".join([head, *rows[50:]]))
    (tmp_path / "notes.csv").write_text("anything,else\n1,2\n")
    words = [word.replace("reviews.csv", str(tmp_path)) for word in COMMANDS[0][2:]]
    refused = run(workspace, monkeypatch, *words, outputs="folder")
    assert refused.returncode == 2
    line = error_line(refused)
    assert (
        "dev.csv, line 12, column 'sentiment': none of the labels ['negative', 'neutral', 'positive'] ('mixed')" in line
    )
    done = run(workspace, monkeypatch, *words, "task.data.on_bad_row=skip", outputs="skipped")
    assert done.returncode == 0, done.stderr
    (folder,) = workspace.runs("skipped")
    assert {name: len(text.splitlines()) for name, text in predictions(folder).items()} == {
        "test.jsonl": 10, "val.jsonl": 10,
    }  # fmt: skip
    (tmp_path / "notes.csv").write_text("another file of the folder changes nothing\n")
    again = run(workspace, monkeypatch, *words, "task.data.on_bad_row=skip", outputs="skipped")
    assert "already finished" in again.stderr


def test_labels_of_the_data_are_literal(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["${", "${oc.env:HOME}", "${seed}", "???"]
    write_csv(
        workspace.folder / "odd.csv", [("review", "sentiment"), *((f"film {i}", labels[i % 4]) for i in range(40))]
    )
    words = [word.replace("reviews.csv", "odd.csv") for word in COMMANDS[0][2:]]
    done = run(workspace, monkeypatch, *words, outputs="odd")
    assert done.returncode == 0, done.stderr
    (folder,) = workspace.runs("odd")
    assert list(json.loads(predictions(folder)["val.jsonl"].splitlines()[0])["probabilities"]) == labels


def test_a_file_to_test_on_is_not_trained_on(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.csv").write_text((workspace.folder / "reviews.csv").read_text())
    words = [word.replace("reviews.csv", str(tmp_path)) for word in COMMANDS[0][2:]]
    refused = run(workspace, monkeypatch, *words, outputs="test_alone")
    assert refused.returncode == 2
    assert "no file train*" in error_line(refused)
    (tmp_path / "test.csv").rename(tmp_path / "anything.csv")
    assert run(workspace, monkeypatch, *words, outputs="alone").returncode == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.rows.text=revew"], "no column 'revew' (task.rows.text); it has review, sentiment, stars"),
        (["task.rows.label=mood"], "no column 'mood' (task.rows.label); it has review, sentiment, stars"),
        (
            ["task.rows.label=review"],
            "60 different values in 60 rows, which are no labels; task=regress learns numbers",
        ),
        (["task.folds=5"], "task.folds=5 and task.fold=null: name both"),
        (["task.folds=5", "task.fold=5"], "task.folds=5 and task.fold=5: name both, with fold below folds"),
        (["task.folds=70", "task.fold=5"], "60 rows are too few for"),
        (
            ["task.splits.train='train[:30]+train[20:]'", "task.splits.validation=train"],
            "a row is in two of these parts",
        ),
        (["task.splits.train=null"], "task.splits.train"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    overrides: list[str], said: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {text.partition("=")[0] for text in overrides}
    words = [word for word in COMMANDS[0][2:] if word.partition("=")[0] not in keys]
    done = run(workspace, monkeypatch, *words, *overrides, outputs="refused")
    assert done.returncode == 2, done.stderr
    if "null" not in overrides[0]:
        assert said in error_line(done)


def test_a_key_that_is_not_set_says_what_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in COMMANDS[0][2:] if not word.startswith("task.rows.text")]
    done = run(workspace, monkeypatch, *words)
    assert done.returncode == 2
    assert error_line(done).endswith("task.rows.text is not set; add task.rows.text=<the column of the text>")


def test_the_readmes_commands_lead_from_a_csv_to_predictions_on_another(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each as the README writes it, in a row; the model is made small, and RUN is the folder that the second prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^## Your own table\n.*?^```bash\n(.*?)^```", readme, re.M | re.S)
    install, train, predict = (shlex.split(line) for line in block.splitlines())
    assert install == ["pip", "install", "-e", "."]
    assert train[:2] == ["python", "train.py"]
    monkeypatch.chdir(workspace.folder)
    small = [*TINY, "model.n_heads=2", "init_from=scratch", "model.tokenizer=vocab.txt"]
    done = workspace.run_here(*train[2:], *small, outputs="readme/outputs")
    assert done.returncode == 0, done.stderr
    (folder,) = re.findall(r"^run folder +(\S+)$", done.stdout, re.M)
    monkeypatch.chdir(workspace.folder / "readme")
    assert "outputs/bert/classify/RUN" in predict
    words = [word.replace("outputs/bert/classify/RUN", str(Path(folder).relative_to(Path.cwd()))) for word in predict]
    assert words[:2] == ["protoformer", "predict"]
    (workspace.folder / "readme" / "new.csv").write_text((workspace.folder / "new.csv").read_text())
    assert cli.main(words[1:]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert [row["review"] for row in rows] == ["a great film", "a bad film"]
    assert all(row["prediction"] in WORDS for row in rows)
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4) for row in rows)


def test_without_a_source_the_line_says_where_data_goes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in COMMANDS[0][2:] if not word.startswith("source")]
    done = run(workspace, monkeypatch, *words)
    assert done.returncode == 2
    assert "reads data of your own; add source=local source.root=" in error_line(done)
