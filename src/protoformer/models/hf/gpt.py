"""GPT and GPT-2 as Hugging Face lays them out, and the way there and back.

Their linear maps are stored as `Conv1D`, the transpose of torch's; queries, keys and values are one matrix, as ours are.
The output layer is the token embedding, and old files carry masks as buffers: neither is a weight of its own.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.weights import State

BUFFERS = re.compile(r"(h\.\d+\.attn\.(bias|masked_bias)|position_ids)$")
LAYER = {
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.output",
    "ln_1": "attention_norm",
    "mlp.c_fc": "feed_forward.inner",
    "mlp.c_proj": "feed_forward.outer",
    "ln_2": "feed_forward_norm",
}
HEADS = ("lm_head", "score", "multiple_choice_head.summary")
TRANSPOSED = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@dataclass(frozen=True)
class GptWeights:
    """GPT's layout; `repo` and `revision` say where the published weights lie (revision null: the newest, recorded)."""

    repo: str | None = None
    revision: str | None = None
    optional: ClassVar[tuple[str, ...]] = ()
    model_type: ClassVar[str] = "openai-gpt"
    architecture: ClassVar[str] = "OpenAIGPTLMHeadModel"
    activation_word: ClassVar[str] = "afn"
    free_d_ff: ClassVar[bool] = False
    norm: ClassVar[str] = "post"
    # its code means the tanh form by `gelu`
    activations: ClassVar[Mapping[str, str]] = {"gelu": "gelu_tanh", "relu": "relu"}
    parts: ClassVar[Mapping[str, str]] = {"tokens_embed": "embeddings.token", "positions_embed": "embeddings.position"}

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Builder arguments that a `config.json` fixes. Raises WeightsError on another architecture."""
        if config.get("model_type") != self.model_type:
            raise WeightsError(
                f"config.json says model_type {config.get('model_type')!r}; this model reads {self.model_type!r}"
            )
        for word, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
            if config.get(word, usual) != usual:
                raise WeightsError(f"config.json: {word}={config[word]} is not GPT's attention")
        words = ("n_embd", "n_layer", "n_head", "vocab_size")
        if lacking := [word for word in words if word not in config]:
            raise WeightsError(f"config.json lacks {', '.join(lacking)}")
        activation = config.get(self.activation_word, next(iter(self.activations)))
        if activation not in self.activations:
            raise WeightsError(
                f"config.json: {self.activation_word} {activation!r}; known are {', '.join(self.activations)}"
            )
        return {
            "vocab_size": config["vocab_size"],
            "d_model": config["n_embd"],
            "n_layers": config["n_layer"],
            "n_heads": config["n_head"],
            "d_ff": config.get("n_inner") or 4 * config["n_embd"],
            "max_seq_len": config.get("n_positions") or config.get("n_ctx") or 512,
            "norm_eps": config.get("layer_norm_epsilon", 1e-5),
            "activation": self.activations[activation],
            "norm": self.norm,
        }

    def read(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """Their tensors -> (ours for the decoder, heads under their own names)."""
        body: State = {}
        heads: State = {}
        for name, tensor in state.items():
            key = name.removeprefix("transformer.")
            stem, _, end = key.rpartition(".")
            if BUFFERS.search(key):
                continue
            if stem in self.parts:
                body[f"{self.parts[stem]}.{end}"] = tensor
            elif stem.startswith("h."):
                number, _, part = stem.removeprefix("h.").partition(".")
                turned = tensor.T.contiguous() if part in TRANSPOSED and end == "weight" else tensor
                body[f"stack.layers.{number}.{LAYER.get(part, part)}.{end}"] = turned
            elif stem in HEADS:
                heads[key] = tensor
            else:
                body[key] = tensor  # unknown to us: named as unexpected when it is put into the model
        token = body.get("embeddings.token.weight")
        output = heads.pop("lm_head.weight", None)
        if output is not None and token is not None and not (output.shape == token.shape and output.equal(token)):
            raise WeightsError("lm_head.weight is not the token embedding; GPT's output layer is")
        return body, heads

    def head(self, kind: str, heads: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
        """None: the task heads of `transformers` have no bias and read another token than ours."""
        return {}

    def labels(self, config: Mapping[str, Any]) -> list[str] | None:
        """None, as there is no head whose labels they could be."""
        return None

    def write(self, kind: str, body: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> State:
        """Our decoder's tensors -> theirs, with the prefix that models with heads carry."""
        back = {ours: theirs for theirs, ours in self.parts.items()}
        layers = {ours: theirs for theirs, ours in LAYER.items()}
        state: State = {}
        for name, tensor in body.items():
            stem, _, end = name.rpartition(".")
            if stem in back:
                state[f"transformer.{back[stem]}.{end}"] = tensor
                continue
            number, _, part = stem.removeprefix("stack.layers.").partition(".")
            theirs = layers[part]
            turned = tensor.T.contiguous() if theirs in TRANSPOSED and end == "weight" else tensor
            state[f"transformer.h.{number}.{theirs}.{end}"] = turned
        return state

    def config(
        self, kind: str, sizes: Mapping[str, Any], labels: list[str] | None = None, head: Collection[str] = ()
    ) -> dict[str, Any]:
        """A `config.json` that `transformers` opens as the language model of this family.

        Raises WeightsError for a size, or a kind of task, that it cannot say.
        """
        if kind != "causal_lm":
            raise WeightsError(
                f"{self.model_type}: a run of kind {kind} has no counterpart in transformers, whose heads for it have no bias "
                "and read another token; a language model (task=pretrain/clm) has"
            )
        if not self.free_d_ff and sizes["d_ff"] != 4 * sizes["d_model"]:
            raise WeightsError(f"d_ff={sizes['d_ff']}: {self.model_type} knows no other than 4 x d_model")
        dropout = sizes.get("dropout", 0.1)
        share, embedding = sizes.get("attention_dropout"), sizes.get("embedding_dropout")
        back = {ours: theirs for theirs, ours in self.activations.items()}
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "vocab_size": sizes["vocab_size"],
            "n_embd": sizes["d_model"],
            "n_layer": sizes["n_layers"],
            "n_head": sizes["n_heads"],
            **({"n_inner": sizes["d_ff"]} if self.free_d_ff else {}),
            "n_positions": sizes["max_seq_len"],
            "layer_norm_epsilon": sizes.get("norm_eps", 1e-5),
            self.activation_word: back[sizes.get("activation", "gelu_tanh")],
            "resid_pdrop": dropout,
            "attn_pdrop": dropout if share is None else share,
            "embd_pdrop": dropout if embedding is None else embedding,
            "tie_word_embeddings": True,
            "initializer_range": sizes.get("init_std", 0.02),
        }


@dataclass(frozen=True)
class Gpt2Weights(GptWeights):
    """GPT-2's layout."""

    model_type: ClassVar[str] = "gpt2"
    architecture: ClassVar[str] = "GPT2LMHeadModel"
    free_d_ff: ClassVar[bool] = True
    norm: ClassVar[str] = "pre"
    activation_word: ClassVar[str] = "activation_function"
    activations: ClassVar[Mapping[str, str]] = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
    parts: ClassVar[Mapping[str, str]] = {
        "wte": "embeddings.token",
        "wpe": "embeddings.position",
        "ln_f": "stack.final_norm",
    }
