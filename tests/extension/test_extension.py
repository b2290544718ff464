"""A kind and a family from outside of the package: files and options that `--config-dir` names, and every command."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import protoformer
from protoformer.cli import main as command
from protoformer.runs import reader
from protoformer.text.tokenizers import whole_word_tokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COLORS = ["red", "green", "blue", "white", "black", "grey", "pink", "brown"]
THINGS = ["ball", "car", "tree", "house", "chair", "door", "book", "boat"]
TINY = (
    *("model.d_model=32", "model.n_layers=2", "model.n_heads=2", "model.d_ff=48"),
    *("init_from=scratch", "tracking=none", "hardware=cpu", "hardware.threads=1", "views.attention=true"),
    *("recipe.max_steps=12", "recipe.epochs=null", "recipe.batch_size=4", "recipe.lr=1e-3", "trainer.log_every=1"),
)
ELECTRA = ("model=electra_small", "model.d_embedding=16", *TINY)
BERT = ("model=bert", *TINY)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the ranking kind in jsonl, and a vocabulary."""
    folder = tmp_path_factory.mktemp("extension")
    data = folder / "data" / "passages"
    data.mkdir(parents=True)
    for split, count, hidden in (("train", 24, False), ("validation", 12, False), ("test", 6, True)):
        rows = [ranking_row(number, hidden) for number in range(count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"which thing is {color} ? the {thing} is not" for color, thing in zip(COLORS, THINGS, strict=True)]
    whole_word_tokenizer(words, "here").save(folder / "vocabulary")
    return folder


def ranking_row(number: int, hidden: bool) -> dict[str, Any]:
    """A query with two to four candidates."""
    count = 2 + number % 3
    relevant = number % count
    candidates = [f"The {THINGS[(number + c) % 8]} is {COLORS[(number + c) % 8]}" for c in range(count)]
    query = f"Which thing is {COLORS[(number + relevant) % 8]}?"
    return {"query": query, "candidates": candidates, "relevant": None if hidden else relevant}


def trained(place: Path, *overrides: str) -> Path:
    """The folder of a run of `protoformer train`."""
    outputs = f"paths.outputs={place / 'outputs'}"
    words = [*overrides, outputs, f"paths.cache={place / 'cache'}", f"model.tokenizer={place / 'vocabulary'}"]
    assert command(["train", "--config-dir", str(HERE / "conf"), *words]) == 0
    return max(reader.find_runs([str(place / "outputs")]), key=lambda folder: folder.stat().st_mtime_ns)


def local(place: Path) -> tuple[str, ...]:
    return "task=passages", "source=local", f"source.root={place / 'data'}"


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, list[Path]]:
    """Two seeds of the new kind with a model of the package, of a task of the package with the new family, and of both."""
    return {
        name: [trained(place, *words, f"seed={seed}") for seed in (1, 2)]
        for name, words in {
            "kind": (*BERT, *local(place)),
            "family": (*ELECTRA, "task=glue/mrpc", "source=sample", "source.rows=48"),
            "both": (*ELECTRA, *local(place)),
        }.items()
    }


NAMES = ("kind", "family", "both")
Command = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Command:
    """What a command prints; its errors are shown."""

    def run(*words: object) -> str:
        code = command([str(word) for word in words])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def test_each_is_at_most_three_files() -> None:
    ranking = [*(HERE / "ranking").glob("*.*"), HERE / "conf" / "task" / "passages.yaml"]
    electra = [*(HERE / "electra").glob("*.*"), HERE / "conf" / "model" / "electra_small.yaml"]
    assert len(ranking) == len(electra) == 3
    assert {*(HERE / "conf").rglob("*.yaml")} <= {*ranking, *electra}


def test_src_knows_neither() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8").lower()
        assert not re.search(r"electra(?!tokenizer)|rankingmodule|rankingdata|[\"']ranking[\"']", text), file


@pytest.mark.parametrize("name", NAMES)
def test_train(runs: dict[str, list[Path]], name: str) -> None:
    result = json.loads((runs[name][0] / "result.json").read_text())
    assert result["training"]["steps"] == 12
    metrics = {"val/mrr", "val/accuracy_at_1"} if name != "family" else {"val/accuracy", "val/f1"}
    assert metrics <= result["metrics"].keys()
    assert (runs[name][0] / "attention.html").exists()
    assert (runs[name][0] / "card.md").exists()


def test_predictions_of_the_kind(runs: dict[str, list[Path]]) -> None:
    run = runs["kind"][0]
    rows = reader.read_predictions(run / "predictions" / "val.jsonl")
    assert [row["id"] for row in rows] == list(range(12))
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert metrics["val/mrr"] == pytest.approx(sum(1 / row["rank"] for row in rows) / 12)
    assert metrics["val/accuracy_at_1"] == pytest.approx(sum(row["prediction"] == row["label"] for row in rows) / 12)
    hidden = reader.read_predictions(run / "predictions" / "test.jsonl")
    assert len(hidden) == 6
    assert all(row["label"] is None and row["prediction"] for row in hidden)


@pytest.mark.parametrize("name", ["kind", "both"])
def test_predict_ranks_candidates(runs: dict[str, list[Path]], printed: Command, name: str) -> None:
    candidates = ["The ball is red", "The car is green", "The tree is blue"]
    words = [word for text in candidates for word in ("--choice", text)]
    title, *lines = printed("predict", runs[name][0], "--text", "Which thing is blue?", *words).splitlines()
    assert title == "candidate"
    assert {line.split("%")[1].strip() for line in lines} == set(candidates)
    assert sum(float(line.split("%")[0]) for line in lines) == pytest.approx(100, abs=0.02)


