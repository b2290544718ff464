"""BERT against `transformers`: logits of random models of every shape, parameter counts, packing, and the way back."""

import json
import logging
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.encoder import Encoder
from protoformer.models.heads import ClassificationHead
from protoformer.models.hf.bert import BertWeights

SHAPES = [  # hidden, layers, heads, feed-forward, vocabulary, positions, activation
    (16, 1, 1, 32, 40, 24, "gelu"),
    (24, 2, 4, 96, 50, 24, "gelu"),
    (32, 3, 2, 64, 60, 30, "gelu_new"),
    (64, 4, 8, 128, 33, 16, "relu"),
]


def random_model(
    shape: tuple = SHAPES[1], cls: type = transformers.BertModel, **more: object
) -> transformers.BertModel:
    hidden, layers, heads, inner, vocab, positions, activation = shape
    config = transformers.BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        vocab_size=vocab,
        max_position_embeddings=positions,
        hidden_act=activation,
        **more,
    )
    model = cls(config).eval()
    for parameter in model.parameters():  # biases and norms too, which start at 0 and 1
        nn.init.normal_(parameter, std=0.2)
    return model


def ours(folder: Path, **settings: object) -> Encoder:
    layout = BertWeights()
    encoder = bert(**layout.sizes(weights.read_config(folder)), **settings)
    weights.load_into(encoder, layout.from_hf(weights.read_state(folder))[0], str(folder))
    return encoder.eval()


def batch(vocab: int, seq: int = 15) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([seq, 3, 9])
    mask = torch.arange(seq)[None] < lengths[:, None]
    return {
        "ids": torch.randint(vocab, (3, seq)),
        "padding_mask": mask,
        "segment_ids": torch.randint(2, (3, seq)),
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("packing", ["on", "off"])
def test_hidden_states_and_pooled_equal_transformers(shape: tuple, packing: str, tmp_path: Path) -> None:
    theirs = random_model(shape)
    theirs.save_pretrained(tmp_path)
    model = ours(tmp_path, packing=packing)
    inputs = batch(shape[4])
    with torch.no_grad():
        expected = theirs(
            inputs["ids"], attention_mask=inputs["padding_mask"].long(), token_type_ids=inputs["segment_ids"]
        )
        hidden = model(**inputs)
        pooled = model.pooler(hidden, torch.zeros(3, dtype=torch.long))
    mask = inputs["padding_mask"]
    torch.testing.assert_close(hidden.to_padded()[mask], expected.last_hidden_state[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 2), (3, 3), (1, 4), (3, 4)])
@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_equal_transformers(layers: int, heads: int, labels: int, packing: str, tmp_path: Path) -> None:
    theirs = random_model(
        (24, layers, heads, 48, 50, 24, "gelu"), transformers.BertForSequenceClassification, num_labels=labels
    )
    theirs.save_pretrained(tmp_path)
    model = ours(tmp_path, packing=packing)
    head = ClassificationHead(24, labels).eval()
    layout = BertWeights()
    _, heads = layout.from_hf(weights.read_state(tmp_path))
    weights.load_into(head, layout.head_from_hf("classification", heads, weights.read_config(tmp_path)), "here")
    inputs = batch(50)
    with torch.no_grad():
        expected = theirs(inputs["ids"], inputs["padding_mask"].long(), inputs["segment_ids"]).logits
        logits = head(model.pooler(model(**inputs), torch.zeros(3, dtype=torch.long)))
    assert logits.shape == (3, labels)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_packed_equals_padded_forward_and_backward() -> None:
    grads, outs = {}, {}
    for packing in ("on", "off"):
        torch.manual_seed(1)
        model = bert(vocab_size=40, d_model=24, n_layers=2, n_heads=4, d_ff=48, dropout=0.0, packing=packing)
        inputs = batch(40)
        hidden = model(**inputs)
        out = model.pooler(hidden, torch.zeros(3, dtype=torch.long))
        (out**2).sum().backward()
        outs[packing], grads[packing] = out.detach(), {n: p.grad for n, p in model.named_parameters()}
    torch.testing.assert_close(outs["on"], outs["off"], atol=1e-6, rtol=1e-5)
    for name, grad in grads["on"].items():
        torch.testing.assert_close(grad, grads["off"][name], atol=1e-6, rtol=1e-4, msg=name)


