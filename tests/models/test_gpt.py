"""GPT and GPT-2 against `transformers`: logits of random models, the way there and back, sizes, causality, bands, caches."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights

SHAPES = [(16, 1, 1, 40, 24, 0), (24, 2, 4, 50, 24, 1), (32, 3, 2, 60, 30, 2), (64, 4, 8, 33, 16, 0)]
FAMILIES = ("gpt", "gpt2")
TINY = {"vocab_size": 40, "d_model": 16, "n_layers": 3, "n_heads": 2, "d_ff": 32, "max_seq_len": 24}


def random_model(family: str, shape: tuple = SHAPES[1]) -> transformers.PreTrainedModel:
    width, layers, heads, vocab, positions, activation = shape
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "vocab_size": vocab, "n_positions": positions}
    if family == "gpt":
        config = transformers.OpenAIGPTConfig(**sizes, afn=("gelu", "relu", "gelu")[activation])
        model = transformers.OpenAIGPTLMHeadModel(config)
    else:
        config = transformers.GPT2Config(
            **sizes,
            activation_function=("gelu_new", "gelu", "relu")[activation],
            n_inner=5 * width if layers == 3 else None,
        )
        model = transformers.GPT2LMHeadModel(config)
    for name, parameter in model.eval().named_parameters():  # biases and norms too, which start at 0 and 1
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.2)
    return model


def layout(family: str) -> GptWeights:
    return GptWeights() if family == "gpt" else Gpt2Weights()


def ours(family: str, folder: Path, **settings: object) -> Decoder:
    reader = layout(family)
    decoder = gpt(**reader.sizes(weights.read_config(folder)), **settings)
    weights.load_into(decoder, reader.from_hf(weights.read_state(folder))[0], str(folder))
    return decoder.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_equal_transformers(family: str, shape: tuple, packing: str, tmp_path: Path) -> None:
    theirs = random_model(family, shape)
    theirs.save_pretrained(tmp_path)
    model = ours(family, tmp_path, packing=packing)
    ids = torch.randint(shape[3], (3, 15))
    mask = torch.arange(15)[None] < torch.tensor([15, 3, 9])[:, None]
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask.long()).logits
        hidden = model(ids, mask)
        actual = hidden.layout.unpack(model.logits(hidden.tokens))
    torch.testing.assert_close(actual[mask], expected[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_written_folder_opens_in_transformers(family: str, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    reader = layout(family)
    model = gpt(**{**TINY, "d_ff": 64}, norm="post" if family == "gpt" else "pre", init_std=0.2).eval()
    save_file(reader.to_hf("causal_lm", model.state_dict(), {}), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(reader.hf_config("causal_lm", {**TINY, "d_ff": 64})))
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(40, (2, 11))
    with torch.no_grad():
        hidden = model(ids, torch.ones_like(ids, dtype=torch.bool))
        actual = model.logits(hidden.to_padded())
        torch.testing.assert_close(actual, theirs.eval()(ids).logits, atol=1e-5, rtol=0)


def test_what_is_no_gpt_is_refused(tmp_path: Path) -> None:
    random_model("gpt2").save_pretrained(tmp_path)
    config = weights.read_config(tmp_path)
    with pytest.raises(WeightsError, match="says model_type 'gpt2'; this model reads 'openai-gpt'"):
        GptWeights().sizes(config)
    with pytest.raises(WeightsError, match="scale_attn_by_inverse_layer_idx=True"):
        Gpt2Weights().sizes({**config, "scale_attn_by_inverse_layer_idx": True})
    with pytest.raises(WeightsError, match="activation_function 'quick_gelu'; supported"):
        Gpt2Weights().sizes({**config, "activation_function": "quick_gelu"})
    with pytest.raises(WeightsError, match="lacks n_embd"):
        Gpt2Weights().sizes({k: v for k, v in config.items() if k != "n_embd"})
    with pytest.raises(WeightsError, match="has no other than 4 x d_model"):
        GptWeights().hf_config("causal_lm", TINY)


def test_masks_that_old_files_carry_are_left_out(tmp_path: Path) -> None:
    theirs = random_model("gpt2")
    state = dict(theirs.state_dict())
    state |= {"transformer.h.0.attn.bias": torch.ones(1, 1, 24, 24), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    body, heads = Gpt2Weights().from_hf(state)
    assert not heads
    assert not any("bias" in name and tensor.dim() > 1 for name, tensor in body.items())
    assert body.keys() == gpt(**{**TINY, "n_layers": 2}, norm="pre").state_dict().keys()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("attention", [["dense"], ["banded"], ["dense", "banded"]])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_no_token_sees_a_later_one(norm: str, attention: list[str], packing: str) -> None:
    model = gpt(**TINY, norm=norm, attention=attention, band=4, packing=packing, init_std=0.3).eval()
    ids = torch.randint(40, (2, 20))
    mask = torch.arange(20)[None] < torch.tensor([20, 13])[:, None]
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 40
    with torch.no_grad():
        before, after = (model.logits(model(each, mask).to_padded()) for each in (ids, changed))
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7] - after[:, 7]).abs().amax(-1).min() > 0.01


@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_banded_layer_sees_exactly_its_band(packing: str) -> None:
    """The gradient of one token's vector reaches itself and the three before it, and nothing else."""
    model = gpt(
        **{**TINY, "n_layers": 1}, norm="pre", attention=["banded"], band=4, packing=packing, init_std=0.3
    ).eval()
    model.embeddings.token.weight.requires_grad_()
    ids = torch.arange(20)[None]
    model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, 12].pow(2).sum().backward()
    reached = model.embeddings.token.weight.grad.abs().sum(-1).nonzero().flatten().tolist()
    assert reached == [9, 10, 11, 12]


