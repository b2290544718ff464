"""What a family says of its Hugging Face template: names of tensors, sizes in `config.json`, heads, and the files around them.

A layout is a class that satisfies the Protocol `WeightsLayout`. A run names its layout in the model's yaml
(`model.hf: {_target_: ..., repo: ...}`), so a family may live outside of this package; a bare folder of weights finds its
layout by the `model_type` of its `config.json` in `models.hf.FAMILIES`.

"Their" names are those of `transformers`, "ours" those of this package. A state dict of ours is split in two: the body (the
model below the head, names without `backbone.`) and the head (names without `head.`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.weights import StateDict
from protoformer.text.tokenizers import Tokenizer


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
    labelled: bool = False  # config.json holds the words of its labels (id2label)
    ambiguous: bool = False  # its tensors look like another head's: a file has it only if `architectures` says so


@dataclass(frozen=True)
class ExportedRun:
    """What of a run a layout may need to write the files beside config.json and the weights."""

    tokenizer: Tokenizer
    template: Any  # the input template of the run's model
    sizes: Mapping[str, Any]  # the builder's arguments
    max_len: int  # tokens, at which the run truncated
    task: Mapping[str, Any]  # the run's `task` node: columns, arguments of the task module


class WeightsLayout(Protocol):
    """A family's Hugging Face template, in both directions. Every method raises WeightsError for what it cannot express."""

    model_type: ClassVar[str]
    """`model_type` in `config.json`."""

    heads: ClassVar[Mapping[str, HeadLayout]]
    """The heads that the template has, by task type (`task.kind`)."""

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

    def sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Builder arguments that a `config.json` fixes. Raises WeightsError for another architecture."""

    def hf_config(
        self,
        task_type: str,
        sizes: Mapping[str, Any],
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> dict[str, Any]:
        """A `config.json` from builder arguments: `transformers` opens it as the class for this task type.

        `labels` are the words of a classifier's labels, `head` the names of the head's tensors, `module_head` the layout of a
        head that the template does not know itself.
        """

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        """Their tensors -> (the body under our names, heads still under theirs).

        What is unknown is handed through, and named as unexpected when it is loaded into the model.
        """

    def head_from_hf(
        self,
        task_type: str,
        heads: Mapping[str, Tensor],
        config: Mapping[str, Any],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """The head of a task type under our names; empty where the file has none."""

    def labels(
        self, task_type: str, config: Mapping[str, Any], module_head: HeadLayout | None = None
    ) -> list[str] | None:
        """The words of a classifier's labels in order; None for a regression and for heads without labels."""

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        """Our tensors -> theirs, under the names of the class that `hf_config` names."""

    def special_token_ids(self, template: Any) -> dict[str, int]:
        """Ids in `config.json` that the run's template decides (`eos_token_id`, ...); empty: those of `hf_config` stand."""

    def companion_files(self, run: ExportedRun, config: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | bytes]:
        """The files beside `config.json` and the weights, by name: tokenizer, generation settings. Mappings become JSON."""


@dataclass(frozen=True)
class Family:
    """How a bare folder of weights is opened: sizes by `layout`, the model by `builder`, texts by `template`."""

    builder: Callable[..., Backbone | EncoderDecoder]
    layout: Callable[[], WeightsLayout]
    template: Callable[[Tokenizer], Any]
    architecture: Literal["encoder", "decoder", "encoder_decoder"]
