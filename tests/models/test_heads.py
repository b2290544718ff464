"""Heads of every kind written in the published layout and read back; a head of another kind is none."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from protoformer.assembly.initial_weights import InitialWeights, load_initial_weights, read_folder
from protoformer.config.compose import compose
from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.heads import ClassificationHead, SpanHead
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.kinds.pretraining import PretrainingHead, PretrainingModule

SIZES = {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 20}
FULL = {**SIZES, "n_segments": 2, "norm_eps": 1e-12}
KINDS = ["classification", "multiple_choice", "span", "pretraining"]
LABELS = ["no", "yes", "perhaps"]


def head_of(kind: str) -> nn.Module:
    module: nn.Module
    if kind == "pretraining":
        module = PretrainingHead(bert(**SIZES), nsp=True)
    elif kind == "span":
        module = SpanHead(16)
    else:
        module = ClassificationHead(16, 1 if kind == "multiple_choice" else len(LABELS))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def written(folder: Path, kind: str) -> tuple[weights.StateDict, weights.StateDict]:
    """A folder of this kind; its body and head under our names."""
    layout, encoder, head = BertWeights(), bert(**SIZES), head_of(kind)
    save_file(layout.to_hf(kind, encoder.state_dict(), head.state_dict()), folder / "model.safetensors")
    described = layout.hf_config(kind, FULL, LABELS if kind == "classification" else None)
    (folder / "config.json").write_text(json.dumps(described))
    return dict(encoder.state_dict()), dict(head.state_dict())


def same(one: weights.StateDict, other: weights.StateDict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    body, head = written(tmp_path, kind)
    read_body, head_read = read_folder(tmp_path, BertWeights(), kind)
    assert same(read_body, body)
    assert same(head_read.state, head)
    assert (head_read.kind, head_read.labels) == (kind, LABELS if kind == "classification" else None)
    described = weights.read_config(tmp_path)
    assert described["architectures"] == ["Bert" + BertWeights.heads[kind].model_class]
    assert {k: v for k, v in BertWeights().sizes(described).items() if k != "activation"} == FULL


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task_type", KINDS)
def test_a_head_of_another_kind_is_none(kind: str, task_type: str, tmp_path: Path) -> None:
    written(tmp_path, kind)
    head_read = read_folder(tmp_path, BertWeights(), task_type)[1]
    assert bool(head_read.state) == (kind == task_type)


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (transformers.BertForSequenceClassification, "classification"),
        (transformers.BertForMultipleChoice, "multiple_choice"),
        (transformers.BertForQuestionAnswering, "span"),
        (transformers.BertForPreTraining, "pretraining"),
        (transformers.BertForMaskedLM, "pretraining"),
        (transformers.BertModel, None),
    ],
)
def test_what_transformers_writes_is_taken_by_its_kind_alone(cls: type, kind: str | None, tmp_path: Path) -> None:
    settings = {"num_labels": 1} if kind == "classification" else {}  # the shape of a choice's
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=40, **settings
    )
    cls(config).save_pretrained(tmp_path)
    states = {each: read_folder(tmp_path, BertWeights(), each)[1].state for each in KINDS}
    assert [each for each, state in states.items() if state] == ([] if kind is None else [kind])
    for state in states.values():
        if state:
            assert state.keys() - {"bias"} <= head_of(kind or "").state_dict().keys()


def test_a_classifier_of_a_file_that_names_no_architecture() -> None:
    heads = {"classifier.weight": torch.zeros(1, 16), "classifier.bias": torch.zeros(1)}
    assert set(BertWeights().head_from_hf("classification", heads, {})) == {"linear.weight", "linear.bias"}
    assert BertWeights().head_from_hf("multiple_choice", heads, {}) == {}


def test_old_names_of_norms_are_read_in_heads_too(tmp_path: Path) -> None:
    _, head = written(tmp_path, "pretraining")
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.read_state(tmp_path).items()
    }
    assert "cls.predictions.transform.LayerNorm.gamma" in state
    _, heads = BertWeights().from_hf(state)
    assert same(BertWeights().head_from_hf("pretraining", heads, {"architectures": ["BertForPreTraining"]}), head)


def pretraining(nsp: bool, folder: Path) -> tuple[PretrainingModule, dict[str, Any], InitialWeights]:
    config = compose(["model=bert", "task=pretrain/mlm_nsp", f"task.data.nsp={nsp}", "source=sample"])
    module = PretrainingModule(backbone=bert(**SIZES), splits={"val": [""], "test": []}, nsp=nsp)
    return module, config, InitialWeights("here", folder)


def test_next_sentences_may_be_left_out_and_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, head = written(tmp_path, "pretraining")
    masked = {name: tensor for name, tensor in head.items() if name.startswith("masked.")}
    module, config, start = pretraining(False, tmp_path)
    load_initial_weights(module, config, start)
    assert same(dict(module.head.state_dict()), masked)
    state = {k: v for k, v in weights.read_state(tmp_path).items() if not k.startswith("cls.seq_relationship")}
    save_file(state, tmp_path / "model.safetensors")
    module, config, start = pretraining(True, tmp_path)
    before = {name: tensor.clone() for name, tensor in module.head.state_dict().items()}
    with caplog.at_level(logging.INFO):
        load_initial_weights(module, config, start)
    fresh = {name: tensor for name, tensor in before.items() if name.startswith("next.")}
    assert same(dict(module.head.state_dict()), {**masked, **fresh})
    assert any("randomly initialised" in message for message in caplog.messages)
    state["cls.predictions.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"mis-shaped: masked\.bias has shape \[3\], in the model \[40\]"):
        load_initial_weights(module, config, start)
