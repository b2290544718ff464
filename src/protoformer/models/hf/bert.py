"""BERT as Hugging Face lays it out, and the way there and back.

A reader is named by the model's yaml. It translates sizes (config.json) and tensors; heads are kept apart, since a task
may share them or not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.weights import State

SIZES = {  # Hugging Face's word -> ours
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "d_ff",
    "max_position_embeddings": "max_seq_len",
    "type_vocab_size": "n_segments",
    "layer_norm_eps": "norm_eps",
}
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
EMBEDDINGS = {
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


@dataclass(frozen=True)
class HeadLayout:
    """How a kind's head is written: the class that opens it, and our parts -> theirs; `partial` opens one that lacks some."""

    architecture: str
    parts: Mapping[str, str]
    partial: str | None = None


HEADS = {  # by task kind
    "classification": HeadLayout("BertForSequenceClassification", {"linear": "classifier"}),
    "multiple_choice": HeadLayout("BertForMultipleChoice", {"linear": "classifier"}),
    "span": HeadLayout("BertForQuestionAnswering", {"linear": "qa_outputs"}),
    "pretraining": HeadLayout(
        "BertForPreTraining",
        {
            "masked.transform": "cls.predictions.transform.dense",
            "masked.norm": "cls.predictions.transform.LayerNorm",
            "masked": "cls.predictions",  # its bias, one a word; the matrix is the embedding's
            "next.linear": "cls.seq_relationship",
        },
        partial="BertForMaskedLM",
    ),
}
TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")  # copies of what stands elsewhere


