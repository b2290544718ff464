"""Families: the registry of bare weight folders, layouts from elsewhere, and heads of kinds that no layout knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.heads import ClassificationHead
from protoformer.models.hf import (
    FAMILIES,
    BertWeights,
    Gpt2Weights,
    HeadLayout,
    MarianWeights,
    WeightsLayout,
    family_of,
)
from protoformer.models.hf.families import Family

TINY = {"vocab_size": 30, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 32, "max_seq_len": 20}
RANKING = HeadLayout("ForSequenceClassification", {"linear": "classifier"})


@dataclass(frozen=True)
class OtherEncoderWeights(BertWeights):
    """A layout from outside of the package: BERT's build under other names, with another head for one kind."""

    model_type: ClassVar[str] = "other"
    class_prefix: ClassVar[str] = "Other"
    heads: ClassVar[Mapping[str, HeadLayout]] = {
        **BertWeights.heads,
        "span": HeadLayout("ForSpans", {"linear": "qa_outputs"}),
    }


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_registry_names_each_family_by_the_model_type_of_its_layout(model_type: str) -> None:
    family: Family = FAMILIES[model_type]
    layout: WeightsLayout = family.layout()
    assert layout.model_type == model_type
    assert (layout.repo, layout.revision) == (None, None)
    assert family_of({"model_type": model_type}) is family
    for name, head in layout.heads.items():
        assert name
        assert head.model_class[0].isupper()


def test_family_of_a_config_without_model_type_is_bert_and_of_an_unknown_one_none() -> None:
    assert family_of({}) is FAMILIES["bert"]
    assert family_of({"model_type": "t5"}) is None
    assert [name for name, family in FAMILIES.items() if family.architecture == "decoder"] == ["openai-gpt", "gpt2"]


@pytest.mark.parametrize(("model_type", "task_type", "more"), [
    ("bert", "span", {"n_segments": 2, "norm_eps": 1e-12, "activation": "gelu"}),
    ("openai-gpt", "causal_lm", {"d_ff": 64, "norm_eps": 1e-5, "activation": "gelu_tanh"}),
    ("gpt2", "causal_lm", {"norm_eps": 1e-5, "activation": "gelu_tanh"}),
    ("marian", "translation", {"n_decoder_layers": 1, "sinusoid": "halves", "activation": "swish", "output_bias": True}),
])  # fmt: skip
def test_sizes_survive_the_way_to_config_json_and_back(model_type: str, task_type: str, more: dict[str, Any]) -> None:
    layout = FAMILIES[model_type].layout()
    sizes = {**TINY, **more}
    config = layout.hf_config(task_type, sizes)
    assert config["model_type"] == model_type
    again = layout.sizes(config)
    assert {name: again[name] for name in sizes} == sizes
    assert FAMILIES[model_type].builder(**again).max_seq_len == 20


def test_layout_from_outside_the_package_writes_and_reads_its_own_names() -> None:
    layout: WeightsLayout = OtherEncoderWeights()
    encoder, head = bert(**TINY), ClassificationHead(16, 3)
    state = layout.to_hf("classification", encoder.state_dict(), head.state_dict())
    assert {name.split(".")[0] for name in state} == {"other", "classifier"}
    config = layout.hf_config("classification", TINY, ["a", "b", "c"])
    assert (config["architectures"], config["model_type"]) == (["OtherForSequenceClassification"], "other")
    body, heads = layout.from_hf(state)
    assert same(body, encoder.state_dict())
    assert same(layout.head_from_hf("classification", heads, config), head.state_dict())
    assert layout.labels("classification", config) == ["a", "b", "c"]
    assert layout.hf_config("span", TINY)["architectures"] == ["OtherForSpans"]
    with pytest.raises(WeightsError, match="model_type 'other'; this model reads 'bert'"):
        BertWeights().sizes(config)


def test_head_of_a_kind_that_no_layout_knows_is_named_by_its_task_module() -> None:
    layout, head = BertWeights(), ClassificationHead(16, 1)
    state = layout.to_hf("ranking", bert(**TINY).state_dict(), head.state_dict(), RANKING)
    config = layout.hf_config("ranking", TINY, None, head.state_dict(), RANKING)
    assert config["architectures"] == ["BertForSequenceClassification"]
    _, heads = layout.from_hf(state)
    assert same(layout.head_from_hf("ranking", heads, config, RANKING), head.state_dict())
    assert layout.labels("ranking", config, RANKING) is None
    assert layout.head_from_hf("ranking", heads, {"architectures": ["BertForMultipleChoice"]}, RANKING) == {}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (BertWeights(), "bert: a run of kind ranking has no counterpart in transformers"),
        (Gpt2Weights(), "gpt2: a run of kind ranking has no counterpart in transformers, whose heads"),
        (MarianWeights(), "marian: a run of kind ranking has no counterpart in transformers; translation has"),
    ],
)
def test_head_that_nobody_names_starts_fresh_and_is_refused_by_an_export(layout: WeightsLayout, message: str) -> None:
    assert layout.head_from_hf("ranking", {"classifier.weight": torch.zeros(1, 16)}, {}) == {}
    assert layout.labels("ranking", {"id2label": {"0": "a", "1": "b"}}) is None
    with pytest.raises(WeightsError, match=message):
        layout.hf_config("ranking", TINY)


def test_gpt_weights_need_no_head_of_the_registry_to_be_read() -> None:
    model = gpt(**TINY, norm="pre")
    body, heads = Gpt2Weights().from_hf(Gpt2Weights().to_hf("classification", model.state_dict(), {}))
    assert same(body, model.state_dict())
    assert heads == {}
