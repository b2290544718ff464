"""ELECTRA in three files: equal to the implementation of `transformers`, from its weights and to them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
import transformers
from torch import nn

from protoformer.errors import WeightsError
from protoformer.inference.opening.backbone import open_backbone
from protoformer.models import weights
from protoformer.models.hf import FAMILIES, Family, register_family
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

EMBEDDING_SIZES = (12, 32)  # below d_model, and as wide: then there is no projection


def theirs(cls: Any, embedding_size: int) -> Any:
    config = transformers.ElectraConfig(
        vocab_size=50, embedding_size=embedding_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=40, max_position_embeddings=24, num_labels=3,
    )  # fmt: skip
    model = cls(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def ours(model: Any, packing: Literal["on", "off"]) -> Any:
    from electra.layout import ElectraWeights
    from electra.model import electra

    layout = ElectraWeights()
    encoder = electra(**layout.sizes(model.config.to_dict()), packing=packing)
    body, _ = layout.from_hf(model.state_dict())
    weights.load_into(encoder, body, "transformers", layout.optional_prefixes)
    return encoder.eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Rows of 11 and 7 tokens, in two segments."""
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1, 7:] = False
    segment_ids = (torch.arange(11) > 4).long().expand(2, 11)
    return {"ids": torch.randint(50, (2, 11)), "padding_mask": mask, "segment_ids": segment_ids}


def their_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch["ids"],
        "attention_mask": batch["padding_mask"].long(),
        "token_type_ids": batch["segment_ids"],
    }


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("embedding_size", EMBEDDING_SIZES)
def test_hidden_states_equal_transformers(
    batch: dict[str, torch.Tensor], embedding_size: int, packing: Literal["on", "off"]
) -> None:
    model = theirs(transformers.ElectraModel, embedding_size)
    with torch.no_grad():
        hidden = ours(model, packing)(**batch).to_padded()
        expected = model(**their_batch(batch)).last_hidden_state
    real = batch["padding_mask"]
    torch.testing.assert_close(hidden[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("embedding_size", EMBEDDING_SIZES)
def test_gradients_equal_transformers(batch: dict[str, torch.Tensor], embedding_size: int) -> None:
    model = theirs(transformers.ElectraModel, embedding_size)
    encoder, real = ours(model, "on"), batch["padding_mask"]
    encoder(**batch).to_padded()[real].square().mean().backward()
    model(**their_batch(batch)).last_hidden_state[real].square().mean().backward()
    for mine, other in (
        (encoder.embeddings.token, model.embeddings.word_embeddings),
        (encoder.stack.layers[0].feed_forward.inner, model.encoder.layer[0].intermediate.dense),
        *([(encoder.embeddings.projection, model.embeddings_project)] if embedding_size != 32 else []),
    ):
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["ElectraForSequenceClassification", "ElectraForMultipleChoice"])
def test_pooled_vector_and_head_equal_transformers(batch: dict[str, torch.Tensor], name: str) -> None:
    from electra.layout import ElectraWeights

    model, layout = theirs(getattr(transformers, name), 12), ElectraWeights()
    encoder = ours(model, "on")
    task_type = "classification" if "Sequence" in name else "multiple_choice"
    hf_config = {**model.config.to_dict(), "architectures": [name]}
    head = layout.head_from_hf(task_type, layout.from_hf(model.state_dict())[1], hf_config)
    rows = their_batch(batch)
    if task_type == "multiple_choice":
        rows = {key: tensor[None] for key, tensor in rows.items()}
    with torch.no_grad():
        pooled = encoder.pooler(encoder(**batch), torch.zeros(2, dtype=torch.long))
        logits = nn.functional.linear(pooled, head["linear.weight"], head["linear.bias"])
        expected = model(**rows).logits.reshape(logits.shape)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "task_type"),
    [
        ("ElectraForSequenceClassification", "classification"),
        ("ElectraForMultipleChoice", "multiple_choice"),
        ("ElectraForQuestionAnswering", "span"),
    ],
)
@pytest.mark.parametrize("embedding_size", EMBEDDING_SIZES)
def test_weights_return_as_they_came(name: str, task_type: str, embedding_size: int) -> None:
    from electra.layout import ElectraWeights

    model, layout = theirs(getattr(transformers, name), embedding_size), ElectraWeights()
    state = model.state_dict()
    body, heads = layout.from_hf(state)
    body = ours(model, "on").state_dict() | body  # with the pooler, which a span has no use for
    head = layout.head_from_hf(task_type, heads, {**model.config.to_dict(), "architectures": [name]})
    returned = layout.to_hf(task_type, body, head)
    assert returned.keys() == state.keys() - {"electra.embeddings.position_ids"}
    assert all(torch.equal(returned[key], state[key]) for key in returned)


def test_the_published_discriminator_brings_no_pooler(caplog: pytest.LogCaptureFixture) -> None:
    from electra.layout import ElectraWeights

    model = theirs(transformers.ElectraForPreTraining, 12)
    caplog.set_level("INFO")
    ours(model, "on")
    assert "has no pooler.dense.weight, pooler.dense.bias" in caplog.text
    heads = ElectraWeights().from_hf(model.state_dict())[1]
    assert {name.partition(".")[0] for name in heads} == {"discriminator_predictions"}


def test_a_head_that_the_family_lacks_is_refused() -> None:
    from electra.layout import ElectraWeights

    with pytest.raises(WeightsError, match="electra: a run of kind pretraining has no counterpart"):
        ElectraWeights().to_hf("pretraining", {}, {})


def test_a_bare_folder_is_opened_once_the_family_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from electra.layout import ElectraWeights
    from electra.model import electra

    model = theirs(transformers.ElectraModel, 12)
    model.save_pretrained(tmp_path)
    words = whole_word_tokenizer(["a cat sat"], "here")
    words.save(tmp_path)
    with pytest.raises(WeightsError, match="model_type 'electra'; supported: bert, "):
        open_backbone(tmp_path)
    family = Family(electra, ElectraWeights, BertTemplate, "encoder")
    monkeypatch.setattr("protoformer.models.hf.families.FAMILIES", dict(FAMILIES))
    found = SimpleNamespace(load=lambda: family)
    monkeypatch.setattr("protoformer.models.hf.families.entry_points", lambda group, name: [found])
    opened = open_backbone(tmp_path).model
    ids = torch.tensor([[2, 7, 3]])
    with torch.no_grad():
        actual = opened(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()
        torch.testing.assert_close(actual, model(input_ids=ids).last_hidden_state, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="that of another family"):
        register_family(Family(electra, ElectraWeights, BertTemplate, "decoder"))
