"""`protoformer predict`: weights made by hand, so that every prediction is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import protoformer
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.inference.load import LoadedRun
from protoformer.inference.predict import predict
from protoformer.modules.queries import Prediction, Query, RankedPredictions
from protoformer.modules.task_module import TaskModule
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_word_tokenizer

WORDS = whole_word_tokenizer(["x y z ?"], "here")
D_MODEL = 16
PREDICTED = {2: "y", 3: "x", 4: "z"}  # the token that the hand-made model predicts at each position


def id_of(word: str) -> int:
    return WORDS.hf_tokenizer.token_to_id(word)


def by_hand(module: Any, answers: dict[int, str]) -> None:
    """Layers that are the identity. A token is a unit vector; a position is ten times that of the token to predict there."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.zero_()
        backbone = module.backbone
        backbone.embeddings.token.weight.copy_(torch.eye(D_MODEL)[: WORDS.vocab_size])
        for position, word in answers.items():
            dict(backbone.embeddings.named_parameters())["position.weight"][position, id_of(word)] = 10.0


def write_run(
    folder: Path,
    task: str,
    *overrides: str,
    answers: dict[int, str] | None = None,
    max_len: int = 32,
    flip: bool = False,
) -> Path:
    config = compose(["model=bert", f"task={task}", "source=sample", f"paths.outputs={folder}", *overrides])
    config["task"]["max_len"] = max_len
    sizes = {"d_model": D_MODEL, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 40}
    config["model"] |= {"vocab_size": WORDS.vocab_size, **sizes}
    run = RunFolder(folder / "bert" / task / "seed42-abc", "seed42-abc")
    run.write_config(config)
    module: Any = build_module(config, builder_arguments(config["model"]))
    by_hand(module, answers or {})
    kind, head = config["task"]["kind"], module.head
    with torch.no_grad():
        if kind == "pretraining":
            head.masked.transform.weight.copy_(torch.eye(D_MODEL))
        elif kind == "classification":
            head.linear.bias.copy_((torch.arange(len(head.linear.bias)) + 1.25) * (-1 if flip else 1))
        elif kind == "span":
            head.linear.weight[0, id_of("y")] = head.linear.weight[1, id_of("z")] = 2.0
        else:
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.3)
    run.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, run.best_checkpoint)
    WORDS.save(run.path / "tokenizer")
    return run.path


def opened(folder: Path, task: str, *overrides: str, **more: Any) -> LoadedRun:
    return protoformer.load(write_run(folder, task, *overrides, **more))


def first(rankings: list[RankedPredictions]) -> dict[str, str]:
    return {ranking.title: ranking.predictions[0].text for ranking in rankings}


def test_masks_are_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "pretrain/mlm_nsp", answers=PREDICTED)
    loaded = protoformer.load(run)
    assert first(predict(loaded, Query("x [MASK]"))) == {"[MASK]": "y"}
    several = predict(loaded, Query("x [MASK] [MASK] [MASK]", top=3))
    assert first(several) == {"[MASK] 1": "y", "[MASK] 2": "x", "[MASK] 3": "z"}
    assert all(len(ranking.predictions) == 3 for ranking in several)
    (ranking,) = predict(loaded, Query("x [MASK]", top=10_000))
    probs = [prediction.probability or 0.0 for prediction in ranking.predictions]
    assert len(probs) == WORDS.vocab_size
    assert probs == sorted(probs, reverse=True)
    assert sum(probs) == pytest.approx(1)
    assert first(predict(loaded, Query("x", pair="[MASK] y"))) == {"[MASK]": "x"}  # [CLS] x [SEP] [MASK] ...
    assert command(["predict", str(run), "--text", "x [MASK]", "--top", "2"]) == 0
    title, one, two = capsys.readouterr().out.splitlines()
    assert (title, one.split()[1]) == ("[MASK]", "y")
    assert all(line.split()[0].endswith("%") for line in (one, two))


