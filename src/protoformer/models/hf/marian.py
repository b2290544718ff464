"""Marian's Transformer as Hugging Face lays it out (`Helsinki-NLP/opus-mt-*`), and the way there and back.

Queries, keys and values are matrices of their own, ours fused. One matrix embeds both languages and makes the logits; their
files may name it several times. Positions are computed, though old files hold them as tables.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.weights import State

TOKEN, BIAS = "embeddings.token.weight", "bias"
SHARED, LOGITS_BIAS = "model.shared.weight", "final_logits_bias"
TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
TABLES = re.compile(r"model\.(encoder|decoder)\.embed_positions\.weight$")
LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)$")
OURS = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)$")
PARTS = {
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.q_proj": "cross_attention.query",
    "encoder_attn.out_proj": "cross_attention.output",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "fc1": "feed_forward.inner",
    "fc2": "feed_forward.outer",
    "final_layer_norm": "feed_forward_norm",
}
FUSED = {  # ours -> theirs, one under the other
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
ONLY = {  # what else a file may ask for is another model
    "scale_embedding": True,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class MarianWeights:
    """Marian's layout; `repo` and `revision` say where the published weights lie (revision null: the newest, recorded)."""

    repo: str | None = None
    revision: str | None = None
    optional: ClassVar[tuple[str, ...]] = ()
    activations: ClassVar[Mapping[str, str]] = {"swish": "swish", "silu": "swish", "relu": "relu", "gelu": "gelu"}

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Builder arguments that a `config.json` fixes. Raises WeightsError on another architecture."""
        if config.get("model_type") != "marian":
            raise WeightsError(f"config.json says model_type {config.get('model_type')!r}; this model reads 'marian'")
        for word, usual in ONLY.items():
            if config.get(word, usual) != usual:
                raise WeightsError(f"config.json: {word}={config[word]}; this model is the one with {usual}")
        words = (
            "d_model",
            "encoder_layers",
            "decoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
            "vocab_size",
        )
        if lacking := [word for word in words if word not in config]:
            raise WeightsError(f"config.json lacks {', '.join(lacking)}")
        for word in ("attention_heads", "ffn_dim"):
            here, there = config[f"encoder_{word}"], config.get(f"decoder_{word}", config[f"encoder_{word}"])
            if here != there:
                raise WeightsError(
                    f"config.json: encoder_{word}={here} and decoder_{word}={there} differ; here they are one"
                )
        activation = config.get("activation_function", "gelu")
        if activation not in self.activations:
            raise WeightsError(
                f"config.json: activation_function {activation!r}; known are {', '.join(self.activations)}"
            )
        return {
            "vocab_size": config["vocab_size"],
            "d_model": config["d_model"],
            "n_layers": config["encoder_layers"],
            "n_decoder_layers": config["decoder_layers"],
            "n_heads": config["encoder_attention_heads"],
            "d_ff": config["encoder_ffn_dim"],
            "max_seq_len": config.get("max_position_embeddings", 1024),
            "activation": self.activations[activation],
            "sinusoid": "halves",
            "output_bias": True,
        }

    def read(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """Their tensors -> (ours for the model, none for a head). Raises WeightsError where two matrices that should be one
        differ, or a part of a fused one lacks."""
        body: State = {}
        parts: State = {}
        table = state.get(SHARED)
        for name, tensor in state.items():
            found = LAYER.match(name)
            if name in TIED:
                table = tensor if table is None else table
                if not torch.equal(tensor, table):
                    raise WeightsError(f"{name} is not {SHARED}: one matrix is to serve both languages and the output")
            elif name == LOGITS_BIAS:
                body[BIAS] = tensor.flatten()
            elif found is not None:
                side, number, part, end = found.groups()
                parts[f"{side}.layers.{number}.{part}.{end}"] = tensor
            elif not TABLES.match(name) and name != SHARED:
                body[name] = tensor  # unknown to us: named as unexpected when it is put into the model
        if table is not None:
            body[TOKEN] = table
        return {**body, **_fused(parts)}, {}

    def head(self, kind: str, heads: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
        """None: the output layer is the embedding."""
        return {}

    def labels(self, config: Mapping[str, Any]) -> list[str] | None:
        return None

    def write(self, kind: str, body: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> State:
        """Our tensors -> theirs. Raises WeightsError for a model that has parts Marian has not."""
        back = {ours: theirs for theirs, ours in PARTS.items()}
        state: State = {SHARED: body[TOKEN]}
        bias = body.get(BIAS)
        state[LOGITS_BIAS] = (body[TOKEN].new_zeros(len(body[TOKEN])) if bias is None else bias)[None]
        for name, tensor in body.items():
            if name in (TOKEN, BIAS):
                continue
            found = OURS.match(name)
            if found is None or found[3] not in {*back, *FUSED}:
                raise WeightsError(f"{name}: Marian's layout has no place for it")
            side, number, part, end = found.groups()
            names = FUSED.get(part) or (back[part],)
            for theirs, piece in zip(names, tensor.chunk(len(names)), strict=True):
                state[f"model.{side}.layers.{number}.{theirs}.{end}"] = piece.clone()
        return state

    def config(
        self, kind: str, sizes: Mapping[str, Any], labels: list[str] | None = None, head: Collection[str] = ()
    ) -> dict[str, Any]:
        """A `config.json` that `transformers` opens.

        Raises WeightsError for a model that it cannot say.
        """
        if sizes.get("sinusoid", "interleaved") != "halves":
            raise WeightsError(
                "model.sinusoid: Marian's sinusoids are in halves, this model's are interleaved (or learned)"
            )
        back = {ours: theirs for theirs, ours in reversed(list(self.activations.items()))}
        decoder = sizes.get("n_decoder_layers") or sizes["n_layers"]
        return {
            "architectures": ["MarianMTModel"],
            "model_type": "marian",
            "is_encoder_decoder": True,
            "vocab_size": sizes["vocab_size"],
            "decoder_vocab_size": sizes["vocab_size"],
            "d_model": sizes["d_model"],
            **{f"{side}_layers": layers for side, layers in (("encoder", sizes["n_layers"]), ("decoder", decoder))},
            **{f"{side}_attention_heads": sizes["n_heads"] for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": sizes["d_ff"] for side in ("encoder", "decoder")},
            "max_position_embeddings": sizes.get("max_seq_len", 1024),
            "activation_function": back[sizes.get("activation", "relu")],
            "dropout": sizes.get("dropout", 0.1),
            "attention_dropout": sizes.get("attention_dropout", 0.0),
            # as in the published vocabularies: the first word ends a text, the last one pads, and begins what is written
            "eos_token_id": 0,
            "forced_eos_token_id": 0,
            "pad_token_id": sizes["vocab_size"] - 1,
            "decoder_start_token_id": sizes["vocab_size"] - 1,
            **ONLY,
        }


def _fused(parts: Mapping[str, Tensor]) -> State:
    """Layers' tensors under our names: what is fused with us is put together where its first part stands."""
    firsts = {theirs[0]: (ours, theirs) for ours, theirs in FUSED.items()}
    rest = {theirs for names in FUSED.values() for theirs in names[1:]}
    found: State = {}
    for name, tensor in parts.items():
        stem, _, end = name.rpartition(".")
        layer, part = stem.split(".", 3)[:3], stem.split(".", 3)[3]
        place = ".".join(layer)
        if part in firsts:
            ours, theirs = firsts[part]
            names = [f"{place}.{one}.{end}" for one in theirs]
            if lacking := [one for one in names if one not in parts]:
                raise WeightsError(f"model.{lacking[0]} is missing")
            found[f"{place}.{ours}.{end}"] = torch.cat([parts[one] for one in names])
        elif part not in rest:
            found[f"{place}.{PARTS.get(part, part)}.{end}"] = tensor
    return found
