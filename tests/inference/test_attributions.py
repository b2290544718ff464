"""What `protoformer attention` attributes: the logit of each kind, complete, and complete; attention rollout of panels."""

from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.cli import main as command
from protoformer.errors import ConfigurationError
from protoformer.inference.attention import AttentionRequest, load_model, resolve
from protoformer.inference.load import load
from protoformer.inference.queries import attributions as attributions_module
from protoformer.inference.queries.attributions import token_attributions
from protoformer.views.inspected_model import InspectedModel, attention_panels
from protoformer.views.panels import Panel, TokenAttributions
from protoformer.views.rollouts import with_rollout

from .test_attention import TRANSLATION, WORDS, write_run

TOLERANCE = 0.02  # of the completeness error at 64 steps, relative; at 4 times as many it is a fourth or less


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind that has a logit, with random weights."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "classification": ("model=bert", "task=glue/mnli"),
        "regression": ("model=bert", "task=glue/stsb"),
        "decoder": ("model=gpt2_tiny", "task=glue/rte"),
        "span": ("model=bert", "task=squad/v1"),
        "choices": ("model=bert", "task=swag"),
        "masked": ("model=bert", "task=pretrain/mlm_nsp"),
        "language": ("model=gpt2_tiny", "task=pretrain/clm"),
        "translation": TRANSLATION,
    }
    return {name: write_run(folder / name, *overrides) for name, overrides in kinds.items()}


def attributed(
    run: Path, text: str, text_b: str | None = None, steps: int = 64, target: str | None = None
) -> TokenAttributions:
    inspected = load_model(str(run))
    _, texts = resolve(inspected, AttentionRequest(text, text_b))
    return token_attributions(load(run).model, inspected, texts, steps, target)


CASES = [
    ("classification", "the cat sat", "dogs ran", None),
    ("regression", "the cat sat", "dogs ran", None),
    ("decoder", "the cat sat", "dogs ran", None),
    ("span", "the cat", "dogs ran off .", None),
    ("choices", "the cat", "ran off", None),
    ("masked", "the [MASK] sat", None, None),
    ("language", "the cat sat on", None, "mats"),
    ("translation", "the cat sat", "dogs ran", None),
    ("translation", "the cat sat", "dogs ran", "ran"),
]


@pytest.mark.parametrize(("kind", "text", "text_b", "target"), CASES)
def test_tokens_sum_to_the_difference_of_the_logits(
    runs: dict[str, Path], kind: str, text: str, text_b: str | None, target: str | None
) -> None:
    coarse, fine = (attributed(runs[kind], text, text_b, steps, target) for steps in (64, 256))
    result = fine.attributions
    assert result.relative_error < TOLERANCE / 4
    assert coarse.attributions.relative_error < TOLERANCE
    assert float(result.values.sum()) == pytest.approx(result.difference, abs=result.completeness_error + 1e-9)
    assert result.values.abs().max() > 0
    # the baseline keeps special tokens
    assert all(value == 0 for value, token in zip(result.values.tolist(), fine.tokens, strict=True) if token.special)
    assert coarse.target == fine.target


def test_the_logit_is_that_of_the_prediction(runs: dict[str, Path]) -> None:
    run = load(runs["classification"])
    result = attributed(runs["classification"], "the cat sat", "dogs ran", steps=1)
    assert result.target == run.predict("the cat sat", "dogs ran")["prediction"]
    others = {
        label: attributed(runs["classification"], "the cat sat", "dogs ran", 1, label) for label in run.model.labels
    }
    logits = torch.tensor([each.attributions.logit for each in others.values()])
    probs = run.predict("the cat sat", "dogs ran")["probabilities"]
    assert logits.softmax(0).tolist() == pytest.approx(list(probs.values()), abs=1e-4)
    value = attributed(runs["regression"], "the cat sat", "dogs ran", steps=1).attributions.logit
    assert value == pytest.approx(load(runs["regression"]).predict("the cat sat", "dogs ran")["prediction"], abs=1e-3)


def test_a_masked_word_and_a_next_token(runs: dict[str, Path]) -> None:
    best = load(runs["masked"]).predict("the [MASK] sat")["prediction"]
    assert attributed(runs["masked"], "the [MASK] sat", steps=1).target == f"[MASK] “{best}”"
    model = load(runs["language"]).model
    ids = torch.tensor([WORDS.encode(["the cat sat"])[0]])
    with torch.no_grad():
        logits = model.backbone.logits(model.backbone(ids, torch.ones_like(ids).bool()).to_padded()[0, -1])
    result = attributed(runs["language"], "the cat sat", steps=1, target="dogs")
    assert result.attributions.logit == pytest.approx(float(logits[WORDS.id("dogs")]), abs=1e-4)
    assert result.target == "next token “dogs”"


def test_a_translation_sums_the_logits_of_its_tokens(runs: dict[str, Path]) -> None:
    whole, *parts = (
        attributed(runs["translation"], "the cat sat", "dogs ran", 1, target).attributions.logit
        for target in (None, "dogs", "ran")
    )
    assert whole == pytest.approx(sum(parts), abs=1e-4)


