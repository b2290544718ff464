"""Files of published weights as training loops, scripts and editors leave them: read as what they are, or named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.inference.load import load
from protoformer.inference.opening.generation_settings import warn_of_unfollowed
from protoformer.models.hf.labels import label_words

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 8}
TEXT = "a cat sat"


def folder_of(model_class: Any, folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, max_position_embeddings=12, **settings)
    model_class(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return folder_of(transformers.BertForSequenceClassification, tmp_path, id2label={0: "bad", 1: "good"})


def configure(folder: Path, **change: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def taken_out(folder: Path) -> dict[str, Tensor]:
    state = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    return state


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module"])
def test_a_checkpoint_of_a_training_loop(classifier: Path, key: str) -> None:
    expected = load(classifier).predict(TEXT)
    state = {f"net.wrapped.{name}": tensor for name, tensor in taken_out(classifier).items()}
    torch.save({key: state, "epoch": 3, "optimizer": {"lr": 1.0}}, classifier / "pytorch_model.bin")
    assert load(classifier).predict(TEXT) == expected


def test_shards_without_their_index_are_read_if_all_are_there(classifier: Path) -> None:
    expected = load(classifier).predict(TEXT)
    state = taken_out(classifier)
    names = [classifier / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for part, path in enumerate(names):
        save_file({name: tensor for i, (name, tensor) in enumerate(state.items()) if i % 2 == part}, path)
    assert load(classifier).predict(TEXT) == expected
    names[0].unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors is there, which is not read"):
        load(classifier)


def test_weights_that_are_no_numbers_are_named(classifier: Path) -> None:
    state = taken_out(classifier)
    state["bert.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(state, classifier / "model.safetensors")
    with pytest.raises(
        WeightsError, match=r"not finite \(NaN or infinite\): stack\.layers\.0\.feed_forward\.outer\.weight"
    ):
        load(classifier)


@pytest.mark.parametrize("architectures", [["MyModel"], ["BertModel"], None])
def test_a_head_is_known_by_its_tensors_where_no_class_names_it(classifier: Path, architectures: Any) -> None:
    expected = load(classifier).predict(TEXT)
    configure(classifier, architectures=architectures)
    assert load(classifier).predict(TEXT) == expected


def test_a_missing_output_matrix_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(transformers.BertForMaskedLM, tmp_path)
    load(folder)
    assert "output matrix" not in caplog.text
    configure(folder, tie_word_embeddings=False)
    load(folder)
    assert "tie_word_embeddings=false, but no cls.predictions.decoder.weight" in caplog.text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": ["a", "b"]}, ["a", "b"]),
        ({"label2id": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"id2label": {"1": "b", "0": "a"}}, ["a", "b"]),
        ({"id2label": ["score"]}, None),
        ({"problem_type": "regression", "num_labels": 1}, None),
        ({"id2label": {"0": "a", "1": "a"}}, "two labels are called 'a'"),
        ({"problem_type": "multi_label_classification"}, "problem_type='multi_label_classification'"),
    ],
)
def test_words_of_labels(config: dict[str, Any], expected: Any) -> None:
    if not isinstance(expected, str):
        assert label_words(config) == expected
        return
    with pytest.raises(WeightsError, match=expected):
        label_words(config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repetition_penalty": 1.3}, "repetition_penalty=1.3"),
        ({"no_repeat_ngram_size": 3, "min_length": 0}, "no_repeat_ngram_size=3"),
        ({"forced_bos_token_id": 7}, "forced_bos_token_id=7"),
        ({"bad_words_ids": [[7], [5, 6]]}, r"bad_words_ids=[[5, 6]]"),
        ({"bad_words_ids": [[7]], "repetition_penalty": 1.0, "min_length": 0, "num_beams": 4}, None),
    ],
)
def test_settings_of_generation_that_are_not_followed_are_said(
    tmp_path: Path, settings: dict[str, Any], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    warn_of_unfollowed(tmp_path, {7})
    assert caplog.text == "" if said is None else f"generation_config.json: {said} not followed" in caplog.text