@pytest.mark.parametrize("attention", [["dense"], ["dense", "banded"]])
def test_cached_logits_equal_those_of_one_pass(attention: list[str]) -> None:
    model = gpt(**TINY, norm="pre", attention=attention, band=4, init_std=0.3).eval()
    ids = torch.randint(40, (3, 18))
    caches = model.init_caches(3, 18)
    with torch.no_grad():
        whole = model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()
        pieces = [model.decode_step(ids[:, a:b], caches) for a, b in ((0, 9), (9, 10), (10, 11), (11, 16), (16, 18))]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)
    with pytest.raises(IndexError, match="the cache holds 18 positions"):
        model.decode_step(ids[:, :1], caches)


def test_prompts_of_unequal_length_are_read_as_if_alone() -> None:
    model = gpt(**TINY, norm="pre", attention=["dense", "banded"], band=4, init_std=0.3).eval()
    lengths = [9, 4, 1]
    ids = torch.randint(1, 40, (3, 9))
    real = torch.arange(9)[None] >= 9 - torch.tensor(lengths)[:, None]
    more = torch.randint(1, 40, (3, 5))
    caches = model.init_caches(3, 14)
    with torch.no_grad():
        model.decode_step(ids, caches, real)
        together = torch.cat([model.decode_step(more[:, i : i + 1], caches) for i in range(5)], 1)
        for row, length in enumerate(lengths):
            alone = torch.cat([ids[row, 9 - length :], more[row]])[None]
            expected = model(alone, torch.ones_like(alone, dtype=torch.bool)).to_padded()[0, length:]
            torch.testing.assert_close(together[row], expected, atol=1e-5, rtol=0)


def test_too_many_tokens_are_refused() -> None:
    model = gpt(**TINY)
    with pytest.raises(IndexError, match="25 tokens; the model has 24 positions"):
        model.decode_step(torch.zeros(1, 25, dtype=torch.long), model.init_caches(1, 30))


@pytest.mark.parametrize(
    ("more", "message"), [({"attention": ["banded"]}, "needs a band"), ({"attention": []}, "at least one")]
)
def test_patterns_that_cannot_be(more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gpt(**TINY, **more)


def test_the_start_is_the_papers() -> None:
    sizes = {**TINY, "d_model": 128, "d_ff": 512, "vocab_size": 500, "max_seq_len": 200, "n_layers": 8}
    model = gpt(**sizes, norm="pre", scaled_residuals=True, position_std=0.01)
    layer = model.stack.layers[3]
    for weight, std in (
        (layer.attention.qkv.weight, 0.02),
        (layer.attention.output.weight, 0.02 / 4),
        (layer.feed_forward.outer.weight, 0.02 / 4),
        (layer.feed_forward.inner.weight, 0.02),
        (model.embeddings.token.weight, 0.02),
        (model.embeddings.position.weight, 0.01),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert layer.attention.output.bias.abs().max() == 0
