"""Marian's Transformer in its Hugging Face format (`Helsinki-NLP/opus-mt-*`), in both directions.

Names of tensors, theirs -> ours (S is encoder or decoder, L a layer's number):

    model.shared                                -> embeddings.token     (vocab, d_model): both languages and the output layer
    final_logits_bias, (1, vocab)               -> bias                 (vocab,)
    model.S.layers.L.self_attn.q|k|v_proj       -> S.layers.L.attention.qkv, one below the other (3 d_model, d_model)
    model.S.layers.L.self_attn.out_proj         -> S.layers.L.attention.output
    model.S.layers.L.encoder_attn.q_proj        -> S.layers.L.cross_attention.query
    model.S.layers.L.encoder_attn.k|v_proj      -> S.layers.L.cross_attention.key_value, as qkv (2 d_model, d_model)
    model.S.layers.L.encoder_attn.out_proj      -> S.layers.L.cross_attention.output
    model.S.layers.L.fc1, fc2                   -> S.layers.L.feed_forward.inner, feed_forward.outer
    self_attn_layer_norm, encoder_attn_layer_norm, final_layer_norm
                                                -> attention_norm, cross_attention_norm, feed_forward_norm

Files may name the embedding several times. Positions are computed, though old files hold them as tables.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.hf.layout import (
    BuilderArguments,
    CompanionFiles,
    ExportedRun,
    HeadLayout,
    TiedOutputLayout,
    require_keys,
    require_model_type,
    translate_activation,
)
from protoformer.models.hf.tokenizer_files import closing_tokenizer_files
from protoformer.models.weights import HfConfig, StateDict
from protoformer.text.sentencepiece import SourceTargetTokenizer

TOKEN, BIAS = "embeddings.token.weight", "bias"  # ours
SHARED, LOGITS_BIAS = "model.shared.weight", "final_logits_bias"  # theirs
TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
SINUSOID_TABLES = re.compile(r"model\.(encoder|decoder)\.embed_positions\.weight$")
THEIR_LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)$")
OUR_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)$")
PARTS = {  # theirs -> ours
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.q_proj": "cross_attention.query",
    "encoder_attn.out_proj": "cross_attention.output",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "fc1": "feed_forward.inner",
    "fc2": "feed_forward.outer",
    "final_layer_norm": "feed_forward_norm",
}
FUSED = {  # ours -> theirs, one below the other
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
REQUIRED_KEYS = (
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "vocab_size",
)
FIXED_CONFIG = {  # with another value it is another model
    "scale_embedding": True,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class MarianWeights(TiedOutputLayout):
    """Marian's layout (a `WeightsLayout`)."""

    model_type: ClassVar[str] = "marian"
    heads: ClassVar[Mapping[str, HeadLayout]] = {"translation": HeadLayout("MTModel")}
    not_in_config: ClassVar[frozenset[str]] = frozenset({"dropout", "attention_dropout", "packing"})
    activations: ClassVar[Mapping[str, str]] = {"swish": "swish", "silu": "swish", "relu": "relu", "gelu": "gelu"}

    def sizes(self, config: HfConfig) -> BuilderArguments:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""
        require_model_type(config.get("model_type"), self.model_type)
        for name, expected in FIXED_CONFIG.items():
            if config.get(name, expected) != expected:
                raise WeightsError(f"config.json: {name}={config[name]}; this model is the one with {expected}")
        require_keys(config, REQUIRED_KEYS)
        for name in ("attention_heads", "ffn_dim"):
            encoder, decoder = config[f"encoder_{name}"], config.get(f"decoder_{name}", config[f"encoder_{name}"])
            if encoder != decoder:
                raise WeightsError(
                    f"config.json: encoder_{name}={encoder} and decoder_{name}={decoder} differ; they must be equal"
                )
        return {
            "vocab_size": config["vocab_size"],
            "d_model": config["d_model"],
            "n_layers": config["encoder_layers"],
            "n_decoder_layers": config["decoder_layers"],
            "n_heads": config["encoder_attention_heads"],
            "d_ff": config["encoder_ffn_dim"],
            "max_seq_len": config.get("max_position_embeddings", 1024),
            "activation": translate_activation(config, "activation_function", "gelu", self.activations),
            "sinusoid": "halves",
            "output_bias": True,
        }

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the model's under our names, no heads). Raises WeightsError where two matrices that should be one
        differ, or a part of a fused one is missing."""
        body: StateDict = {}
        parts: StateDict = {}
        embedding = state.get(SHARED)
        for name, tensor in state.items():
            match = THEIR_LAYER.match(name)
            if name in TIED:
                embedding = tensor if embedding is None else embedding
                if not torch.equal(tensor, embedding):
                    raise WeightsError(f"{name} is not {SHARED}: both languages and the output must share one matrix")
            elif name == LOGITS_BIAS:
                body[BIAS] = tensor.flatten()
            elif match is not None:
                stack, layer, part, suffix = match.groups()
                parts[f"{stack}.layers.{layer}.{part}.{suffix}"] = tensor
            elif not SINUSOID_TABLES.match(name) and name != SHARED:
                body[name] = tensor  # unknown: named as unexpected when it is loaded into the model
        if embedding is not None:
            body[TOKEN] = embedding
        return {**body, **_fuse(parts)}, {}

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our tensors -> theirs. Raises WeightsError for a model with parts that Marian has not."""
        parts = {ours: theirs for theirs, ours in PARTS.items()}
        state: StateDict = {SHARED: body[TOKEN]}
        bias = body.get(BIAS)
        state[LOGITS_BIAS] = (body[TOKEN].new_zeros(len(body[TOKEN])) if bias is None else bias)[None]
        for name, tensor in body.items():
            if name in (TOKEN, BIAS):
                continue
            match = OUR_LAYER.match(name)
            if match is None or match[3] not in {*parts, *FUSED}:
                raise WeightsError(f"{name}: Marian's layout has no place for it")
            stack, layer, part, suffix = match.groups()
            names = FUSED.get(part) or (parts[part],)
            for theirs, chunk in zip(names, tensor.chunk(len(names)), strict=True):
                state[f"model.{stack}.layers.{layer}.{theirs}.{suffix}"] = chunk.clone()
        return state

    def hf_config(
        self,
        task_type: str,
        sizes: BuilderArguments,
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> HfConfig:
        """A `config.json` that `transformers` opens. Raises WeightsError for a model or a task type that it cannot express."""
        if task_type not in self.heads:
            raise WeightsError(f"marian: a run of kind {task_type} has no counterpart in transformers; translation has")
        if sizes.get("sinusoid", "interleaved") != "halves":
            raise WeightsError(
                "model.sinusoid: Marian's sinusoids are in halves, this model's are interleaved (or learned)"
            )
        activations = {ours: theirs for theirs, ours in reversed(list(self.activations.items()))}
        n_decoder_layers = sizes.get("n_decoder_layers") or sizes["n_layers"]
        return {
            "architectures": ["Marian" + self.heads[task_type].model_class],
            "model_type": "marian",
            "is_encoder_decoder": True,
            "vocab_size": sizes["vocab_size"],
            "decoder_vocab_size": sizes["vocab_size"],
            "d_model": sizes["d_model"],
            "encoder_layers": sizes["n_layers"],
            "decoder_layers": n_decoder_layers,
            "encoder_attention_heads": sizes["n_heads"],
            "decoder_attention_heads": sizes["n_heads"],
            "encoder_ffn_dim": sizes["d_ff"],
            "decoder_ffn_dim": sizes["d_ff"],
            "max_position_embeddings": sizes.get("max_seq_len", 1024),
            "activation_function": activations[sizes.get("activation", "relu")],
            "dropout": sizes.get("dropout", 0.1),
            "attention_dropout": sizes.get("attention_dropout", 0.0),
            # as in the published vocabularies: the first token ends a text, the last one pads, and starts the target
            "eos_token_id": 0,
            "forced_eos_token_id": 0,
            "pad_token_id": sizes["vocab_size"] - 1,
            "decoder_start_token_id": sizes["vocab_size"] - 1,
            **FIXED_CONFIG,
        }

    def special_token_ids(self, template: Any) -> dict[str, int]:
        """Start and end of a target, as the run's template has them; the start pads too."""
        return {
            "eos_token_id": template.eos_id,
            "forced_eos_token_id": template.eos_id,
            "decoder_start_token_id": template.bos_id,
            "pad_token_id": template.bos_id,
        }

    def companion_files(self, run: ExportedRun, config: HfConfig) -> CompanionFiles:
        """The tokenizer, which appends the end token, and `generation_config.json`.

        A tokenizer that was read from Marian's own three files is written as these.
        """
        files: CompanionFiles = {}
        if isinstance(run.tokenizer, SourceTargetTokenizer):
            files |= {**run.tokenizer.files, "tokenizer_config.json": _marian_tokenizer_config(run)}
        else:
            files |= closing_tokenizer_files(run.tokenizer, run.template, run.max_len)
        # its length penalty is left out: `generate` of transformers has another formula than the paper's
        files["generation_config.json"] = {
            "num_beams": run.task["module"].get("beams", 4),
            "max_length": run.sizes.get("max_seq_len", config["max_position_embeddings"]),
            "bad_words_ids": [[token] for token in run.template.suppressed_ids],
            **self.special_token_ids(run.template),
        }
        return files


def _marian_tokenizer_config(run: ExportedRun) -> dict[str, object]:
    """The `tokenizer_config.json` of `MarianTokenizer`."""
    tokens = {index: token for token, index in run.tokenizer.hf_tokenizer.get_vocab().items()}
    return {
        "tokenizer_class": "MarianTokenizer",
        "model_max_length": run.max_len,
        "source_lang": run.task["rows"].get("source"),
        "target_lang": run.task["rows"].get("target"),
        "eos_token": tokens[run.template.eos_id],
        "pad_token": tokens[run.template.bos_id],
    }


def _fuse(parts: Mapping[str, Tensor]) -> StateDict:
    """Layers' tensors under our names; those that are one matrix with us are concatenated, in the place of the first."""
    fused_by_first = {theirs[0]: (ours, theirs) for ours, theirs in FUSED.items()}
    others = {theirs for names in FUSED.values() for theirs in names[1:]}
    state: StateDict = {}
    for name, tensor in parts.items():
        stem, _, suffix = name.rpartition(".")
        stack, layers, number, part = stem.split(".", 3)
        prefix = f"{stack}.{layers}.{number}"
        if part in fused_by_first:
            ours, theirs = fused_by_first[part]
            names = [f"{prefix}.{their_part}.{suffix}" for their_part in theirs]
            if missing := [name for name in names if name not in parts]:
                raise WeightsError(f"model.{missing[0]} is missing")
            state[f"{prefix}.{ours}.{suffix}"] = torch.cat([parts[name] for name in names])
        elif part not in others:
            state[f"{prefix}.{PARTS.get(part, part)}.{suffix}"] = tensor
    return state
