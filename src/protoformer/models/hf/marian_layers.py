"""Names of the parts of a layer in Marian's files."""

from collections.abc import Mapping

from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.models.hf.layout import concatenated
from protoformer.models.weights import StateDict

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


def fuse(parts: Mapping[str, Tensor]) -> StateDict:
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
            names = [f"{prefix}.{each}.{suffix}" for each in theirs]
            if missing := [each for each in names if each not in parts]:
                raise WeightsError(f"model.{missing[0]} is missing")
            state[f"{prefix}.{ours}.{suffix}"] = concatenated(f"model.{prefix}.{ours}", [parts[each] for each in names])
        elif part not in others:
            state[f"{prefix}.{PARTS.get(part, part)}.{suffix}"] = tensor
    return state