def test_predict_says_what_the_kind_takes(runs: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["predict", str(runs["kind"][0]), "--text", "Which thing is blue?"]) == 2
    assert "--text QUERY --choice A --choice B" in capsys.readouterr().err


def test_predict_with_the_family(runs: dict[str, list[Path]], printed: Command) -> None:
    lines = printed("predict", runs["family"][0], "--text", "The car is red", "--pair", "The red car").splitlines()
    assert lines[0] == "label"
    assert len(lines) == 3


@pytest.mark.parametrize("name", NAMES)
def test_compare_two_seeds(runs: dict[str, list[Path]], printed: Command, name: str) -> None:
    table = printed("compare", runs[name][0], "--with", runs[name][1], "--resamples", "200")
    metrics = ["mrr", "accuracy_at_1"] if name != "family" else ["accuracy"]
    assert all(metric in table for metric in metrics)


@pytest.mark.parametrize("name", NAMES)
def test_export_opens_in_transformers(runs: dict[str, list[Path]], printed: Command, tmp_path: Path, name: str) -> None:
    out = printed("export", runs[name][0], "--to", "hf", tmp_path / "hf")
    prefix = "Bert" if name == "kind" else "Electra"
    head = "SequenceClassification" if name == "family" else "MultipleChoice"
    assert f"transformers.{prefix}For{head} opens it" in out
    model, report = getattr(transformers, f"{prefix}For{head}").from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    queries, texts = ["which thing is blue"] * 3, ["the ball is red", "the car", "the tree is blue and not green"]
    theirs = dict(tokenizer(queries, texts, padding=True, return_tensors="pt"))
    ours = {
        "ids": theirs["input_ids"],
        "padding_mask": theirs["attention_mask"].bool(),
        "segment_ids": theirs["token_type_ids"],
        "pooler_position": torch.zeros(3, dtype=torch.long),
    }
    if name != "family":  # the three are one example
        theirs, ours = ({key: tensor[None] for key, tensor in batch.items()} for batch in (theirs, ours))
        ours["candidate_mask"] = torch.ones(1, 3, dtype=torch.bool)
    else:  # an example each, of one sequence
        ours = {key: tensor[:, None] for key, tensor in ours.items()}
    with torch.no_grad():
        torch.testing.assert_close(
            protoformer.load(runs[name][0]).model(ours), model.eval()(**theirs).logits, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", NAMES)
def test_an_export_starts_a_run(runs: dict[str, list[Path]], place: Path, tmp_path: Path, name: str) -> None:
    """Fine-tuning from the exported folder at a learning rate of almost nothing gives the same scores."""
    assert command(["export", str(runs[name][0]), "--to", "hf", str(tmp_path / "hf")]) == 0
    model = "bert" if name == "kind" else "electra_small"
    data = local(place) if name != "family" else ("task=glue/mrpc", "source=sample", "source.rows=48")
    again = trained(
        place, f"model={model}", f"init_from={tmp_path / 'hf'}", *data,
        "tracking=none", "hardware=cpu", "recipe.lr=1e-12", "recipe.max_steps=1", "recipe.epochs=null", "recipe.batch_size=4",
    )  # fmt: skip
    first, second = (json.loads((run / "result.json").read_text())["metrics"] for run in (runs[name][0], again))
    assert all(second[key] == pytest.approx(first[key], abs=1e-5) for key in first if key.startswith("val/"))


@pytest.mark.parametrize("name", NAMES)
def test_attention(runs: dict[str, list[Path]], printed: Command, tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.html"
    out = printed("attention", runs[name][0], "--text", "Which thing is red?", "--text-b", "The ball", "--out", page)
    assert "2 layers of 2 heads, 32 wide" in out
    assert page.exists()


@pytest.mark.parametrize("words", [(*BERT, "task=passages"), (*ELECTRA, "task=glue/mrpc"), (*ELECTRA, "task=passages")])
def test_plan(printed: Command, words: tuple[str, ...]) -> None:
    out = printed("plan", "--config-dir", HERE / "conf", *words, "recipe.epochs=3", "recipe.max_steps=-1")
    assert "parameters" in out
    assert "FLOP" in out
    assert "warm up" in out


def test_report(runs: dict[str, list[Path]], place: Path, printed: Command, tmp_path: Path) -> None:
    out = printed("report", place / "outputs", "--csv", tmp_path / "runs.csv", "--markdown", tmp_path / "runs.md")
    assert "electra_small" in out
    assert "passages" in out
    table = (tmp_path / "runs.md").read_text()  # that of a terminal folds its heads
    assert all(name in table for name in ("val/mrr", r"val/accuracy\_at\_1", "val/f1"))
    mrr = json.loads((runs["kind"][0] / "result.json").read_text())["metrics"]["val/mrr"]
    assert f"{100 * mrr:.2f}" in (runs["kind"][0] / "card.md").read_text()


def test_list_shows_both(printed: Command) -> None:
    out = printed("list", "--config-dir", HERE / "conf")
    assert "electra_small" in out
    assert "ranking (1)" in " ".join(out.split())


@pytest.mark.parametrize("name", NAMES)
def test_other_commands_say_why_not(
    runs: dict[str, list[Path]], capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    run = str(runs[name][0])
    source = tmp_path / "source.txt"
    source.write_text("The ball\n")
    for words, reason in (
        (("generate", run, "--prompt", "The"), "only decoders generate text"),
        (("translate", run, "--file", str(source)), "does not translate"),
    ):
        assert command(list(words)) == 2
        assert reason in capsys.readouterr().err
    if name != "family":
        assert command(["submission", "glue", run]) == 2
        assert "not a GLUE task" in capsys.readouterr().err
