"""The encoder-decoder against stacks of `torch.nn` and against `transformers`' Marian, its sizes, its masks, its caches."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf.marian import MarianWeights
from protoformer.models.transformer import transformer

TINY = {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24, "max_seq_len": 24}
SOURCES, TARGETS = torch.tensor([9, 4, 6]), torch.tensor([7, 8, 3])


def mask(lengths: Tensor) -> Tensor:
    return torch.arange(int(lengths.max()))[None] < lengths[:, None]


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    source, target = mask(SOURCES), mask(TARGETS)
    return torch.randint(40, source.shape), source, torch.randint(40, target.shape), target


def random(model: nn.Module) -> None:
    for name, parameter in model.eval().named_parameters():  # biases and norms too, which start at 0 and 1
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)


def logits(model: EncoderDecoder, *inputs: Tensor) -> Tensor:
    hidden = model(*inputs)
    return hidden.layout.unpack(model.logits(hidden.tokens))


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"d_model": 512, "n_layers": 6, "n_heads": 8, "d_ff": 2048}, 63_082_496),
        ({"d_model": 1024, "n_layers": 6, "n_heads": 16, "d_ff": 4096}, 214_245_376),
    ],
)
def test_the_papers_sizes(sizes: dict, parameters: int) -> None:
    with torch.device("meta"):
        model = transformer(vocab_size=37_000, **sizes)
    assert sum(p.numel() for p in model.parameters()) == parameters


def reference(model: EncoderDecoder, norm: str) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """The same weights in torch's own stacks; post-norm ones end in no further normalisation."""
    shape = {
        "d_model": 16, "nhead": 4, "dim_feedforward": 24, "dropout": 0.0, "batch_first": True, "norm_first": norm == "pre"
    }  # fmt: skip
    last = [nn.LayerNorm(16) if norm == "pre" else None for _ in range(2)]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**shape), 2, last[0], enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), 2, last[1])
    for theirs, ours in ((encoder, model.encoder), (decoder, model.decoder)):
        for layer, own in zip(theirs.layers, ours.layers, strict=True):
            _attention(layer.self_attn, own.attention.qkv, own.attention.output)
            pairs = [(layer.linear1, own.feed_forward.inner), (layer.linear2, own.feed_forward.outer)]
            norms = [own.attention_norm, own.feed_forward_norm]
            if theirs is decoder:
                cross = own.cross_attention
                fused = nn.Linear(16, 48)
                fused.load_state_dict(
                    {
                        end: torch.cat([getattr(cross.query, end), getattr(cross.key_value, end)])
                        for end in ("weight", "bias")
                    }
                )
                _attention(layer.multihead_attn, fused, cross.output)
                norms.insert(1, own.cross_attention_norm)
            pairs += [(getattr(layer, f"norm{index}"), norm) for index, norm in enumerate(norms, start=1)]
            for one, other in pairs:
                one.load_state_dict(other.state_dict())
        if norm == "pre":
            theirs.norm.load_state_dict(ours.final_norm.state_dict())
    return encoder.eval(), decoder.eval()


def _attention(theirs: nn.MultiheadAttention, qkv: nn.Linear, output: nn.Linear) -> None:
    theirs.load_state_dict(
        {
            "in_proj_weight": qkv.weight,
            "in_proj_bias": qkv.bias,
            "out_proj.weight": output.weight,
            "out_proj.bias": output.bias,
        }
    )


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_equal_torchs_own_stacks(norm: str, packing: str) -> None:
    model = transformer(**TINY, norm=norm, packing=packing)  # type: ignore[arg-type]
    random(model)
    encoder, decoder = reference(model, norm)
    sources, source_mask, targets, target_mask = batch()
    table = model.embeddings.token.weight
    angle = torch.arange(24)[:, None] / 10000 ** (torch.arange(0, 16, 2) / 16)
    positions = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    def embedded(ids: Tensor) -> Tensor:
        return table[ids] * 4.0 + positions[: ids.shape[1]]

    with torch.no_grad():
        memory = encoder(embedded(sources), src_key_padding_mask=~source_mask)
        later = torch.ones(8, 8, dtype=torch.bool).triu(1)
        hidden = decoder(
            embedded(targets),
            memory,
            tgt_mask=later,
            tgt_key_padding_mask=~target_mask,
            memory_key_padding_mask=~source_mask,
        )
        actual = logits(model, sources, source_mask, targets, target_mask)
    torch.testing.assert_close(actual[target_mask], (hidden @ table.T)[target_mask], atol=1e-5, rtol=1e-5)


def marian(decoder_layers: int = 2, activation: str = "swish") -> transformers.MarianMTModel:
    config = transformers.MarianConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=decoder_layers, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=24, pad_token_id=39,
        eos_token_id=0, decoder_start_token_id=39, scale_embedding=True, activation_function=activation,
    )  # fmt: skip
    model = transformers.MarianMTModel(config)
    random(model)
    for side in (model.model.encoder, model.model.decoder):  # `random` has written over the sinusoids
        side.embed_positions.weight.data.copy_(side.embed_positions.create_weight())
    model.final_logits_bias.normal_()
    return model


def ours(folder: Path, packing: str = "auto") -> EncoderDecoder:
    layout = MarianWeights()
    model = transformer(**layout.sizes(weights.read_config(folder)), packing=packing)  # type: ignore[arg-type]
    weights.load_into(model, layout.from_hf(weights.read_state(folder))[0], str(folder))
    return model.eval()


