"""A family's Hugging Face format: names of tensors, sizes in `config.json`, heads, and the files around them.

A layout is a class that satisfies the Protocol `WeightsLayout`. A run names its layout in the model's yaml
(`model.hf: {_target_: ..., repo: ...}`), so a family may live outside of this package; a bare folder of weights finds its
layout by the `model_type` of its `config.json` in `models.hf.FAMILIES`.

"Their" names are those of `transformers`, "ours" those of this package. A state dict of ours is split in two: the body (the
model below the head, names without `backbone.`) and the head (names without `head.`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.weights import HfConfig, StateDict
from protoformer.text.encoder_decoder.translation_template import TranslationTemplate
from protoformer.text.templates import InputTemplate
from protoformer.text.tokenizers import Tokenizer

BuilderArguments = dict[str, Any]  # keyword arguments of a model's builder (`d_model`, `n_layers`, ...)
CompanionFiles = dict[str, Mapping[str, Any] | bytes]  # files beside the weights by name; mappings become JSON

# names of `transformers` -> ours, the preferred one of each first; `quick_gelu` and `gelu_10` are other functions
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
    "swish": "swish",
    "silu": "swish",
}
WRAPPERS = (
    "module.",
    "_orig_mod.",
    "base_model.",
    "model.",
    "transformer.",
)  # modules around a model when it was saved


def preferred(names: Mapping[str, str]) -> dict[str, str]:
    """Ours -> theirs, the first of several."""
    return {ours: theirs for theirs, ours in reversed(list(names.items()))}


def plain_names(state: Mapping[str, Tensor], *own: str) -> StateDict:
    """Tensors under their names without those of the modules around the model: the family's `own` prefixes, and `WRAPPERS`.

    Raises WeightsError for two different tensors that get one name.
    """
    prefixes = (*own, *WRAPPERS)
    plain: StateDict = {}
    for name, tensor in state.items():
        key = name
        while key.startswith(prefixes):
            key = next(key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix))
        if key in plain and not same_tensor(plain[key], tensor):
            raise WeightsError(f"{key} is there twice (once as {name}), with different values")
        plain[key] = tensor
    return plain


def same_tensor(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.equal(b)


def concatenated(name: str, parts: Sequence[Tensor]) -> Tensor:
    """Tensors one below the other. Raises WeightsError where they do not fit together."""
    try:
        return torch.cat(list(parts))
    except (RuntimeError, TypeError):
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise WeightsError(f"mis-shaped: the parts of {name} are {shapes}") from None


@dataclass(frozen=True)
class HeadLayout:
    """How `transformers` names one head.

    `model_class` is the class that opens it, without the family's prefix ("ForSequenceClassification"); `parts` maps our
    parts of the head to theirs ({"linear": "classifier"}). A task module of a kind that a layout does not know may bring its
    own (`TaskModule.hf_head`).
    """

    model_class: str
    parts: Mapping[str, str] = field(default_factory=dict)
    partial: str | None = None  # the class that opens a head which lacks some of the parts
    untied: Mapping[str, str] = field(default_factory=dict)  # parts of a head whose output matrix is not the embedding
    labelled: bool = False  # config.json holds the words of its labels (id2label)
    ambiguous: bool = False  # its tensors look like another head's: a file has it only if `architectures` says so


@dataclass(frozen=True)
class ExportedRun:
    """What of a run a layout may need to write the files beside config.json and the weights."""

    tokenizer: Tokenizer
    template: Any  # the input template of the run's model
    sizes: BuilderArguments  # the builder's arguments
    max_len: int  # tokens, at which the run truncated
    task: Mapping[str, Any]  # the run's `task` node: columns, arguments of the task module


@runtime_checkable
class WeightsLayout(Protocol):
    """A family's Hugging Face format, in both directions. Every method raises WeightsError for what it cannot express."""

    model_type: ClassVar[str]
    """`model_type` in `config.json`."""

    heads: ClassVar[Mapping[str, HeadLayout]]
    """The heads that the format has, by task type (`task.kind`)."""

    optional_prefixes: ClassVar[tuple[str, ...]]
    """Prefixes of our parts that a file may lack as a whole ("pooler."); such a part keeps its fresh weights."""

    not_in_config: ClassVar[frozenset[str]]
    """Builder arguments that do not change the logits in evaluation: an export needs no counterpart of them."""

    @property
    def repo(self) -> str | None:
        """The repository of the published weights; None: there are none."""

    @property
    def revision(self) -> str | None:
        """The commit, tag or branch of `repo`; None: the newest."""

    def sizes(self, config: HfConfig) -> BuilderArguments:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""

    def sizes_of_tensors(self, state: Mapping[str, Tensor]) -> BuilderArguments:
        """Builder arguments that the tensors alone decide: `tie_word_embeddings` false for an output matrix of its own."""

    def hf_config(
        self,
        task_type: str,
        sizes: BuilderArguments,
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> HfConfig:
        """A `config.json` from builder arguments: `transformers` opens it as the class for this task type.

        `labels` are the names of a classifier's labels, `head` the names of the head's tensors, `module_head` the layout of a
        head that the format does not know itself.
        """

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the body under our names, heads still under theirs).

        What is unknown is handed through, and named as unexpected when it is loaded into the model.
        """

    def head_from_hf(
        self,
        task_type: str,
        heads: Mapping[str, Tensor],
        config: HfConfig,
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """The head of a task type under our names; empty where the file has none."""

    def labels(self, task_type: str, config: HfConfig, module_head: HeadLayout | None = None) -> list[str] | None:
        """The names of a classifier's labels in order; None for a regression and for heads without labels."""

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our tensors -> theirs, under the names of the class that `hf_config` names."""

    def special_token_ids(self, template: object) -> dict[str, int]:
        """Ids in `config.json` that the run's template decides (`eos_token_id`, ...); empty: those of `hf_config` stand."""

    def companion_files(self, run: ExportedRun, config: HfConfig) -> CompanionFiles:
        """The files beside `config.json` and the weights, by name: tokenizer, generation settings."""


@dataclass(frozen=True)
class PublishedLayout:
    """Base of layouts: the repository of published weights (None: there are none), and its revision (None: the newest)."""

    repo: str | None = None
    revision: str | None = None
    optional_prefixes: ClassVar[tuple[str, ...]] = ()

    def sizes_of_tensors(self, state: Mapping[str, Tensor]) -> BuilderArguments:
        """None: `config.json` says all."""
        return {}

    def special_token_ids(self, template: object) -> dict[str, int]:
        """Empty: the model writes no text."""
        return {}


@dataclass(frozen=True)
class TiedOutputLayout(PublishedLayout):
    """A family whose output layer is the token embedding, and whose task heads in `transformers`, if any, differ from ours."""

    def head_from_hf(
        self,
        task_type: str,
        heads: Mapping[str, Tensor],
        config: HfConfig,
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Empty: the embedding belongs to the body."""
        return {}

    def labels(self, task_type: str, config: HfConfig, module_head: HeadLayout | None = None) -> list[str] | None:
        """None: there is no classifier."""
        return None


@dataclass(frozen=True)
class Family:
    """How a bare folder of weights is opened: sizes by `layout`, the model by `builder`, texts by `template`."""

    builder: Callable[..., Backbone | EncoderDecoder]
    layout: Callable[[], WeightsLayout]
    template: Callable[[Tokenizer], InputTemplate | TranslationTemplate]
    architecture: Literal["encoder", "decoder", "encoder_decoder"]
