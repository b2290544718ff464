"""BERT's Hugging Face format (`google-bert/*`), in both directions.

Names of tensors, theirs -> ours (L is a layer's number; "bert." in front of theirs may be missing, or be another name, such as
that of a module around the model):

    embeddings.word_embeddings                  -> embeddings.token        (vocab, d_model)
    embeddings.position_embeddings              -> embeddings.position     (max_seq_len, d_model)
    embeddings.token_type_embeddings            -> embeddings.segment      (n_segments, d_model)
    embeddings.LayerNorm                        -> embeddings.norm
    encoder.layer.L.attention.self.query|key|value
                                                -> stack.layers.L.attention.qkv, one below the other (3 d_model, d_model)
    encoder.layer.L.attention.output.dense      -> stack.layers.L.attention.output
    encoder.layer.L.attention.output.LayerNorm  -> stack.layers.L.attention_norm
    encoder.layer.L.intermediate.dense          -> stack.layers.L.feed_forward.inner   (d_ff, d_model)
    encoder.layer.L.output.dense                -> stack.layers.L.feed_forward.outer   (d_model, d_ff)
    encoder.layer.L.output.LayerNorm            -> stack.layers.L.feed_forward_norm
    pooler.dense                                -> pooler.dense

Old files say gamma and beta for a norm's weight and bias. Heads stay apart from the body, since a task may share them or not.
A masked-LM head stores its bias under one or two names, and its matrix where that is not the embedding.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.json_files import Values
from protoformer.models.hf.labels import label_config, label_words
from protoformer.models.hf.layout import (
    ACTIVATIONS,
    BuilderArguments,
    CompanionFiles,
    ExportedRun,
    HeadLayout,
    PublishedLayout,
    concatenated,
    plain_names,
    preferred,
)
from protoformer.models.hf.masked_lm import BIAS, OTHER_BIAS, OUTPUT, is_untied, resolve_copies
from protoformer.models.hf.tokenizer_files import tokenizer_files
from protoformer.models.weights import HfConfig, StateDict

SIZES = {  # theirs -> ours
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "d_ff",
    "max_position_embeddings": "max_seq_len",
    "type_vocab_size": "n_segments",
    "layer_norm_eps": "norm_eps",
}
REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
OTHER_MODELS = ("is_decoder", "add_cross_attention", "is_encoder_decoder")  # with one of them it is no encoder
PARTS = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "pooler.dense": "pooler.dense",
}
LAYER = {
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.outer",
    "output.LayerNorm": "feed_forward_norm",
}
QKV = ("query", "key", "value")
HEAD_PREFIXES = ("cls.", "classifier.", "qa_outputs.")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # of old files


@dataclass(frozen=True)
class BertWeights(PublishedLayout):
    """BERT's layout (a `WeightsLayout`). Encoders of the same build that differ in names and heads may subclass it."""

    model_type: ClassVar[str] = "bert"
    class_prefix: ClassVar[str] = "Bert"  # of the classes in `transformers`
    size_names: ClassVar[Mapping[str, str]] = SIZES
    part_names: ClassVar[Mapping[str, str]] = PARTS  # of all but the layers
    head_prefixes: ClassVar[tuple[str, ...]] = HEAD_PREFIXES
    optional_prefixes: ClassVar[tuple[str, ...]] = ("pooler.",)  # `transformers` gives a masked LM no pooler
    not_in_config: ClassVar[frozenset[str]] = frozenset({"dropout", "attention_dropout", "init_std", "packing"})
    output_name: ClassVar[str] = OUTPUT  # where the output matrix is not the embedding
    heads: ClassVar[Mapping[str, HeadLayout]] = {
        "classification": HeadLayout("ForSequenceClassification", {"linear": "classifier"}, labelled=True),
        "multiple_choice": HeadLayout("ForMultipleChoice", {"linear": "classifier"}, ambiguous=True),
        "span": HeadLayout("ForQuestionAnswering", {"linear": "qa_outputs"}),
        "pretraining": HeadLayout(
            "ForPreTraining",
            {
                "masked.transform": "cls.predictions.transform.dense",
                "masked.norm": "cls.predictions.transform.LayerNorm",
                "masked": "cls.predictions",  # its bias, (vocab,); the matrix is the embedding's
                "next.linear": "cls.seq_relationship",
            },
            partial="ForMaskedLM",
            untied={"masked.decoder": "cls.predictions.decoder"},
        ),
    }

    def sizes(self, config: HfConfig) -> BuilderArguments:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""
        values = Values(config)
        model_type = values.text("model_type", "bert")
        if model_type != self.model_type:
            raise WeightsError(f"{values.origin} says model_type {model_type!r}; this model reads {self.model_type!r}")
        if values.text("position_embedding_type", "absolute") != "absolute":
            raise WeightsError(f"{values.origin} asks for relative positions; BERT's are absolute")
        for name in OTHER_MODELS:
            if values.flag(name, False):
                raise WeightsError(f"{values.origin}: {name}=true is a left-to-right decoder; this model is an encoder")
        values.require(*REQUIRED)
        sizes: BuilderArguments = {
            ours: values.number(theirs, 1e-12) if ours == "norm_eps" else values.whole(theirs)
            for theirs, ours in self.size_names.items()
            if values.get(theirs) is not None
        }
        if "n_heads" in sizes and sizes["d_model"] % sizes["n_heads"]:
            raise WeightsError(
                f"{values.origin}: hidden_size={sizes['d_model']} is not a multiple of "
                f"num_attention_heads={sizes['n_heads']}"
            )
        return {**sizes, "activation": values.choice("hidden_act", ACTIVATIONS, "gelu")}

    def sizes_of_tensors(self, state: Mapping[str, Tensor]) -> BuilderArguments:
        """`tie_word_embeddings` false where the masked-LM head has a matrix of its own."""
        return {"tie_word_embeddings": False} if is_untied(plain_names(state, *self._prefixes)) else {}

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return (f"{self.model_type}.", "bert.")

    def hf_config(
        self,
        task_type: str,
        sizes: BuilderArguments,
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> HfConfig:
        """A `config.json` that `transformers` opens as the class for this task type (a classifier without labels: a regressor).

        `head` names the head's tensors, where some may be missing (pretraining without next sentences). Raises WeightsError
        for a task type without a head in `transformers`.
        """
        layout = self._head_layout(task_type, module_head)
        missing = head and layout.parts.keys() - {name.rpartition(".")[0] for name in head}
        theirs = {theirs: sizes[ours] for theirs, ours in self.size_names.items() if ours in sizes}
        activations = preferred(ACTIVATIONS)
        dropout = sizes.get("dropout", 0.1)
        attention_dropout = sizes.get("attention_dropout")
        return {
            "architectures": [
                self.class_prefix + (layout.partial if missing and layout.partial else layout.model_class)
            ],
            "model_type": self.model_type,
            **theirs,
            "hidden_act": activations[sizes.get("activation", "gelu")],
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout if attention_dropout is None else attention_dropout,
            **(label_config(labels) if layout.labelled else {}),
            "tie_word_embeddings": sizes.get("tie_word_embeddings", True),
            "initializer_range": 0.02,
            "pad_token_id": 0,
        }

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the encoder's under our names, heads under theirs). Raises WeightsError where one of query, key
        and value is missing."""
        body: StateDict = {}
        heads: StateDict = {}
        fused: dict[str, dict[str, Tensor]] = {}  # our qkv's name -> its three parts
        for name, tensor in plain_names(state, *self._prefixes).items():
            stem, _, suffix = name.rpartition(".")  # suffix: weight or bias
            suffix = {"gamma": "weight", "beta": "bias"}.get(suffix, suffix)
            key = f"{stem}.{suffix}"
            if key in BUFFERS:
                continue
            if key.startswith(self.head_prefixes):
                heads[key] = tensor
            elif stem in self.part_names:
                body[f"{self.part_names[stem]}.{suffix}"] = tensor
            elif stem.startswith("encoder.layer."):
                layer, _, part = stem.removeprefix("encoder.layer.").partition(".")
                parent, _, projection = part.rpartition(".")
                if parent == "attention.self" and projection in QKV:
                    fused.setdefault(f"stack.layers.{layer}.attention.qkv.{suffix}", {})[projection] = tensor
                else:
                    body[f"stack.layers.{layer}.{LAYER.get(part, part)}.{suffix}"] = tensor
            else:
                body[key] = tensor  # unknown: named as unexpected when it is loaded into the model
        for name, parts in fused.items():
            if missing := [projection for projection in QKV if projection not in parts]:
                raise WeightsError(f"missing: the {' and '.join(missing)} part of {name}")
            body[name] = concatenated(name, [parts[projection] for projection in QKV])
        resolve_copies(body, heads)
        return body, heads

    def head_from_hf(
        self,
        task_type: str,
        heads: Mapping[str, Tensor],
        config: HfConfig,
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """The tensors of a task type's head under our names; empty where the file has none.

        A classifier and a multiple-choice head look alike: the file's `architectures` tells them apart.
        """
        layout = self.heads.get(task_type, module_head)
        if layout is None:
            return {}
        architectures = Values(config).texts("architectures")
        # a file of pretraining heads may be a start for any task: its class rules no other head out
        others = {self.class_prefix + head.model_class for head in self.heads.values() if head.partial is None}
        model_class = self.class_prefix + layout.model_class
        if (others - {model_class}) & set(architectures) or (layout.ambiguous and model_class not in architectures):
            return {}
        ours = {theirs: ours for ours, theirs in {**layout.parts, **layout.untied}.items()}
        state: StateDict = {}
        for name, tensor in heads.items():
            stem, _, suffix = name.rpartition(".")
            if stem in ours:
                state[f"{ours[stem]}.{suffix}"] = tensor
        return state

    def labels(self, task_type: str, config: HfConfig, module_head: HeadLayout | None = None) -> list[str] | None:
        """The names of a classifier's labels in order; None for other heads, and for regression: one label, or
        `problem_type` says so.

        `transformers` leaves its default out of the file: two labels, LABEL_0 and LABEL_1.
        """
        layout = self.heads.get(task_type, module_head)
        if layout is None or not layout.labelled:
            return None
        return label_words(config)

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our encoder's and head's tensors -> theirs, with the prefix that models with heads carry ("bert.")."""
        layout = self._head_layout(task_type, module_head)
        embeddings = {ours: theirs for theirs, ours in self.part_names.items()}
        layers = {ours: theirs for theirs, ours in LAYER.items()}
        parts = {**layout.parts, **layout.untied}
        state: StateDict = {}
        for name, tensor in body.items():
            stem, _, suffix = name.rpartition(".")
            if stem in embeddings:
                state[f"{self.model_type}.{embeddings[stem]}.{suffix}"] = tensor
                continue
            layer, _, part = stem.removeprefix("stack.layers.").partition(".")
            prefix = f"{self.model_type}.encoder.layer.{layer}"
            if part == "attention.qkv":
                for projection, chunk in zip(QKV, tensor.chunk(3), strict=True):
                    state[f"{prefix}.attention.self.{projection}.{suffix}"] = chunk.clone()
            else:
                state[f"{prefix}.{layers[part]}.{suffix}"] = tensor
        for name, tensor in head.items():
            stem, _, suffix = name.rpartition(".")
            state[f"{parts[stem]}.{suffix}"] = tensor
        if OUTPUT in state:  # then transformers does not tie the bias either
            state[OTHER_BIAS] = state[BIAS].clone()
        return state

    def companion_files(self, run: ExportedRun, config: HfConfig) -> CompanionFiles:
        """The tokenizer, which puts [CLS] and [SEP] around texts."""
        return tokenizer_files(run.tokenizer, run.max_len)

    def _head_layout(self, task_type: str, module_head: HeadLayout | None) -> HeadLayout:
        layout = self.heads.get(task_type, module_head)
        if layout is None:
            raise WeightsError(
                f"{self.model_type}: a run of kind {task_type} has no counterpart in transformers; those "
                f"of {', '.join(self.heads)} have"
            )
        return layout