REFUSED: list[tuple[str, list[str], str]] = [
    ("classification", ["--target", "maybe"], "--target 'maybe': the model has entailment, neutral, contradiction"),
    ("language", ["--target", "dogs ran"], "--target 'dogs ran' is 2 tokens of the model (dogs, ran): name one token"),
    ("translation", ["--text-b", "dogs", "--target", "cat"], "--target 'cat': the tokens of the target are dogs"),
    ("masked", ["--steps", "8"], "there is no [MASK] in"),
    ("language", ["--steps", "-1"], "--steps -1: at least 0"),
    ("span", ["--target", "cat"], "--target: a span is attributed as the model predicts it; leave it out"),
    ("span", ["--steps", "8"], "this run's task answers a question from a context: --text QUESTION --text-b CONTEXT"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_requests_that_cannot_be_attributed_are_one_line(
    runs: dict[str, Path],
    tmp_path: Path,
    kind: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "page.html")
    assert command(["attention", str(runs[kind]), "--text", "the cat", *arguments, "--out", out]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_them_or_why_there_are_none(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(kind: str, *arguments: str) -> str:
        out = str(tmp_path / "page.html")
        assert command(["attention", str(runs[kind]), "--text", "the cat", *arguments, "--out", out]) == 0
        return capsys.readouterr().out

    text = printed("classification", "--text-b", "dogs", "--target", "neutral", "--steps", "16")
    assert "integrated gradients, logit of neutral: " in text
    assert "; 16 steps, completeness error " in text
    assert '"target":"neutral"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no integrated gradients: there is no [MASK] in" in printed("masked")
    assert "no integrated gradients: left out by --steps 0" in printed(
        "classification", "--text-b", "dogs", "--steps", "0"
    )
    monkeypatch.setattr(attributions_module, "MAX_FLOPS", 1e3)
    assert "TFLOP; --steps 64 computes them" in printed("classification", "--text-b", "dogs")
    assert "64 steps, completeness" in printed("classification", "--text-b", "dogs", "--steps", "64")


def rollouts_of(inspected: InspectedModel, request: AttentionRequest) -> list[Panel]:
    layers, texts = resolve(inspected, request)
    return with_rollout(inspected, texts, attention_panels(inspected, texts, layers))


def test_rollout_of_an_encoder_is_over_all_layers_up_to_the_shown_one(runs: dict[str, Path]) -> None:
    inspected = load_model(str(runs["classification"]))
    (whole,) = rollouts_of(inspected, AttentionRequest("the cat", "dogs", padding=0))
    means = whole.weights.mean(1)
    expected = (means[1] + torch.eye(6)) / 2 @ (means[0] + torch.eye(6)) / 2
    assert whole.rollout is not None
    torch.testing.assert_close(whole.rollout.weights[1], expected)
    (padded,) = rollouts_of(inspected, AttentionRequest("the cat", "dogs", layers=[2], padding=2))
    assert padded.rollout is not None
    assert padded.rollout.weights.shape == (1, 8, 8)
    torch.testing.assert_close(padded.rollout.weights[0, :6, :6], expected)
    assert not padded.rollout.reach[6:].any()
    assert not padded.rollout.reach[:, 6:].any()
    assert padded.rollout.reach[:6, :6].all()


def test_rollout_of_a_decoder_reaches_nothing_later(runs: dict[str, Path]) -> None:
    (panel,) = rollouts_of(load_model(str(runs["language"])), AttentionRequest("the cat sat", padding=1))
    assert panel.rollout is not None
    torch.testing.assert_close(panel.rollout.weights[:, :3].sum(-1), torch.ones(2, 3))
    assert (panel.rollout.weights.triu(1) == 0).all()
    assert torch.equal(panel.rollout.reach[:3, :3], torch.ones(3, 3).tril().bool())


def test_rollout_of_a_translation_is_over_both_texts(runs: dict[str, Path]) -> None:
    panels = rollouts_of(load_model(str(runs["translation"])), AttentionRequest("the cat sat", "dogs ran", padding=1))
    weights: list[Any] = [panel.rollout and panel.rollout.weights for panel in panels]
    torch.testing.assert_close(weights[0][:, :4].sum(-1), torch.ones(2, 4))
    torch.testing.assert_close((weights[1].sum(-1) + weights[2].sum(-1))[:, :3], torch.ones(2, 3))


def test_a_model_without_self_attention_has_no_rollout(tmp_path: Path) -> None:
    run = write_run(tmp_path, "model=rnn_tiny", "task=translate/multi30k_en_de", attends=False)
    (panel,) = rollouts_of(load_model(str(run)), AttentionRequest("the cat", "dogs"))
    assert panel.rollout is None
    result = attributed(run, "the cat", "dogs").attributions
    assert result.relative_error < TOLERANCE


def test_the_first_text_must_have_more_than_special_tokens(runs: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="the text has special tokens alone"):
        attributed(runs["masked"], "[MASK]")
