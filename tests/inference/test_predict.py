"""`protoformer predict RUN --text ...`: weights made by hand, so that every answer is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import protoformer
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import builder_arguments, task_module
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.inference.load import LoadedRun
from protoformer.inference.predict import Guess, Question, predict
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_words

WORDS = whole_words(["x y z ?"], "here")
D_MODEL = 16
TOLD = {2: "y", 3: "x", 4: "z"}  # what the model made by hand says at each position


def id_of(word: str) -> int:
    return WORDS.rust.token_to_id(word)


def by_hand(module: Any, answers: dict[int, str]) -> None:
    """Layers that change nothing. A token is a unit vector; a position is ten times that of the word to be told there."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.zero_()
        backbone = module.backbone
        backbone.embeddings.token.weight.copy_(torch.eye(D_MODEL)[: WORDS.vocab_size])
        for position, word in answers.items():
            dict(backbone.embeddings.named_parameters())["position.weight"][position, id_of(word)] = 10.0


def write_run(
    place: Path, task: str, *overrides: str, answers: dict[int, str] | None = None, max_len: int = 32
) -> Path:
    config = compose(["model=bert", f"task={task}", "source=sample", f"paths.outputs={place}", *overrides])
    config["task"]["max_len"] = max_len
    sizes = {"d_model": D_MODEL, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 40}
    config["model"] |= {"vocab_size": WORDS.vocab_size, **sizes}
    folder = RunFolder(place / "bert" / task / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module: Any = task_module(config, builder_arguments(config["model"]))
    by_hand(module, answers or {})
    kind, head = config["task"]["kind"], module.head
    with torch.no_grad():
        if kind == "pretraining":
            head.masked.transform.weight.copy_(torch.eye(D_MODEL))
        elif kind == "classification":
            head.linear.bias.copy_(torch.arange(len(head.linear.bias)) + 1.25)
        elif kind == "span":
            head.linear.weight[0, id_of("y")] = head.linear.weight[1, id_of("z")] = 2.0
        else:
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    WORDS.save(folder.path / "tokenizer")
    return folder.path


def opened(place: Path, task: str, *overrides: str, **more: Any) -> LoadedRun:
    return protoformer.load(write_run(place, task, *overrides, **more))


def first(found: list[tuple[str, list[Guess]]]) -> dict[str, str]:
    return {title: guesses[0].text for title, guesses in found}


def test_masks_are_filled_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "pretrain/mlm_nsp", answers=TOLD)
    loaded = protoformer.load(run)
    assert first(predict(loaded, Question("x [MASK]"))) == {"[MASK]": "y"}
    several = predict(loaded, Question("x [MASK] [MASK] [MASK]", top=3))
    assert first(several) == {"[MASK] 1": "y", "[MASK] 2": "x", "[MASK] 3": "z"}
    assert all(len(guesses) == 3 for _, guesses in several)
    (_, all_of_them), = predict(loaded, Question("x [MASK]", top=10_000))  # fmt: skip
    shares = [guess.probability or 0.0 for guess in all_of_them]
    assert len(shares) == WORDS.vocab_size
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert first(predict(loaded, Question("x", pair="[MASK] y"))) == {"[MASK]": "x"}  # [CLS] x [SEP] [MASK] ...
    assert command(["predict", str(run), "--text", "x [MASK]", "--top", "2"]) == 0
    title, one, two = capsys.readouterr().out.splitlines()
    assert (title, one.split()[1]) == ("[MASK]", "y")
    assert all(line.split()[0].endswith("%") for line in (one, two))


