"""ELECTRA's Hugging Face format (`google/electra-*-discriminator`), in both directions.

Layers have BERT's names. Beside them, theirs -> ours:

    embeddings_project          -> embeddings.projection    (d_model, d_embedding)
    classifier.dense            -> pooler.dense             of ElectraForSequenceClassification
    sequence_summary.summary    -> pooler.dense             of ElectraForMultipleChoice

The published discriminators have no such layer: a task's pooler starts fresh.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from protoformer.models.hf.bert import PARTS, SIZES, BertWeights
from protoformer.models.hf.layout import HeadLayout
from protoformer.models.weights import StateDict

POOLERS = {  # class in `transformers` -> its pooler
    "ForSequenceClassification": "classifier.dense",
    "ForMultipleChoice": "sequence_summary.summary",
}


@dataclass(frozen=True)
class ElectraWeights(BertWeights):
    """ELECTRA's layout: BERT's with other names around the layers."""

    model_type: ClassVar[str] = "electra"
    class_prefix: ClassVar[str] = "Electra"
    size_names: ClassVar[Mapping[str, str]] = {
        **{theirs: ours for theirs, ours in SIZES.items() if theirs != "layer_norm_eps"},
        "embedding_size": "d_embedding",
    }
    part_names: ClassVar[Mapping[str, str]] = {**PARTS, "embeddings_project": "embeddings.projection"}
    head_prefixes: ClassVar[tuple[str, ...]] = (*BertWeights.head_prefixes, "discriminator_predictions.")
    heads: ClassVar[Mapping[str, HeadLayout]] = {
        "classification": HeadLayout("ForSequenceClassification", {"linear": "classifier.out_proj"}, labelled=True),
        "multiple_choice": HeadLayout("ForMultipleChoice", {"linear": "classifier"}, ambiguous=True),
        "span": HeadLayout("ForQuestionAnswering", {"linear": "qa_outputs"}),
    }

    def hf_config(
        self,
        task_type: str,
        sizes: Mapping[str, Any],
        labels: Sequence[str] | None = None,
        head: Collection[str] = (),
        module_head: HeadLayout | None = None,
    ) -> dict[str, Any]:
        config = super().hf_config(task_type, sizes, labels, head, module_head)
        return {**config, "summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}

    def from_hf(self, state: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
        renamed = {}
        for name, tensor in state.items():
            stem, _, suffix = name.rpartition(".")
            renamed[f"pooler.dense.{suffix}" if stem in POOLERS.values() else name] = tensor
        return super().from_hf(renamed)

    def to_hf(
        self,
        task_type: str,
        body: Mapping[str, Tensor],
        head: Mapping[str, Tensor],
        module_head: HeadLayout | None = None,
    ) -> StateDict:
        pooler = POOLERS.get(self._head_layout(task_type, module_head).model_class)
        state = super().to_hf(task_type, body, head, module_head)
        for suffix in ("weight", "bias"):
            tensor = state.pop(f"electra.pooler.dense.{suffix}")
            if pooler is not None:  # an answer's span is found without one
                state[f"{pooler}.{suffix}"] = tensor
        return state