def test_padding_changes_nothing() -> None:
    model = bert(vocab_size=40, d_model=24, n_layers=2, n_heads=4, d_ff=48).eval()
    inputs = batch(40)
    whole = model(**inputs).to_padded()
    for row, length in enumerate((15, 3, 9)):
        alone = model(**{name: x[row : row + 1, :length] for name, x in inputs.items()}).to_padded()
        torch.testing.assert_close(whole[row, :length], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({"vocab_size": 30522, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072}, 109_482_240),
        ({"vocab_size": 30522, "d_model": 1024, "n_layers": 24, "n_heads": 16, "d_ff": 4096}, 335_141_888),
    ],
)
def test_parameter_counts_on_the_meta_device(sizes: dict[str, int], count: int) -> None:
    with torch.device("meta"):
        model = bert(**sizes)
    assert sum(p.numel() for p in model.parameters()) == count


def test_causal_bert_is_left_to_right() -> None:
    model = bert(vocab_size=40, d_model=24, n_layers=2, n_heads=4, d_ff=48, attention="causal").eval()
    ids = torch.randint(40, (1, 10))
    changed = ids.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 40
    mask = torch.ones(1, 10, dtype=torch.bool)
    difference = (model(ids, mask).to_padded() - model(changed, mask).to_padded()).abs().amax(-1)[0]
    assert (difference[:6] == 0).all()
    assert (difference[6:] > 0).all()


def test_pre_norm_ends_in_a_norm() -> None:
    model = bert(vocab_size=40, d_model=24, n_layers=2, n_heads=4, d_ff=48, norm="pre")
    hidden = model(torch.randint(40, (1, 10)), torch.ones(1, 10, dtype=torch.bool)).tokens
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(10), atol=1e-5, rtol=0)


def test_too_long_a_sequence_is_refused() -> None:
    model = bert(vocab_size=40, d_model=8, n_layers=1, n_heads=1, d_ff=8, max_seq_len=4)
    with pytest.raises(IndexError, match="5 tokens; the model has 4"):
        model(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5, dtype=torch.bool))


def old_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """gamma and beta, and the buffer of positions, as the first published files had them."""
    renamed = {}
    for name, tensor in state.items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        renamed[name] = tensor.clone()
    return renamed | {"bert.embeddings.position_ids": torch.arange(24)[None]}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("cls", [transformers.BertModel, transformers.BertForPreTraining])
def test_every_form_of_file_gives_the_same_encoder(file: str, old: bool, cls: type, tmp_path: Path) -> None:
    theirs = random_model(cls=cls)
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    if old:
        prefixed = cls is transformers.BertForPreTraining
        state = old_keys(state if prefixed else {f"bert.{name}": tensor for name, tensor in state.items()})
    (tmp_path / "config.json").write_text(json.dumps(theirs.config.to_dict()))
    if file.endswith("bin"):
        torch.save(state, tmp_path / file)
    else:
        save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / file)
    model = ours(tmp_path)
    inputs = batch(50)
    encoder = theirs if cls is transformers.BertModel else theirs.bert
    expected = encoder(inputs["ids"], inputs["padding_mask"].long(), inputs["segment_ids"]).last_hidden_state
    mask = inputs["padding_mask"]
    torch.testing.assert_close(model(**inputs).to_padded()[mask], expected[mask], atol=1e-5, rtol=0)


def test_mismatches_are_named(tmp_path: Path) -> None:
    random_model().save_pretrained(tmp_path)
    body, _ = BertWeights().from_hf(weights.read_state(tmp_path))
    encoder = bert(**BertWeights().sizes(weights.read_config(tmp_path)))
    lacking = {name: tensor for name, tensor in body.items() if name != "pooler.dense.weight"}
    with pytest.raises(WeightsError, match=r"missing: pooler\.dense\.weight"):
        weights.load_into(encoder, lacking, "here")
    with pytest.raises(WeightsError, match=r"unexpected: adapter\.weight"):
        weights.load_into(encoder, {**body, "adapter.weight": torch.zeros(1)}, "here")
    with pytest.raises(WeightsError, match=r"mis-shaped: pooler\.dense\.bias has shape \[3\], in the model \[24\]"):
        weights.load_into(encoder, {**body, "pooler.dense.bias": torch.zeros(3)}, "here")
    state = weights.read_state(tmp_path)
    del state["encoder.layer.0.attention.self.key.bias"]
    with pytest.raises(WeightsError, match="key part"):
        BertWeights().from_hf(state)