@dataclass(frozen=True)
class BertWeights:
    """BERT's layout; `repo` and `revision` say where the published weights lie (revision null: the newest, recorded)."""

    repo: str | None = None
    revision: str | None = None
    # parts of ours that a file may lack as a whole: `transformers` gives a masked LM no pooler
    optional: ClassVar[tuple[str, ...]] = ("pooler.",)

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Builder arguments that a `config.json` fixes. Raises WeightsError on another architecture."""
        kind = config.get("model_type", "bert")
        if kind != "bert":
            raise WeightsError(f"config.json says model_type {kind!r}; this model reads 'bert'")
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise WeightsError("config.json asks for relative positions; BERT's are absolute")
        lacking = [word for word in ("hidden_size", "num_hidden_layers", "vocab_size") if word not in config]
        if lacking:
            raise WeightsError(f"config.json lacks {', '.join(lacking)}")
        sizes = {ours: config[theirs] for theirs, ours in SIZES.items() if theirs in config}
        activation = config.get("hidden_act", "gelu")
        if activation not in ACTIVATIONS:
            raise WeightsError(f"config.json: hidden_act {activation!r}; known are {', '.join(ACTIVATIONS)}")
        return {**sizes, "activation": ACTIVATIONS[activation]}

    def read(self, state: Mapping[str, Tensor]) -> tuple[State, State]:
        """Their tensors -> (ours for the encoder, heads under their own names)."""
        body: State = {}
        heads: State = {}
        fused: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            key = name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
            stem, _, end = key.rpartition(".")
            if key in TIED:
                continue
            if key.startswith(("cls.", "classifier.", "qa_outputs.")):
                heads[key] = tensor
            elif key == "embeddings.position_ids":  # a buffer that old files carry
                continue
            elif stem in EMBEDDINGS:
                body[f"{EMBEDDINGS[stem]}.{end}"] = tensor
            elif stem.startswith("encoder.layer."):
                number, _, part = stem.removeprefix("encoder.layer.").partition(".")
                head, _, which = part.rpartition(".")
                if head == "attention.self" and which in QKV:
                    fused.setdefault(f"stack.layers.{number}.attention.qkv.{end}", {})[which] = tensor
                else:
                    body[f"stack.layers.{number}.{LAYER.get(part, part)}.{end}"] = tensor
            else:
                body[key] = tensor  # unknown to us: named as unexpected when it is put into the model
        for name, parts in fused.items():
            if lacking := [which for which in QKV if which not in parts]:
                raise WeightsError(f"missing: the {' and '.join(lacking)} part of {name}")
            body[name] = torch.cat([parts[which] for which in QKV])
        return body, heads

    def head(self, kind: str, heads: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
        """The tensors of a kind's head under our names; empty where the file has none.

        A classifier and a multiple-choice head look alike: the file's `architectures` tells them apart.
        """
        layout, written = HEADS[kind], config.get("architectures") or []
        others = {head.architecture for name, head in HEADS.items() if name != kind} - {"BertForPreTraining"}
        if others & set(written) or (kind == "multiple_choice" and layout.architecture not in written):
            return {}
        back = {theirs: ours for ours, theirs in layout.parts.items()}
        state: State = {}
        for name, tensor in heads.items():
            stem, _, end = name.rpartition(".")
            if stem in back:
                state[f"{back[stem]}.{end}"] = tensor
        return state

    def labels(self, config: Mapping[str, Any]) -> list[str] | None:
        """Words of the classifier's labels, in order; None for regression: one label, or `problem_type` says so.

        `transformers` leaves its default out of the file: two labels, LABEL_0 and LABEL_1.
        """
        words = config.get("id2label") or {n: f"LABEL_{n}" for n in range(config.get("num_labels") or 2)}
        if len(words) == 1 or config.get("problem_type") == "regression":
            return None
        return [words[number] for number in sorted(words, key=int)]

    def write(self, kind: str, body: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> State:
        """Our encoder's and head's tensors -> theirs, with the prefix that models with heads carry."""
        back = {ours: theirs for theirs, ours in EMBEDDINGS.items()}
        layers = {ours: theirs for theirs, ours in LAYER.items()}
        state: State = {}
        for name, tensor in body.items():
            stem, _, end = name.rpartition(".")
            if stem in back:
                state[f"bert.{back[stem]}.{end}"] = tensor
                continue
            number, _, part = stem.removeprefix("stack.layers.").partition(".")
            prefix = f"bert.encoder.layer.{number}"
            if part == "attention.qkv":
                for which, piece in zip(QKV, tensor.chunk(3), strict=True):
                    state[f"{prefix}.attention.self.{which}.{end}"] = piece.clone()
            else:
                state[f"{prefix}.{layers[part]}.{end}"] = tensor
        for name, tensor in head.items():
            stem, _, end = name.rpartition(".")
            state[f"{HEADS[kind].parts[stem]}.{end}"] = tensor
        return state

    def config(
        self, kind: str, sizes: Mapping[str, Any], labels: list[str] | None = None, head: Collection[str] = ()
    ) -> dict[str, Any]:
        """A `config.json` that `transformers` opens as the class for this kind (a classifier without labels: a regressor).

        `head` names the head's tensors, where some may be lacking (pretraining without next sentences).
        """
        written = HEADS[kind]
        lacking = head and written.parts.keys() - {name.rpartition(".")[0] for name in head}
        theirs = {theirs: sizes[ours] for theirs, ours in SIZES.items() if ours in sizes}
        dropout = sizes.get("dropout", 0.1)
        share = sizes.get("attention_dropout")
        return {
            "architectures": [written.partial if lacking and written.partial else written.architecture],
            "model_type": "bert",
            **theirs,
            "hidden_act": {ours: name for name, ours in reversed(ACTIVATIONS.items())}[sizes.get("activation", "gelu")],
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout if share is None else share,
            **(self._labelled(labels) if kind == "classification" else {}),
            "tie_word_embeddings": True,
            "initializer_range": 0.02,
            "pad_token_id": 0,
        }

    def _labelled(self, labels: list[str] | None) -> dict[str, Any]:
        words = labels or ["score"]
        return {
            "id2label": {str(number): word for number, word in enumerate(words)},
            "label2id": {word: number for number, word in enumerate(words)},
            "problem_type": "single_label_classification" if labels else "regression",
        }
