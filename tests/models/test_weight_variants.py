"""Weights as people have them: untied output matrices, one bias under two names, other names of prefixes and activations, old
shards, Marian's with separate matrices and with tables of positions. `transformers` is the judge wherever it reads the file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protoformer.blocks.feed_forward import activate
from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.decoder import Decoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.gpt import gpt
from protoformer.models.hf import BertWeights, Gpt2Weights, MarianWeights, family_of
from protoformer.models.hf.layout import ACTIVATIONS, plain_names
from protoformer.models.hf.sizes import read_sizes, read_tensors
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.pretraining import PretrainingHead, PretrainingModule

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30}
GPT_SIZES = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20, "vocab_size": 30}
MARIAN_SIZES = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 30, "decoder_vocab_size": 30, "max_position_embeddings": 20,
    "activation_function": "swish", "scale_embedding": True, "pad_token_id": 29, "decoder_start_token_id": 29,
    "eos_token_id": 0,
}  # fmt: skip
IDS = torch.tensor([[3, 7, 1, 12, 5]])
REAL = torch.ones_like(IDS, dtype=torch.bool)


def shaken(model: nn.Module) -> Any:
    torch.manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    state = change(load_file(folder / "model.safetensors"))
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "model.safetensors")


def configure(folder: Path, **change: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def mlm_logits(folder: Path) -> Tensor:
    """Of this package, with the head that the folder has."""
    layout = BertWeights()
    encoder = bert(**read_sizes(folder, layout))
    module = PretrainingModule(backbone=encoder, splits={}, nsp=False).eval()
    body, heads = read_tensors(folder, layout)
    weights.load_into(encoder, body, str(folder), layout.optional_prefixes)
    head = layout.head_from_hf("pretraining", heads, weights.read_config(folder))
    weights.load_into(module.head, head, str(folder))
    with torch.no_grad():
        hidden = encoder(IDS, REAL).to_padded()
        return module.head.masked(hidden, encoder.output_weight)


def their_logits(cls: type, folder: Path, **more: Tensor) -> Tensor:
    with torch.no_grad():
        return cls.from_pretrained(folder).eval()(input_ids=IDS, **more).logits


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    config = transformers.BertConfig(**SIZES, max_position_embeddings=20, tie_word_embeddings=False)
    shaken(transformers.BertForMaskedLM(config)).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("said", [False, True])
def test_an_untied_output_matrix_is_read_whatever_config_says(masked: Path, said: bool) -> None:
    configure(masked, tie_word_embeddings=said)  # transformers believes the tensors too
    assert read_sizes(masked, BertWeights())["tie_word_embeddings"] is False
    expected = their_logits(transformers.BertForMaskedLM, masked)
    torch.testing.assert_close(mlm_logits(masked), expected, atol=1e-5, rtol=0)
    rewrite(
        masked,
        lambda state: {**state, "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"]},
    )
    assert "tie_word_embeddings" not in read_sizes(masked, BertWeights())


def test_an_untied_output_matrix_is_written_back(masked: Path, tmp_path: Path) -> None:
    layout, expected = BertWeights(), their_logits(transformers.BertForMaskedLM, masked)
    sizes = read_sizes(masked, layout)
    body, heads = read_tensors(masked, layout)
    head = layout.head_from_hf("pretraining", heads, {})
    assert head.keys() == PretrainingHead(bert(**sizes), nsp=False).state_dict().keys()
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_text(json.dumps(layout.hf_config("pretraining", sizes, None, head)))
    written = layout.to_hf("pretraining", body, head)
    save_file(
        {name: tensor.contiguous() for name, tensor in written.items()}, again / "model.safetensors", {"format": "pt"}
    )
    torch.testing.assert_close(their_logits(transformers.BertForMaskedLM, again), expected, atol=1e-6, rtol=0)


def other_bias(state: dict[str, Tensor], keep: bool, shift: float) -> dict[str, Tensor]:
    bias = state["cls.predictions.bias"]
    rest = {name: tensor for name, tensor in state.items() if keep or name != "cls.predictions.bias"}
    return {**rest, "cls.predictions.decoder.bias": bias + shift}


@pytest.mark.parametrize(("keep", "shift"), [(False, 0.0), (True, 0.0), (True, 1.0)])
def test_one_bias_under_two_names(masked: Path, keep: bool, shift: float, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(masked, lambda state: other_bias(state, keep, shift))
    expected = their_logits(transformers.BertForMaskedLM, masked)
    torch.testing.assert_close(mlm_logits(masked), expected, atol=1e-5, rtol=0)
    assert ("differ" in caplog.text) is bool(shift)


@pytest.mark.parametrize(
    "prefix", ["", "bert.", "model.", "module.", "transformer.", "model.bert.", "module.bert.", "_orig_mod.bert."]
)
def test_prefixes_of_modules_around_the_encoder(masked: Path, prefix: str) -> None:
    before, _ = read_tensors(masked, BertWeights())
    rewrite(masked, lambda state: {
        (prefix + name.removeprefix("bert.")).replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
        for name, tensor in state.items() if name.startswith("bert.")
    })  # fmt: skip
    after, heads = read_tensors(masked, BertWeights())
    assert heads == {}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_two_different_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(
        WeightsError, match=r"a\.weight is there twice \(once as bert\.a\.weight\), with different values"
    ):
        plain_names({"a.weight": torch.zeros(2), "bert.a.weight": torch.ones(2)}, "bert.")
    assert plain_names({"a.weight": torch.zeros(2), "bert.a.weight": torch.zeros(2)}, "bert.").keys() == {"a.weight"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_other_names_of_the_same_activation(name: str) -> None:
    x = torch.linspace(-4, 4, 101)
    if name == "gelu_accurate":  # in older versions alone: the tanh form in other words
        expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    else:
        expected = transformers.activations.ACT2FN[name](x)
    torch.testing.assert_close(activate(x, ACTIVATIONS[name]), expected, atol=1e-6, rtol=0)  # type: ignore[arg-type]
    assert BertWeights().sizes({**SIZES, "hidden_act": name})["activation"] == ACTIVATIONS[name]


@pytest.mark.parametrize("name", ["quick_gelu", "gelu_10", "mish", "", 3, ["gelu"]])
def test_other_activations_are_refused(name: object) -> None:
    for layout, sizes, key in (
        (BertWeights(), SIZES, "hidden_act"),
        (Gpt2Weights(), {**GPT_SIZES, "model_type": "gpt2"}, "activation_function"),
        (MarianWeights(), {**MARIAN_SIZES, "model_type": "marian"}, "activation_function"),
    ):
        with pytest.raises(WeightsError, match=f"config.json: {key} .*; supported: "):
            layout.sizes({**sizes, key: name})


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "is_encoder_decoder"])
def test_a_bert_that_is_a_decoder_is_refused(key: str) -> None:
    with pytest.raises(WeightsError, match=f"config.json: {key}=true is a left-to-right decoder"):
        BertWeights().sizes({**SIZES, key: True})


def test_head_sizes_must_divide() -> None:
    with pytest.raises(WeightsError, match="hidden_size=16 is not a multiple of num_attention_heads=3"):
        BertWeights().sizes({**SIZES, "num_attention_heads": 3})


@pytest.mark.parametrize("form", ["conv1d", "linear"])
def test_untied_gpt2_and_mingpts_linear_layers(tmp_path: Path, form: str) -> None:
    config = transformers.GPT2Config(**GPT_SIZES, tie_word_embeddings=False, eos_token_id=None, bos_token_id=None)
    shaken(transformers.GPT2LMHeadModel(config)).save_pretrained(tmp_path)
    expected = their_logits(transformers.GPT2LMHeadModel, tmp_path)
    if form == "linear":
        maps = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        rewrite(tmp_path, lambda state: {name: t.T if name.endswith(maps) else t for name, t in state.items()})
    layout = Gpt2Weights()
    sizes = read_sizes(tmp_path, layout)
    model = gpt(**sizes)
    body, heads = read_tensors(tmp_path, layout)
    weights.load_into(model, body, "file")
    assert heads == {}
    assert isinstance(model.eval(), Decoder)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(IDS, REAL).to_padded()), expected, atol=1e-5, rtol=0)
    assert layout.hf_config("causal_lm", sizes)["tie_word_embeddings"] is False
    again = layout.from_hf(layout.to_hf("causal_lm", model.state_dict(), {}))[0]
    assert all(torch.equal(again[name], body[name]) for name in body)


def marian_logits(folder: Path) -> Tensor:
    layout = MarianWeights()
    model = transformer(**read_sizes(folder, layout)).eval()
    weights.load_into(model, read_tensors(folder, layout)[0], str(folder))
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        return model.logits(model(IDS, REAL, IDS, REAL).to_padded())


def tensor2tensor(rows: int, d_model: int) -> Tensor:
    """Its sinusoids: the last angle is pos / 10000, not pos / 10000^((d - 2) / d)."""
    half = d_model // 2
    angle = torch.arange(rows)[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@pytest.mark.parametrize("matrices", ["shared", "separate", "untied", "both"])
@pytest.mark.parametrize("positions", ["computed", "marian", "tensor2tensor", "learned", "two"])
def test_marian_with_other_matrices_and_positions(tmp_path: Path, matrices: str, positions: str) -> None:
    separate, untied = matrices in ("separate", "both"), matrices in ("untied", "both")
    config = transformers.MarianConfig(
        **MARIAN_SIZES, share_encoder_decoder_embeddings=not separate, tie_word_embeddings=not untied
    )
    model = shaken(transformers.MarianMTModel(config))
    tables = [tensor2tensor(20, 16)] * 2
    if positions in ("learned", "two"):
        tables = [torch.randn(20, 16) for _ in range(2 if positions == "two" else 1)] * (1 if positions == "two" else 2)
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions.weight.data = stack.embed_positions.create_weight()
    model.save_pretrained(tmp_path)
    if positions != "computed":
        marians = model.model.encoder.embed_positions.weight.detach()
        found = [marians, marians] if positions == "marian" else tables
        names = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
        rewrite(tmp_path, lambda state: {**state, **{name: t.clone() for name, t in zip(names, found, strict=True)}})
    expected = their_logits(transformers.MarianMTModel, tmp_path, decoder_input_ids=IDS)
    torch.testing.assert_close(marian_logits(tmp_path), expected, atol=1e-5, rtol=0)


def test_marian_without_a_bias_of_its_logits(tmp_path: Path) -> None:
    model = shaken(transformers.MarianMTModel(transformers.MarianConfig(**MARIAN_SIZES)))
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions.weight.data = stack.embed_positions.create_weight()
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda state: {name: t for name, t in state.items() if name != "final_logits_bias"})
    expected = their_logits(transformers.MarianMTModel, tmp_path, decoder_input_ids=IDS)
    torch.testing.assert_close(marian_logits(tmp_path), expected, atol=1e-5, rtol=0)


def test_pre_norm_marian_goes_through_files_and_back(tmp_path: Path) -> None:
    layout = MarianWeights()
    sizes = {
        "vocab_size": 30, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 20, "norm": "pre",
        "positions": "learned", "shared_embeddings": False, "tie_word_embeddings": False, "output_bias": True,
    }  # fmt: skip
    model = shaken(transformer(**sizes, n_decoder_layers=1))
    state = layout.to_hf("translation", model.state_dict(), {})
    assert "model.encoder.layer_norm.weight" in state
    config = {**MARIAN_SIZES, "model_type": "marian", "normalize_before": True, "activation_function": "relu"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "static_position_embeddings": False}))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    with torch.no_grad():
        expected = model.logits(model(IDS, REAL, IDS, REAL).to_padded())
    torch.testing.assert_close(marian_logits(tmp_path), expected, atol=0, rtol=0)


def test_two_vocabularies_are_refused() -> None:
    with pytest.raises(WeightsError, match="decoder_vocab_size=31 is not vocab_size=30: two vocabularies are not read"):
        MarianWeights().sizes({**MARIAN_SIZES, "model_type": "marian", "decoder_vocab_size": 31})


@pytest.mark.parametrize("model_type", [None, 3, ["bert"], {}])
def test_a_model_type_that_is_no_text_names_no_family(model_type: object) -> None:
    assert family_of({"model_type": model_type}) is None
