"""The Hugging Face formats of GPT (`openai-community/openai-gpt`) and GPT-2, in both directions.

Names of tensors, theirs -> ours (L is a layer's number; "transformer." in front of theirs may be missing, or be another name):

    tokens_embed (GPT), wte (GPT-2)     -> embeddings.token       (vocab, d_model)
    positions_embed (GPT), wpe (GPT-2)  -> embeddings.position    (max_seq_len, d_model)
    h.L.attn.c_attn                     -> stack.layers.L.attention.qkv        transposed, (3 d_model, d_model)
    h.L.attn.c_proj                     -> stack.layers.L.attention.output     transposed
    h.L.ln_1                            -> stack.layers.L.attention_norm
    h.L.mlp.c_fc                        -> stack.layers.L.feed_forward.inner   transposed, (d_ff, d_model)
    h.L.mlp.c_proj                      -> stack.layers.L.feed_forward.outer   transposed, (d_model, d_ff)
    h.L.ln_2                            -> stack.layers.L.feed_forward_norm
    ln_f (GPT-2)                        -> stack.final_norm
    lm_head                             -> output                 (vocab, d_model), where it is not the token embedding

Their linear maps are stored as `Conv1D`, the transpose of torch's; files of minGPT and nanoGPT, which store torch's own, are
known by the shape of c_attn. Masks that old files carry as buffers are left out.
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
    same_tensor,
)
from protoformer.models.hf.tokenizer_files import tokenizer_files
from protoformer.models.weights import HfConfig, StateDict

BUFFERS = re.compile(r"(h\.\d+\.attn\.(bias|masked_bias)|position_ids)$")
LAYER = {
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.output",
    "ln_1": "attention_norm",
    "mlp.c_fc": "feed_forward.inner",
    "mlp.c_proj": "feed_forward.outer",
    "ln_2": "feed_forward_norm",
}
HEAD_PARTS = ("score", "multiple_choice_head.summary")
TOKEN, OUTPUT = "embeddings.token.weight", "output.weight"  # ours
FIXED_CONFIG = {  # with another value it is another model
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
}
TRANSPOSED = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@dataclass(frozen=True)
class GptWeights(TiedOutputLayout):
    """GPT's layout (a `WeightsLayout`)."""

    model_type: ClassVar[str] = "openai-gpt"
    class_prefix: ClassVar[str] = "OpenAIGPT"  # of the classes in `transformers`
    output_name: ClassVar[str] = "lm_head.weight"  # where it is not the embedding
    # the other heads of `transformers` have no bias and read another token than ours
    heads: ClassVar[Mapping[str, HeadLayout]] = {"causal_lm": HeadLayout("LMHeadModel")}
    not_in_config: ClassVar[frozenset[str]] = frozenset(
        {"dropout", "attention_dropout", "embedding_dropout", "init_std", "position_std", "scaled_residuals", "packing"}
    )
    activation_key: ClassVar[str] = "afn"
    fixed_d_ff: ClassVar[bool] = True  # 4 d_model; config.json has no key for another one
    norm: ClassVar[str] = "post"
    # GPT's code means the tanh form by `gelu`
    activations: ClassVar[Mapping[str, str]] = {
        "gelu": "gelu_tanh",
        **{name: ours for name, ours in ACTIVATIONS.items() if ours != "gelu"},
    }
    size_names: ClassVar[Mapping[str, str]] = {
        "n_embd": "d_model",
        "n_layer": "n_layers",
        "n_head": "n_heads",
        "n_inner": "d_ff",
        "n_positions": "max_seq_len",
    }
    embeddings: ClassVar[Mapping[str, str]] = {
        "tokens_embed": "embeddings.token",
        "positions_embed": "embeddings.position",
    }

    def sizes(self, config: HfConfig) -> BuilderArguments:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""
        values = Values(config)
        if values.text("model_type") != self.model_type:
            raise WeightsError(
                f"{values.origin} says model_type {values.text('model_type')!r}; this model reads {self.model_type!r}"
            )
        for name, usual in FIXED_CONFIG.items():
            if values.flag(name, usual) != usual:
                raise WeightsError(f"{values.origin}: {name}={config[name]} is not GPT's attention")
        values.require("n_embd", "n_layer", "n_head", "vocab_size")
        d_model, n_heads = values.whole("n_embd"), values.whole("n_head")
        if d_model % n_heads:
            raise WeightsError(f"{values.origin}: n_embd={d_model} is not a multiple of n_head={n_heads}")
        return {
            "vocab_size": values.whole("vocab_size"),
            "d_model": d_model,
            "n_layers": values.whole("n_layer"),
            "n_heads": n_heads,
            "d_ff": values.whole("n_inner", 4 * d_model),
            "max_seq_len": values.whole("n_positions", values.whole("n_ctx", 512)),
            "norm_eps": values.number("layer_norm_epsilon", 1e-5),
            "activation": values.choice(self.activation_key, self.activations, next(iter(self.activations))),
            "norm": self.norm,
        }

    def sizes_of_tensors(self, state: Mapping[str, Tensor]) -> dict[str, object]:
        """`tie_word_embeddings` false where the output matrix is not the embedding."""
        plain = plain_names(state)
        token = plain.get(
            next(theirs for theirs, ours in self.embeddings.items() if f"{ours}.weight" == TOKEN) + ".weight"
        )
        output = plain.get("lm_head.weight")
        untied = output is not None and token is not None and not same_tensor(output, token)
        return {"tie_word_embeddings": False} if untied else {}

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the decoder's under our names, heads under theirs).

        An output matrix that equals the embedding is left out.
        """
        body: StateDict = {}
        heads: StateDict = {}
        plain = plain_names(state)
        transposed = () if _is_torch_linear(plain) else TRANSPOSED
        for key, tensor in plain.items():
            stem, _, suffix = key.rpartition(".")  # suffix: weight or bias
            if BUFFERS.search(key):
                continue
            if stem in self.embeddings:
                body[f"{self.embeddings[stem]}.{suffix}"] = tensor
            elif stem.startswith("h."):
                layer, _, part = stem.removeprefix("h.").partition(".")
                ours = (
                    tensor.T.contiguous() if part in transposed and suffix == "weight" and tensor.ndim == 2 else tensor
                )
                body[f"stack.layers.{layer}.{LAYER.get(part, part)}.{suffix}"] = ours
            elif stem in HEAD_PARTS:
                heads[key] = tensor
            else:
                body["output.weight" if key == "lm_head.weight" else key] = tensor  # unknown: named as unexpected later
        if OUTPUT in body and (TOKEN not in body or same_tensor(body[TOKEN], body[OUTPUT])):
            body[TOKEN] = body.pop(OUTPUT)
        return body, heads

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our decoder's tensors -> theirs, with the prefix that models with heads carry."""
        embeddings = {ours: theirs for theirs, ours in self.embeddings.items()}
        layers = {ours: theirs for theirs, ours in LAYER.items()}
        state: StateDict = {}
        for name, tensor in body.items():
            stem, _, suffix = name.rpartition(".")
            if stem in embeddings:
                state[f"transformer.{embeddings[stem]}.{suffix}"] = tensor
                continue
            if name == OUTPUT:
                state["lm_head.weight"] = tensor
                continue
            layer, _, part = stem.removeprefix("stack.layers.").partition(".")
            theirs = tensor.T.contiguous() if layers[part] in TRANSPOSED and suffix == "weight" else tensor
            state[f"transformer.h.{layer}.{layers[part]}.{suffix}"] = theirs
        return state

    def special_token_ids(self, template: Any) -> dict[str, int]:
        """The token that closes a document of the run's corpus; without it `transformers` takes the published vocabulary's."""
        return {"bos_token_id": template.end_of_text_id, "eos_token_id": template.end_of_text_id}

    def companion_files(self, run: ExportedRun, config: HfConfig) -> CompanionFiles:
        """The tokenizer."""
        return tokenizer_files(run.tokenizer, run.max_len)

    def hf_config(
        self,
        task_type: str,
        sizes: BuilderArguments,
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> HfConfig:
        """A `config.json` that `transformers` opens as the language model of this family.

        Raises WeightsError for a size, or a task type, that it cannot express.
        """
        if task_type not in self.heads:
            raise WeightsError(
                f"{self.model_type}: a run of kind {task_type} has no counterpart in transformers, whose heads for it have no "
                "bias and read another token; a language model (task=pretrain/clm) has"
            )
        if self.fixed_d_ff and sizes["d_ff"] != 4 * sizes["d_model"]:
            raise WeightsError(f"d_ff={sizes['d_ff']}: {self.model_type} has no other than 4 x d_model")
        dropout = sizes.get("dropout", 0.1)
        attention_dropout, embedding_dropout = sizes.get("attention_dropout"), sizes.get("embedding_dropout")
        activations = preferred(self.activations)
        return {
            "architectures": [self.class_prefix + self.heads[task_type].model_class],
            "model_type": self.model_type,
            "vocab_size": sizes["vocab_size"],
            "n_embd": sizes["d_model"],
            "n_layer": sizes["n_layers"],
            "n_head": sizes["n_heads"],
            **({} if self.fixed_d_ff else {"n_inner": sizes["d_ff"]}),
            "n_positions": sizes["max_seq_len"],
            "layer_norm_epsilon": sizes.get("norm_eps", 1e-5),
            self.activation_key: activations[sizes.get("activation", "gelu_tanh")],
            "resid_pdrop": dropout,
            "attn_pdrop": dropout if attention_dropout is None else attention_dropout,
            "embd_pdrop": dropout if embedding_dropout is None else embedding_dropout,
            "tie_word_embeddings": sizes.get("tie_word_embeddings", True),
            "initializer_range": sizes.get("init_std", 0.02),
        }


def _is_torch_linear(plain: Mapping[str, Tensor]) -> bool:
    """Whether linear maps are stored as (outputs, inputs): c_attn has three times as many outputs as inputs."""
    shape = next((tensor.shape for name, tensor in plain.items() if name.endswith("attn.c_attn.weight")), None)
    return shape is not None and len(shape) == 2 and shape[0] == 3 * shape[1]


@dataclass(frozen=True)
class Gpt2Weights(GptWeights):
    """GPT-2's layout, which GPT-3's sizes share."""

    model_type: ClassVar[str] = "gpt2"
    class_prefix: ClassVar[str] = "GPT2"
    fixed_d_ff: ClassVar[bool] = False
    norm: ClassVar[str] = "pre"
    activation_key: ClassVar[str] = "activation_function"
    activations: ClassVar[Mapping[str, str]] = {"gelu_new": "gelu_tanh", **ACTIVATIONS}
    embeddings: ClassVar[Mapping[str, str]] = {
        "wte": "embeddings.token",
        "wpe": "embeddings.position",
        "ln_f": "stack.final_norm",
    }
