"""Folders of published weights with a head, opened as runs are; runs that were only tested."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import protoformer
from protoformer.cli import main as command
from protoformer.errors import RunFolderError, WeightsError
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_word_tokenizer

from ..text.marian import write_model
from .test_predict import write_run

WORDS = whole_word_tokenizer(["x y z ?"], "here")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def bert(folder: Path, model_class: str, **config: Any) -> Any:
    """A random model of `transformers` in a folder, with the vocabulary of this file."""
    torch.manual_seed(3)
    settings = transformers.BertConfig(vocab_size=WORDS.vocab_size, max_position_embeddings=40, **SIZES, **config)
    model = getattr(transformers, model_class)(settings).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    WORDS.save(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 20}))
    return model


def inputs(*texts: str) -> dict[str, torch.Tensor]:
    """[CLS] a [SEP] b [SEP] as `transformers` takes it."""
    ids, segments = [WORDS.id("[CLS]")], [0]
    for segment, text in enumerate(texts):
        tokens = [*WORDS.encode([text])[0], WORDS.id("[SEP]")]
        ids, segments = ids + tokens, segments + [segment] * len(tokens)
    return {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([segments])}


def test_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = bert(tmp_path / "m", "BertForSequenceClassification", id2label={0: "bad", 1: "fair", 2: "good"})
    opened = protoformer.load(tmp_path / "m")
    assert (opened.of_run, opened.max_len) == (False, 20)
    for texts in (("x y",), ("x y", "z")):
        with torch.no_grad():
            probs = model(**inputs(*texts)).logits.softmax(-1)[0].tolist()
        row = opened.predict(*texts)
        assert list(row["probabilities"]) == ["bad", "fair", "good"]
        assert list(row["probabilities"].values()) == pytest.approx(probs, abs=2e-5)
        assert row["prediction"] == ["bad", "fair", "good"][probs.index(max(probs))]
    assert [row["prediction"] for row in opened.predict(["x", "y"])] == [opened.predict(t)["prediction"] for t in "xy"]
    (tmp_path / "in.csv").write_text("premise,hypothesis\nx y,z\n")
    assert command(["predict", str(tmp_path / "m"), "--file", str(tmp_path / "in.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["probabilities"] == opened.predict("x y", "z")["probabilities"]


def test_a_masked_language_model_and_question_answering(tmp_path: Path) -> None:
    model = bert(tmp_path / "mlm", "BertForMaskedLM")
    row = protoformer.load(tmp_path / "mlm").predict("x [MASK]")
    with torch.no_grad():
        best = model(**inputs("x [MASK]")).logits[0, 2].argmax()
    assert row["prediction"] == WORDS.hf_tokenizer.id_to_token(int(best))
    bert(tmp_path / "qa", "BertForQuestionAnswering")
    assert protoformer.load(tmp_path / "qa").predict("x ?", "X  y Z")["prediction"] in "X  y Z"


def test_it_is_exported_as_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = bert(tmp_path / "m", "BertForSequenceClassification", id2label={0: "bad", 1: "fair", 2: "good"})
    for _ in range(2):  # the second overwrites its own
        assert command(["export", str(tmp_path / "m"), "--to", "hf", str(tmp_path / "out")]) == 0
    assert "texts of more than 20 tokens: transformers truncates them with truncation=True" in capsys.readouterr().out
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert again.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs("x y", "z")).logits, model(**inputs("x y", "z")).logits)
    for source, problem in (("m", "holds an export of other weights"), ("headless", "there is nothing to export")):
        bert(tmp_path / "headless", "BertModel")
        other = tmp_path / ("out" if source == "m" else "new")
        given = tmp_path / ("headless" if source == "m" else source)
        assert command(["export", str(given), "--to", "hf", str(other)]) == 2
        assert problem in capsys.readouterr().err


def test_what_has_no_head_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bert(tmp_path / "m", "BertModel")
    assert protoformer.load(tmp_path / "m").model.backbone.d_model == 16
    assert command(["predict", str(tmp_path / "m"), "--text", "x"]) == 2
    assert "has no head that predicts anything; train one" in capsys.readouterr().err
    gpt = transformers.GPT2Config(vocab_size=WORDS.vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=20)
    transformers.GPT2LMHeadModel(gpt).save_pretrained(tmp_path / "g")
    WORDS.save(tmp_path / "g")
    for words in (["--text", "x"], ["--file", str(tmp_path / "m" / "tokenizer_config.json")]):
        assert command(["predict", str(tmp_path / "g"), *words]) == 2
        assert "protoformer generate RUN --prompt TEXT" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="neither a run folder nor a folder of weights"):
        protoformer.load(tmp_path / "empty")


def test_a_run_that_was_only_tested_has_the_weights_that_it_tested(tmp_path: Path) -> None:
    trained = write_run(tmp_path / "a", "glue/mnli")
    tested = RunFolder(tmp_path / "ax", "ax")
    config = RunFolder.open(trained).read_config()
    config["task"]["splits"] = {"train": None, "validation": None, "test": "test"}
    tested.write_config({**config, "init_from": str(trained)})
    WORDS.save(tested.path / "tokenizer")
    assert protoformer.load(tested.path).predict("x", "y") == protoformer.load(trained).predict("x", "y")
    tested.write_config({**config, "init_from": str(tmp_path / "gone")})
    with pytest.raises(RunFolderError, match="was only tested, and holds no weights of its own"):
        protoformer.load(tested.path)


def test_marians_start_and_end_must_be_the_vocabularys(tmp_path: Path) -> None:
    write_model(tmp_path / "marian")
    config = json.loads((tmp_path / "marian" / "config.json").read_text())
    protoformer.load(tmp_path / "marian")
    for key in ("decoder_start_token_id", "eos_token_id"):
        (tmp_path / "marian" / "config.json").write_text(json.dumps({**config, key: 5}))
        with pytest.raises(WeightsError, match=f"config.json: {key}=5, and the vocabulary's token for it has the id"):
            protoformer.load(tmp_path / "marian")