def test_a_text_without_a_mask_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "pretrain/mlm_nsp", answers=TOLD, max_len=6)
    for text in ("x y", "x x x x x [MASK]"):
        assert command(["predict", str(run), "--text", text]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: there is no [MASK] in {text!r} (or it was cut off)")
        assert error.count("\n") == 1
    assert command(["predict", str(run), "--text", "x [MASK]", "--top", "0"]) == 2
    assert capsys.readouterr().err == "error: --top 0: at least 1\n"
    assert command(["predict", str(tmp_path / "nowhere"), "--text", "x"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: no such run folder\n"


def test_a_model_that_reads_from_the_left_tells_what_comes_next(tmp_path: Path) -> None:
    settings = ["model.attention=causal", "+model.format.summary=last"]
    loaded = opened(tmp_path, "pretrain/ltr", *settings, answers=TOLD)
    assert first(predict(loaded, Question("z y"))) == {"next": "y"}
    assert first(predict(loaded, Question("z y y"))) == {"next": "x"}


def test_a_classifier_of_single_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "glue/sst2")
    loaded = protoformer.load(run)
    (title, (best, other)), = predict(loaded, Question("x y"))  # fmt: skip
    assert (title, best.text, other.text) == ("label", "positive", "negative")
    assert best.probability == pytest.approx(torch.tensor([1.0, 0.0]).softmax(0)[0].item())
    with pytest.raises(ConfigurationError, match="takes one text: --text A, without --pair"):
        predict(loaded, Question("x", pair="y"))
    assert command(["predict", str(run), "--text", "x", "--pair", "y"]) == 2
    assert capsys.readouterr().err == "error: this run's task takes one text: --text A, without --pair\n"


def test_a_classifier_of_pairs_and_a_number(tmp_path: Path) -> None:
    loaded = opened(tmp_path / "a", "glue/mnli")
    assert first(predict(loaded, Question("x", pair="y"))) == {"label": "contradiction"}
    (_, guesses), = predict(loaded, Question("x", pair="y", top=1))  # fmt: skip
    assert len(guesses) == 1
    with pytest.raises(ConfigurationError, match="takes two texts: --text A --pair B"):
        predict(loaded, Question("x"))
    number = opened(tmp_path / "b", "glue/stsb")
    assert predict(number, Question("x", pair="y")) == [("value", [Guess("1.2500")])]


def test_choices_are_ordered_by_their_scores(tmp_path: Path) -> None:
    loaded = opened(tmp_path, "swag")
    endings = ["y", "z z x", "?", "x y z ? x"]
    (title, guesses), = predict(loaded, Question("x y", choices=endings))  # fmt: skip
    format = instantiate(loaded.config, "model.format", tokenizer=loaded.tokenizer)
    model: Any = loaded.model
    scores = {}
    for ending in endings:
        written = format.texts(loaded.tokenizer.encode(["x y"]), loaded.tokenizer.encode([ending]), 32)
        ids = torch.from_numpy(written.ids).long()[None]
        segments = torch.from_numpy(written.segment_ids).long()[None]
        with torch.no_grad():
            hidden = model.backbone(ids, torch.ones_like(ids, dtype=torch.bool), segments)
            scores[ending] = model.head(model.backbone.pooler(hidden, torch.zeros(1, dtype=torch.long))).item()
    order = sorted(endings, key=lambda ending: -scores[ending])
    assert (title, [guess.text for guess in guesses]) == ("choice", order)
    shares = torch.tensor([scores[ending] for ending in order]).softmax(0)
    assert [guess.probability for guess in guesses] == pytest.approx(shares.tolist(), rel=1e-4)
    (_, two), = predict(loaded, Question("x y", choices=endings[:2]))  # fmt: skip
    assert sorted(guess.text for guess in two) == sorted(endings[:2])
    for choices in ([], ["y"]):
        with pytest.raises(ConfigurationError, match="chooses between ways to go on"):
            predict(loaded, Question("x y", choices=choices))


@pytest.mark.parametrize("max_len", [32, 10])
def test_an_answer_is_a_piece_of_the_context_as_it_was_written(tmp_path: Path, max_len: int) -> None:
    """Starts are y, ends are z. At length 10 the context is cut into windows."""
    loaded = opened(tmp_path, "squad/v1", "task.data.stride=2", max_len=max_len)
    context = "X x x ? x x Y  x Z? x x x x"
    (title, guesses), = predict(loaded, Question("x ?", pair=context, top=4))  # fmt: skip
    assert (title, guesses[0].text, len(guesses)) == ("answer", "Y  x Z", 4)
    assert [g.probability for g in guesses] == sorted((g.probability for g in guesses), reverse=True)
    with pytest.raises(ConfigurationError, match="answers a question from a context: --text QUESTION --pair CONTEXT"):
        predict(loaded, Question("x ?"))


def test_a_question_may_have_no_answer(tmp_path: Path) -> None:
    loaded = opened(tmp_path, "squad/v2")
    assert first(predict(loaded, Question("x", pair="x y z"))) == {"answer": "y z"}
    with torch.no_grad():
        head: Any = loaded.model.head
        head.linear.weight[:, id_of("[CLS]")] = 3.0
    assert first(predict(loaded, Question("x", pair="x y z"))) == {"answer": "(no answer)"}


def test_what_a_kind_cannot_use_is_said(tmp_path: Path) -> None:
    for task, question in {
        "glue/mrpc": Question("x", pair="y", choices=["z"]),
        "pretrain/mlm_nsp": Question("[MASK]", choices=["z"]),
        "squad/v1": Question("x", pair="y", choices=["z"]),
    }.items():
        with pytest.raises(ConfigurationError, match="--choice"):
            predict(opened(tmp_path, task), question)
    with pytest.raises(ConfigurationError, match="--pair"):
        predict(opened(tmp_path, "swag"), Question("x", pair="y", choices=["y", "z"]))


@pytest.mark.parametrize(
    ("task", "question", "option"),
    [
        ("squad/v1", Question("x", pair=""), "--pair"),
        ("squad/v1", Question(" ", pair="x"), "--text"),
        ("glue/mrpc", Question("x", pair=" "), "--pair"),
        ("swag", Question("x", choices=["y", ""]), "--choice"),
    ],
)
def test_empty_texts_are_one_line_of_error(tmp_path: Path, task: str, question: Question, option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{option} is empty; write the text after it, in quotes$"):
        predict(opened(tmp_path, task), question)