@pytest.mark.parametrize("cls", [transformers.BertForMaskedLM, transformers.BertForQuestionAnswering])
def test_weights_without_a_pooler_leave_it_fresh(cls: type, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = random_model(cls=cls)
    theirs.save_pretrained(tmp_path)
    layout = BertWeights()
    body, _ = layout.from_hf(weights.read_state(tmp_path))
    encoder = bert(**layout.sizes(weights.read_config(tmp_path))).eval()
    before = encoder.pooler.dense.weight.clone()
    with pytest.raises(WeightsError, match=r"missing: pooler\.dense\.bias, pooler\.dense\.weight"):
        weights.load_into(encoder, body, "here")
    with caplog.at_level(logging.INFO, "protoformer.models.weights"):
        weights.load_into(encoder, body, "here", optional=layout.optional_prefixes)
    assert caplog.messages == ["here has no pooler.dense.weight, pooler.dense.bias: randomly initialised"]
    torch.testing.assert_close(encoder.pooler.dense.weight, before)
    inputs = batch(50)
    expected = theirs.bert(inputs["ids"], inputs["padding_mask"].long(), inputs["segment_ids"]).last_hidden_state
    mask = inputs["padding_mask"]
    torch.testing.assert_close(encoder(**inputs).to_padded()[mask], expected[mask], atol=1e-5, rtol=0)


def test_other_missing_tensors_are_named_beside_an_optional_pooler(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random_model().save_pretrained(tmp_path)
    layout = BertWeights()
    body, _ = layout.from_hf(weights.read_state(tmp_path))
    encoder = bert(**layout.sizes(weights.read_config(tmp_path)))
    for missing_prefix, message in (
        (("pooler.", "embeddings.norm.bias"), r"missing: embeddings\.norm\.bias$"),
        (("pooler.dense.bias",), r"missing: pooler\.dense\.bias$"),
    ):
        lacking = {name: tensor for name, tensor in body.items() if not name.startswith(missing_prefix)}
        with pytest.raises(WeightsError, match=message):
            weights.load_into(encoder, lacking, "here", optional=layout.optional_prefixes)
    with caplog.at_level(logging.INFO, "protoformer.models.weights"):
        weights.load_into(encoder, body, "here", optional=layout.optional_prefixes)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_labels": 2}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"num_labels": 1}, None),
        ({"num_labels": 2, "problem_type": "single_label_classification"}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 1, "problem_type": "regression"}, None),
        ({"num_labels": 2, "problem_type": "regression"}, None),
        ({"id2label": {i: f"w{i}" for i in range(11)}}, [f"w{i}" for i in range(11)]),
    ],
)
def test_labels_of_the_configs_that_transformers_writes(
    settings: dict, expected: list[str] | None, tmp_path: Path
) -> None:
    random_model(SHAPES[0], transformers.BertForSequenceClassification, **settings).save_pretrained(tmp_path)
    assert BertWeights().labels("classification", weights.read_config(tmp_path)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["LABEL_0", "LABEL_1"]),  # what older versions wrote for two labels
        ({"id2label": None}, ["LABEL_0", "LABEL_1"]),
        ({"problem_type": "regression"}, None),
        ({"num_labels": 1}, None),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)
def test_labels_that_a_config_leaves_out(config: dict, expected: list[str] | None) -> None:
    assert BertWeights().labels("classification", config) == expected


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        weights.read_config(tmp_path)
    with pytest.raises(WeightsError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        weights.read_state(tmp_path)
    random_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: corrupt or truncated"):
        weights.read_state(tmp_path)
    file.unlink()
    import pickle

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Path("code that would run")}))
    with pytest.raises(WeightsError, match="corrupt, or holds more than tensors"):
        weights.read_state(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "roberta"),
        ({"position_embedding_type": "relative_key"}, "relative positions"),
        ({"hidden_act": "swishy"}, "swishy"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, str], message: str) -> None:
    config = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "vocab_size": 9,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    with pytest.raises(WeightsError, match=message):
        BertWeights().sizes(config | change)


@pytest.mark.parametrize("labels", [["no", "yes", "perhaps"], None])
def test_written_folder_opens_in_transformers_with_the_same_logits(labels: list[str] | None, tmp_path: Path) -> None:
    sizes = {"vocab_size": 50, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 48, "max_seq_len": 24}
    encoder = bert(**sizes).eval()
    head = ClassificationHead(24, len(labels or [1])).eval()
    layout = BertWeights()
    written = layout.to_hf("classification", encoder.state_dict(), head.state_dict())
    save_file(written, tmp_path / "model.safetensors", {"format": "pt"})
    full = {**sizes, "n_segments": 2, "norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(layout.hf_config("classification", full, labels)))
    theirs, info = transformers.BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = batch(50)
    expected = theirs.eval()(inputs["ids"], inputs["padding_mask"].long(), inputs["segment_ids"]).logits
    logits = head(encoder.pooler(encoder(**inputs), torch.zeros(3, dtype=torch.long)))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert layout.labels("classification", weights.read_config(tmp_path)) == labels
    back, back_heads = layout.from_hf(weights.read_state(tmp_path))
    torch.testing.assert_close(back, dict(encoder.state_dict()))
    torch.testing.assert_close(layout.head_from_hf("classification", back_heads, {}), dict(head.state_dict()))