@pytest.mark.parametrize(("decoder_layers", "activation"), [(2, "swish"), (1, "relu"), (3, "gelu")])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_equal_marians(decoder_layers: int, activation: str, packing: str, tmp_path: Path) -> None:
    theirs = marian(decoder_layers, activation)
    theirs.save_pretrained(tmp_path)
    sources, source_mask, targets, target_mask = batch()
    with torch.no_grad():
        expected = theirs(
            input_ids=sources,
            attention_mask=source_mask.long(),
            decoder_input_ids=targets,
            decoder_attention_mask=target_mask.long(),
        ).logits
        actual = logits(ours(tmp_path, packing), sources, source_mask, targets, target_mask)
    torch.testing.assert_close(actual[target_mask], expected[target_mask], atol=1e-5, rtol=1e-5)


def test_a_written_folder_opens_in_transformers_and_is_the_same(tmp_path: Path) -> None:
    marian().save_pretrained(tmp_path / "theirs")
    model, layout = ours(tmp_path / "theirs"), MarianWeights()
    sizes = layout.sizes(weights.read_config(tmp_path / "theirs"))
    written = {
        name: tensor.contiguous() for name, tensor in layout.to_hf("translation", model.state_dict(), {}).items()
    }
    state = weights.read_state(tmp_path / "theirs")
    assert set(written) == set(state)
    assert all(torch.equal(written[name], state[name]) for name in state)
    config = layout.hf_config("translation", sizes)
    assert layout.sizes(config) == sizes
    read = transformers.MarianMTModel(transformers.MarianConfig(**config)).eval()
    lacking, unknown = read.load_state_dict(written, strict=False)
    assert not unknown
    assert all("embed_" in name or name == "lm_head.weight" for name in lacking)
    sources, source_mask, targets, target_mask = batch()
    with torch.no_grad():
        expected = read(input_ids=sources, attention_mask=source_mask.long(), decoder_input_ids=targets).logits
        actual = logits(model, sources, source_mask, targets, target_mask)
    torch.testing.assert_close(actual[target_mask], expected[target_mask], atol=1e-5, rtol=1e-5)


def test_marians_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    marian().save_pretrained(tmp_path)
    layout, config, state = MarianWeights(), weights.read_config(tmp_path), weights.read_state(tmp_path)
    for change, message in (
        ({"model_type": "bart"}, "model_type 'bart'"),
        ({"normalize_before": True, "add_final_layer_norm": False}, "normalize_before=True"),
        ({"decoder_ffn_dim": 5}, "decoder_ffn_dim=5 differ"),
        ({"activation_function": "mish"}, "'mish'"),
    ):
        with pytest.raises(WeightsError, match=message):
            layout.sizes({**config, **change})
    lacking = {name: tensor for name, tensor in state.items() if "layers.1.encoder_attn.v_proj" not in name}
    with pytest.raises(WeightsError, match=r"decoder.layers.1.encoder_attn.v_proj.\w+ is missing"):
        layout.from_hf(lacking)
    with pytest.raises(WeightsError, match="halves"):
        layout.hf_config("translation", {**TINY})
    assert json.dumps(layout.hf_config("translation", {**TINY, "sinusoid": "halves"}))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_step_by_step_is_the_same_as_at_once(norm: str) -> None:
    model = transformer(**TINY, norm=norm)  # type: ignore[arg-type]
    random(model)
    sources, source_mask, targets, _ = batch()
    whole = torch.ones_like(targets, dtype=torch.bool)
    with torch.no_grad():
        memory = model.encode(sources, source_mask)
        expected = model.decode(targets, whole, memory).to_padded()
        state = model.init_state(memory, targets.shape[1])
        parts = [model.decode_step(targets[:, :3], state)]
        parts += [model.decode_step(targets[:, step : step + 1], state) for step in range(3, 6)]
        state.select(torch.tensor([2, 0]))  # the sources are other ones now
        parts = [part[[2, 0]] for part in parts]
        parts += [model.decode_step(targets[[2, 0], step : step + 1], state) for step in range(6, 8)]
    torch.testing.assert_close(torch.cat(parts, 1), expected[[2, 0]], atol=1e-5, rtol=1e-5)
    with pytest.raises(IndexError):
        model.decode_step(targets[[2, 0], :1], state)


def test_what_stands_behind_masks_changes_nothing() -> None:
    model = transformer(**TINY, packing="off")
    random(model)
    sources, source_mask, targets, target_mask = batch()
    with torch.no_grad():
        before = logits(model, sources, source_mask, targets, target_mask)
        after = logits(model, sources.where(source_mask, 7), source_mask, targets.where(target_mask, 7), target_mask)
        torch.testing.assert_close(before[target_mask], after[target_mask])
        later = targets.clone()
        later[:, 2:] = (later[:, 2:] + 1) % 40
        changed = logits(model, sources, source_mask, later, target_mask)
    torch.testing.assert_close(before[:, :2], changed[:, :2])
    assert not torch.allclose(before[0, 3], changed[0, 3])


def test_arguments_of_the_ablations() -> None:
    plain = transformer(**TINY)
    assert transformer(**TINY, positions="learned").state_dict().keys() - plain.state_dict().keys() == {
        "embeddings.position.weight"
    }
    narrow = transformer(**TINY, d_head=2)
    assert narrow.encoder.layers[0].attention.output.weight.shape == (16, 8)
    assert len(transformer(**TINY, n_decoder_layers=3).decoder.layers) == 3
    near = transformer(**TINY, window=1)
    assert [near.decoder.layers[0].attention.window, near.decoder.layers[0].cross_attention.window] == [1, None]
    with pytest.raises(IndexError, match="25 tokens"):
        plain.encode(torch.zeros(1, 25, dtype=torch.long), torch.ones(1, 25, dtype=torch.bool))