def test_text_without_a_mask_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "pretrain/mlm_nsp", answers=PREDICTED, max_len=6)
    for text in ("x y", "x x x x x [MASK]"):
        assert command(["predict", str(run), "--text", text]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: there is no [MASK] in {text!r} (or it was truncated)")
        assert error.count("\n") == 1
    assert command(["predict", str(run), "--text", "x [MASK]", "--top", "0"]) == 2
    assert capsys.readouterr().err == "error: --top 0: at least 1\n"
    assert command(["predict", str(tmp_path / "nowhere"), "--text", "x"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: no such run folder\n"


def test_causal_model_predicts_the_next_token(tmp_path: Path) -> None:
    settings = ["model.attention=causal", "+model.template.pooled_token=last"]
    loaded = opened(tmp_path, "pretrain/ltr", *settings, answers=PREDICTED)
    assert first(predict(loaded, Query("z y"))) == {"next": "y"}
    assert first(predict(loaded, Query("z y y"))) == {"next": "x"}


def test_classification_of_single_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "glue/sst2")
    loaded = protoformer.load(run)
    (ranking,) = predict(loaded, Query("x y"))
    best, other = ranking.predictions
    assert (ranking.title, best.text, other.text) == ("label", "positive", "negative")
    assert best.probability == pytest.approx(torch.tensor([1.0, 0.0]).softmax(0)[0].item())
    with pytest.raises(ConfigurationError, match="takes one text: --text A, without --pair"):
        predict(loaded, Query("x", pair="y"))
    assert command(["predict", str(run), "--text", "x", "--pair", "y"]) == 2
    assert capsys.readouterr().err == "error: this run's task takes one text: --text A, without --pair\n"


def test_classification_of_pairs_and_regression(tmp_path: Path) -> None:
    loaded = opened(tmp_path / "a", "glue/mnli")
    assert first(predict(loaded, Query("x", pair="y"))) == {"label": "contradiction"}
    (ranking,) = predict(loaded, Query("x", pair="y", top=1))
    assert len(ranking.predictions) == 1
    with pytest.raises(ConfigurationError, match="takes two texts: --text A --pair B"):
        predict(loaded, Query("x"))
    number = opened(tmp_path / "b", "glue/stsb")
    assert predict(number, Query("x", pair="y")) == [RankedPredictions("value", [Prediction("1.2500")])]


def test_choices_are_ranked_by_their_scores(tmp_path: Path) -> None:
    loaded = opened(tmp_path, "swag")
    endings = ["y", "z z x", "?", "x y z ? x"]
    (ranking,) = predict(loaded, Query("x y", choices=endings))
    template = instantiate(loaded.config, "model.template", tokenizer=loaded.tokenizer)
    model: Any = loaded.model
    scores = {}
    for ending in endings:
        written = template.encode_texts(loaded.tokenizer.encode(["x y"]), loaded.tokenizer.encode([ending]), 32)
        ids = torch.from_numpy(written.ids).long()[None]
        segments = torch.from_numpy(written.segment_ids).long()[None]
        with torch.no_grad():
            hidden = model.backbone(ids, torch.ones_like(ids, dtype=torch.bool), segments)
            scores[ending] = model.head(model.backbone.pooler(hidden, torch.zeros(1, dtype=torch.long))).item()
    order = sorted(endings, key=lambda ending: -scores[ending])
    assert (ranking.title, [prediction.text for prediction in ranking.predictions]) == ("choice", order)
    probs = torch.tensor([scores[ending] for ending in order]).softmax(0)
    assert [prediction.probability for prediction in ranking.predictions] == pytest.approx(probs.tolist(), rel=1e-4)
    (ranking,) = predict(loaded, Query("x y", choices=endings[:2]))
    assert sorted(prediction.text for prediction in ranking.predictions) == sorted(endings[:2])
    for choices in ([], ["y"]):
        with pytest.raises(ConfigurationError, match="selects one of several choices"):
            predict(loaded, Query("x y", choices=choices))


@pytest.mark.parametrize("max_len", [32, 10])
def test_answer_is_a_substring_of_the_context(tmp_path: Path, max_len: int) -> None:
    """Starts are y, ends are z. At length 10 the context is cut into windows."""
    loaded = opened(tmp_path, "squad/v1", "task.data.stride=2", max_len=max_len)
    context = "X x x ? x x Y  x Z? x x x x"
    (ranking,) = predict(loaded, Query("x ?", pair=context, top=4))
    assert (ranking.title, ranking.predictions[0].text, len(ranking.predictions)) == ("answer", "Y  x Z", 4)
    probs = [prediction.probability for prediction in ranking.predictions]
    assert probs == sorted(probs, reverse=True)
    with pytest.raises(ConfigurationError, match="answers a question from a context: --text QUESTION --pair CONTEXT"):
        predict(loaded, Query("x ?"))


def test_no_answer(tmp_path: Path) -> None:
    loaded = opened(tmp_path, "squad/v2")
    assert first(predict(loaded, Query("x", pair="x y z"))) == {"answer": "y z"}
    with torch.no_grad():
        head: Any = loaded.model.head
        head.linear.weight[:, id_of("[CLS]")] = 3.0
    assert first(predict(loaded, Query("x", pair="x y z"))) == {"answer": "(no answer)"}


def test_texts_that_a_kind_does_not_take(tmp_path: Path) -> None:
    for task, query in {
        "glue/mrpc": Query("x", pair="y", choices=["z"]),
        "pretrain/mlm_nsp": Query("[MASK]", choices=["z"]),
        "squad/v1": Query("x", pair="y", choices=["z"]),
    }.items():
        with pytest.raises(ConfigurationError, match="--choice"):
            predict(opened(tmp_path, task), query)
    with pytest.raises(ConfigurationError, match="--pair"):
        predict(opened(tmp_path, "swag"), Query("x", pair="y", choices=["y", "z"]))


@pytest.mark.parametrize(
    ("task", "query", "option"),
    [
        ("squad/v1", Query("x", pair=""), "--pair"),
        ("squad/v1", Query(" ", pair="x"), "--text"),
        ("glue/mrpc", Query("x", pair=" "), "--pair"),
        ("swag", Query("x", choices=["y", ""]), "--choice"),
    ],
)
def test_empty_texts_are_an_error(tmp_path: Path, task: str, query: Query, option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{option} is empty; write the text after it, in quotes$"):
        predict(opened(tmp_path, task), query)


def test_kinds_without_predictions(tmp_path: Path) -> None:
    module = TaskModule(None)
    loaded = LoadedRun(module, WORDS, protoformer.load(write_run(tmp_path, "glue/sst2")).config)
    module.backbone = loaded.model.backbone = protoformer.load(write_run(tmp_path / "b", "glue/sst2")).model.backbone
    with pytest.raises(ConfigurationError, match="makes no predictions from a single text"):
        predict(loaded, Query("x"))
