"""A ladder of decoder sizes by one dial, `model.depth`: resolvers that a yaml reads as `${ladder.d_model:${model.depth}}`.

- Heads of 64 (GPT-2, Radford et al. 2019, table 2: depth / width 12 / 768, 24 / 1,024, 36 / 1,280, 48 / 1,600): as many as
  layers up to 12 layers, beyond them 8 + depth / 3. The first three sizes are met, the last has 1,536. d_ff is 4 d_model.
- Parameters of the layers, N = 12 depth d_model^2 (Kaplan et al. 2020, arXiv 2001.08361, table 1 with d_ff = 4 d_model).
- Learning rate: 0.003239 - 0.0001395 ln N (Kaplan et al., equation D.1), to two digits. The paper warns of N > 10^10, which
  depth 96 does not reach (7.5e9).
- Batch: 2^19 tokens at depth 12, times (N / N at depth 12)^(1/4), to the nearest power of two. This is the trend of GPT-3's
  batches (arXiv 2005.14165, table 2.1: 0.5 M tokens at 125 M parameters, 1 M at 1.3 B, 2 M at 13 B, 3.2 M at 175 B).

What a user types in the place of any of these values is kept. Raises KeyedError for a depth that is no whole number of 1 to 96.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated

from protoformer.config.annotations.coerce import KeyedError, coerce

D_HEAD = 64
PUBLISHED_DEPTH = 12  # of GPT-2 small and GPT-3 small
TOKENS_AT_PUBLISHED_DEPTH = 2**19  # of a batch: GPT-2's 512 sequences of 1,024, GPT-3's 0.5 M
BATCH_EXPONENT = 0.25
Depth = Annotated[int, "at least 1 and at most 96"]
READER = re.compile(r"\$\{\s*ladder\.\w+:\s*\$\{\s*model\.depth\s*\}")


def n_heads(depth: object) -> int:
    """Heads of a layer."""
    layers = _depth(depth)
    return min(layers, 8 + round(layers / 3))


def d_model(depth: object) -> int:
    """Width of the hidden states."""
    return D_HEAD * n_heads(depth)


def d_ff(depth: object) -> int:
    """Width of the feed-forward network's inner layer."""
    return 4 * d_model(depth)


def layer_parameters(depth: object) -> int:
    """Weights of the layers' matrices, N: without embeddings, biases and normalisations."""
    return 12 * _depth(depth) * d_model(depth) ** 2


def lr(depth: object) -> float:
    """Peak learning rate of pretraining."""
    return float(f"{0.003239 - 0.0001395 * math.log(layer_parameters(depth)):.1e}")


def batch_size(depth: object, max_len: object) -> int:
    """Sequences of `max_len` tokens in a batch of pretraining."""
    ratio = layer_parameters(depth) / layer_parameters(PUBLISHED_DEPTH)
    tokens = 2 ** round(math.log2(TOKENS_AT_PUBLISHED_DEPTH) + BATCH_EXPONENT * math.log2(ratio))
    return max(1, round(tokens / coerce(max_len, Annotated[int, "at least 1"], "task.max_len")))


def steps(tokens: object, sequences: object, max_len: object) -> int:
    """Optimizer steps in which batches of `sequences` sequences of `max_len` tokens read `tokens` tokens."""
    positive = Annotated[float, "at least 1"]
    batch = coerce(sequences, positive, "recipe.batch_size") * coerce(max_len, positive, "task.max_len")
    return max(1, round(coerce(tokens, positive, "model.pretraining.tokens") / batch))


def register() -> None:
    """Make the functions known to OmegaConf as `ladder.<name>`."""
    from omegaconf import OmegaConf  # slow to import: only who composes a config needs it

    for function in (n_heads, d_model, d_ff, lr, batch_size, steps):
        OmegaConf.register_new_resolver(f"ladder.{function.__name__}", function, replace=True)


def check_dial(stated: Mapping[str, object], model: object) -> None:
    """Raise KeyedError where model.depth is set and nothing reads it; `stated` is the config before it is resolved."""
    node = stated.get("model")
    depth = node.get("depth") if isinstance(node, Mapping) else None
    if depth is not None and not READER.search(repr(node)):
        raise KeyedError(
            "model.depth",
            f"model.depth={depth}: model={model} is no ladder of sizes, nothing reads its depth; choose model=gpt2_ladder, "
            "or set model.n_layers, model.d_model, model.n_heads and model.d_ff",
        )


def _depth(depth: object) -> int:
    return int(coerce(depth, Depth, "model.depth"))
