"""Marian's Transformer in its Hugging Face format (`Helsinki-NLP/opus-mt-*`), in both directions.

Names of tensors, theirs -> ours (S is encoder or decoder, L a layer's number):

    model.shared                                -> embeddings.token     (vocab, d_model): both languages and the output layer
    model.encoder.embed_tokens                  -> embeddings.token, where the matrices are separate
    model.decoder.embed_tokens                  -> target_embeddings.token
    lm_head                                     -> output               (vocab, d_model)
    model.encoder|decoder.embed_positions       -> embeddings.position, target_embeddings.position: tables that are not Marian's
                                                   sinusoids (learned ones, tensor2tensor's sinusoids)
    model.S.layer_norm                          -> S.final_norm, of a pre-norm model
    final_logits_bias, (1, vocab)               -> bias                 (vocab,)
    model.S.layers.L.self_attn.q|k|v_proj       -> S.layers.L.attention.qkv, one below the other (3 d_model, d_model)
    model.S.layers.L.self_attn.out_proj         -> S.layers.L.attention.output
    model.S.layers.L.encoder_attn.q_proj        -> S.layers.L.cross_attention.query
    model.S.layers.L.encoder_attn.k|v_proj      -> S.layers.L.cross_attention.key_value, as qkv (2 d_model, d_model)
    model.S.layers.L.encoder_attn.out_proj      -> S.layers.L.cross_attention.output
    model.S.layers.L.fc1, fc2                   -> S.layers.L.feed_forward.inner, feed_forward.outer
    self_attn_layer_norm, encoder_attn_layer_norm, final_layer_norm
                                                -> attention_norm, cross_attention_norm, feed_forward_norm

Files may name the embedding several times, and the "model." in front may be missing. Marian's sinusoids are computed, though
old files hold them as tables.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.json_files import Values
from protoformer.models.hf.layout import (
    ACTIVATIONS,
    BuilderArguments,
    CompanionFiles,
    ExportedRun,
    HeadLayout,
    TiedOutputLayout,
    plain_names,
    preferred,
)
from protoformer.models.hf.marian_embeddings import (
    LM_HEAD,
    OUTPUT,
    POSITION,
    SHARED,
    SOURCE_TOKENS,
    TABLES,
    TARGET_POSITION,
    TARGET_TOKEN,
    TARGET_TOKENS,
    TOKEN,
    embeddings,
)
from protoformer.models.hf.marian_layers import FUSED, PARTS, fuse
from protoformer.models.hf.tokenizer_files import closing_tokenizer_files, marian_tokenizer_config
from protoformer.models.weights import HfConfig, StateDict
from protoformer.text.sentencepiece import SourceTargetTokenizer

BIAS, LOGITS_BIAS = "bias", "final_logits_bias"  # ours, theirs
FINAL_NORMS = re.compile(r"(encoder|decoder)\.layer_norm\.(weight|bias)$")
OUR_FINAL_NORMS = re.compile(r"(encoder|decoder)\.final_norm\.(weight|bias)$")
THEIR_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)$")
OUR_LAYER = THEIR_LAYER
MAX_POSITIONS = 2**20  # of a table that is computed
FIXED_CONFIG = {  # with another value it is another model
    "scale_embedding": True,
    "normalize_embedding": False,
}
REQUIRED = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "vocab_size")


@dataclass(frozen=True)
class MarianWeights(TiedOutputLayout):
    """Marian's layout (a `WeightsLayout`)."""

    model_type: ClassVar[str] = "marian"
    output_name: ClassVar[str] = LM_HEAD
    heads: ClassVar[Mapping[str, HeadLayout]] = {"translation": HeadLayout("MTModel")}
    not_in_config: ClassVar[frozenset[str]] = frozenset({"dropout", "attention_dropout", "packing"})
    size_names: ClassVar[Mapping[str, str]] = {
        "encoder_layers": "n_layers",
        "decoder_layers": "n_decoder_layers",
        "encoder_ffn_dim": "d_ff",
        "max_position_embeddings": "max_seq_len",
    }

    def sizes(self, config: HfConfig) -> BuilderArguments:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""
        values = Values(config)
        _check_architecture(values, config)
        vocab_size, d_model, n_heads = (
            values.whole(key) for key in ("vocab_size", "d_model", "encoder_attention_heads")
        )
        if d_model % n_heads:
            raise WeightsError(
                f"{values.origin}: d_model={d_model} is not a multiple of encoder_attention_heads={n_heads}"
            )
        if (targets := values.whole("decoder_vocab_size", vocab_size)) != vocab_size:
            raise WeightsError(
                f"{values.origin}: decoder_vocab_size={targets} is not vocab_size={vocab_size}: two vocabularies are not read"
            )
        pre_norm, learned = (
            values.flag("normalize_before", False),
            not values.flag("static_position_embeddings", True),
        )
        if values.flag("add_final_layer_norm", pre_norm) != pre_norm:
            raise WeightsError(
                f"{values.origin}: add_final_layer_norm={config['add_final_layer_norm']} with normalize_before={pre_norm}; a "
                "pre-norm model ends in a norm here, a post-norm one does not"
            )
        return {
            "vocab_size": vocab_size,
            "d_model": d_model,
            "n_layers": values.whole("encoder_layers"),
            "n_decoder_layers": values.whole("decoder_layers"),
            "n_heads": n_heads,
            "d_ff": values.whole("encoder_ffn_dim"),
            "max_seq_len": values.whole("max_position_embeddings", 1024, maximum=MAX_POSITIONS),
            "activation": values.choice("activation_function", ACTIVATIONS, "gelu"),
            "sinusoid": "halves",
            "output_bias": True,
            **({"norm": "pre"} if pre_norm else {}),
            **({"positions": "learned"} if learned else {}),
        }

    def sizes_of_tensors(self, state: Mapping[str, Tensor]) -> dict[str, object]:
        """Whether the matrices are separate, positions a table of their own, and the output without a bias."""
        plain = plain_names(state)
        body = embeddings(plain)
        return {
            **({} if LOGITS_BIAS in plain else {"output_bias": False}),
            **({"positions": "learned"} if POSITION in body else {}),
            **({"shared_embeddings": False} if TARGET_TOKEN in body else {}),
            **({"tie_word_embeddings": False} if OUTPUT in body else {}),
        }

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the model's under our names, no heads). Raises WeightsError where a part of a fused one is
        missing."""
        plain = plain_names(state)
        body, parts = embeddings(plain), StateDict()
        for name, tensor in plain.items():
            match = THEIR_LAYER.match(name)
            if name == LOGITS_BIAS:
                body[BIAS] = tensor.flatten()
            elif norm := FINAL_NORMS.match(name):
                body[f"{norm[1]}.final_norm.{norm[2]}"] = tensor
            elif match is not None:
                stack, layer, part, suffix = match.groups()
                parts[f"{stack}.layers.{layer}.{part}.{suffix}"] = tensor
            elif name not in (SHARED, SOURCE_TOKENS, TARGET_TOKENS, LM_HEAD, *TABLES):
                body[name] = tensor  # unknown: named as unexpected when it is loaded into the model
        return {**body, **fuse(parts)}, {}

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our tensors -> theirs. Raises WeightsError for a model with parts that Marian has not."""
        parts = {ours: theirs for theirs, ours in PARTS.items()}
        names = {SHARED: TOKEN} if TARGET_TOKEN not in body else {SOURCE_TOKENS: TOKEN, TARGET_TOKENS: TARGET_TOKEN}
        if POSITION in body:
            names |= {TABLES[0]: POSITION, TABLES[1]: POSITION if TARGET_TOKEN not in body else TARGET_POSITION}
        state: StateDict = {f"model.{theirs}": body[ours].clone() for theirs, ours in names.items()}
        if OUTPUT in body:
            state[LM_HEAD] = body[OUTPUT]
        bias = body.get(BIAS)
        state[LOGITS_BIAS] = (body[TOKEN].new_zeros(len(body[TOKEN])) if bias is None else bias)[None]
        for name, tensor in body.items():
            if name in (TOKEN, TARGET_TOKEN, OUTPUT, BIAS, POSITION, TARGET_POSITION):
                continue
            match = OUR_LAYER.match(name)
            if norm := OUR_FINAL_NORMS.match(name):
                state[f"model.{norm[1]}.layer_norm.{norm[2]}"] = tensor
                continue
            if match is None or match[3] not in {*parts, *FUSED}:
                raise WeightsError(f"{name}: Marian's layout has no place for it")
            stack, layer, part, suffix = match.groups()
            theirs_of_part = FUSED.get(part) or (parts[part],)
            for theirs, chunk in zip(theirs_of_part, tensor.chunk(len(theirs_of_part)), strict=True):
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
        if sizes.get("positions", "sinusoidal") == "sinusoidal" and sizes.get("sinusoid", "interleaved") != "halves":
            raise WeightsError("model.sinusoid: Marian's sinusoids are in halves, this model's are interleaved")
        if sizes.get("norm", "post") == "pre":
            raise WeightsError("model.norm=pre: Marian in transformers is post-norm, whatever its config.json says")
        activations = {**preferred(ACTIVATIONS), "gelu_tanh": "gelu_new"}
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
            "normalize_before": False,
            "add_final_layer_norm": False,
            "static_position_embeddings": sizes.get("positions", "sinusoidal") == "sinusoidal",
            "share_encoder_decoder_embeddings": sizes.get("shared_embeddings", True),
            "tie_word_embeddings": sizes.get("tie_word_embeddings", True),
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
            files |= {
                **run.tokenizer.files,
                "tokenizer_config.json": marian_tokenizer_config(run.tokenizer, run.template, run.task, run.max_len),
            }
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


def _check_architecture(values: Values, config: HfConfig) -> None:
    """Raise WeightsError for another model type, and for parts that the model here has in one form alone."""
    if values.text("model_type") != "marian":
        raise WeightsError(f"{values.origin} says model_type {values.text('model_type')!r}; this model reads 'marian'")
    for name, usual in FIXED_CONFIG.items():
        if values.flag(name, usual) != usual:
            raise WeightsError(f"{values.origin}: {name}={config[name]}; this model is the one with {usual}")
    values.require(*REQUIRED)
    for name in ("attention_heads", "ffn_dim"):
        encoder = values.whole(f"encoder_{name}")
        decoder = values.whole(f"decoder_{name}", encoder)
        if encoder != decoder:
            raise WeightsError(
                f"{values.origin}: encoder_{name}={encoder} and decoder_{name}={decoder} differ; they must be equal"
            )
