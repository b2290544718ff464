"""What an evaluation by prompts costs: the tokens of all prompts, and those that are run once beginnings are shared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from protoformer.assembly.build import build_datamodule
from protoformer.assembly.initial_weights import InitialWeights, find_initial_weights
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import resolve_model
from protoformer.assembly.tokenizer import build_tokenizer
from protoformer.errors import UserError
from protoformer.models.backbone import Backbone
from protoformer.models.cost import backbone_flops


@dataclass(frozen=True)
class PromptTokens:
    """Examples, their sequences, the tokens that these have, and those that are computed for them. An answer that the model
    writes counts with its longest length."""

    examples: int
    sequences: int
    requested: int
    computed: int


def tree_tokens(sequences: Iterable[Sequence[int]]) -> tuple[int, int]:
    """Tokens of sequences, and of the tree of their prefixes. The last token of each is only predicted."""
    ordered = sorted(tuple(ids[:-1]) for ids in sequences)
    requested = sum(map(len, ordered))
    return requested, requested - sum(_common(one, other) for one, other in pairwise(ordered))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def prompt_tokens(config: Mapping[str, Any]) -> PromptTokens | str:
    """Of all evaluated splits, read and encoded as the run does it; or in a line why they cannot be."""
    try:
        source = instantiate(config, "source")
        initial = InitialWeights("scratch") if config["init_from"] == "auto" else find_initial_weights(config)
        tokenizer = build_tokenizer(config, initial, source)
        data: Any = build_datamodule(resolve_model(config, initial, tokenizer).in_config(config), source, tokenizer)
        data.setup()
    except UserError as error:
        return str(error)
    tables = [table for role in ("validation", "test") for table in data.tables[role].values()]
    if not all(hasattr(table, "sequences") for table in tables):
        return "its tokens are counted when it runs"
    longest = config["task"]["data"].get("max_new_tokens")
    sequences = []
    for table in tables:
        for example in range(len(table)):
            # of a written answer the context alone is known before it is written
            sequences += [
                each.ids if longest is None else each.ids[: each.start + 1] for each in table.sequences(example)
            ]
    requested, computed = tree_tokens(sequences)
    generated = 0 if longest is None else longest * len(sequences) * config["task"]["module"].get("num_beams", 1)
    return PromptTokens(sum(map(len, tables)), len(sequences), requested + generated, computed + generated)


def forward_flops(backbone: Backbone, tokens: float, length: float) -> float:
    """Of a forward pass over so many tokens of sequences of this length; without the output matrix."""
    return float(backbone_flops(backbone, torch.tensor([length]))) / 3 / length * tokens
