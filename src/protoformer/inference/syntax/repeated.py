"""Previous-token, duplicate-token and induction heads of a decoder, on repeated random tokens (`syntax.repeated_tokens`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.errors import ConfigurationError
from protoformer.inference.attention import load_model
from protoformer.inference.syntax import output
from protoformer.inference.syntax.random_models import random_model
from protoformer.models.backbone import Backbone
from protoformer.reporting.tables import print_table
from protoformer.syntax.repeated_tokens import PATTERNS, PatternScores, pattern_scores, random_tokens
from protoformer.views.inspected_model import InspectedModel

SEQUENCES, LENGTH = 50, 50  # random tokens, which are repeated once
BATCH = 5  # sequences at once
BEST = 5  # heads of each pattern that are printed


def main(source: str, random_seeds: int, out: str | None) -> None:
    """Print the heads with the highest scores. Raises ConfigurationError for a model that is no decoder alone."""
    folder = None if out is None else output.writable_folder(out)
    inspected = load_model(source)
    if not isinstance(inspected.model, Backbone) or not inspected.model.causal:
        raise ConfigurationError(
            "--treebank: name a treebank, or sample. Random tokens are for decoders; this model attends to later ones"
        )
    tokens = _tokens(inspected)
    names = [f"{layer + 1}-{head + 1}" for layer in range(inspected.n_layers) for head in range(inspected.n_heads)]
    scores, losses = measure(inspected, tokens)
    of_random = [
        measure(replace(inspected, model=random_model(source, seed)), tokens)[0] for seed in range(random_seeds)
    ]
    half = tokens.shape[1] // 2
    print(inspected.description)
    print(f"{len(tokens)} sequences of {half} random tokens, each twice.")
    print(f"Cross-entropy in nats a token: {losses[0]:.2f} the first time, {losses[1]:.2f} the second.")
    rows = _rows(scores, of_random, names)
    print_table(
        ("pattern", "head", "weight", "95 % interval", "equal weights", "random"),
        [(pattern, head, f"{w:.3f}", f"{low:.3f} to {high:.3f}", f"{equal:.3f}", "-" if r is None else f"{r:.3f}")
         for pattern, best in rows.items() for head, w, low, high, equal, r in best[:BEST]],
        right=("weight", "equal weights", "random"),
    )  # fmt: skip
    if folder is not None:
        table = [
            (pattern, head, *(f"{x:.4f}" for x in (w, low, high, equal)), "" if r is None else f"{r:.4f}")
            for pattern, best in rows.items()
            for head, w, low, high, equal, r in best
        ]
        columns = ("pattern", "head", "weight", "low", "high", "equal_weights", "random")
        print(output.write_csv(Path(folder) / "repeated.csv", columns, table))


@torch.no_grad()
def measure(inspected: InspectedModel, tokens: Tensor) -> tuple[PatternScores, tuple[float, float]]:
    """Scores of all heads on the sequences, and the mean cross-entropy of the tokens that come first and that are repeated."""
    model = inspected.model
    assert isinstance(model, Backbone)
    before = [] if inspected.start_id is None else [inspected.start_id]
    half, parts, losses = tokens.shape[1] // 2, list[PatternScores](), list[Float[Tensor, "batch seq"]]()
    for batch in tokens.split(BATCH):
        ids = torch.cat([torch.tensor(before, dtype=torch.long).expand(len(batch), -1), batch], dim=1)
        mask = torch.ones_like(ids, dtype=torch.bool)
        hidden = model.forward(ids, mask, attn_layers=range(inspected.n_layers))
        weights = torch.cat([hidden.attn_weights[index].float() for index in sorted(hidden.attn_weights)], dim=1)
        parts.append(pattern_scores(weights, len(before)))
        states = hidden.layout.unpack(hidden.tokens)[:, :-1]
        logits = functional.linear(states, model.output_weight)
        losses.append(functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none"))
    of_tokens = torch.cat(losses).mean(dim=0)
    scores = PatternScores(torch.cat([each.scores for each in parts], dim=1), parts[0].uniform)
    return scores, (float(of_tokens[:-half].mean()), float(of_tokens[-half:].mean()))


def _tokens(inspected: InspectedModel) -> Tensor:
    """Random tokens of the vocabulary, no special ones."""
    known = min(inspected.tokenizer.vocab_size, inspected.model.embeddings.token.num_embeddings)
    candidates = torch.tensor([index for index in range(known) if index not in inspected.special_ids])
    length = min(LENGTH, (inspected.model.max_seq_len - 1) // 2, len(candidates))
    if length < 2:
        raise ConfigurationError(
            f"repeated random tokens: the model has {inspected.model.max_seq_len} positions; at least 5"
        )
    return random_tokens(candidates, SEQUENCES, length)


Row = tuple[str, float, float, float, float, float | None]


def _rows(scores: PatternScores, random: Sequence[PatternScores], names: Sequence[str]) -> dict[str, list[Row]]:
    """Heads by pattern, the best first: name, weight, its 95 % interval over sequences (normal), that of equal weights, and
    of the best head of any random model."""
    rows = dict[str, list[Row]]()
    for index, pattern in enumerate(PATTERNS):
        of_heads = scores.scores[index].numpy()
        means = of_heads.mean(axis=0)
        errors = 1.96 * of_heads.std(axis=0, ddof=1) / np.sqrt(len(of_heads))
        best_random = max((float(each.scores[index].mean(dim=0).max()) for each in random), default=None)
        rows[pattern] = [
            (names[head], float(means[head]), float(means[head] - errors[head]), float(means[head] + errors[head]),
             float(scores.uniform[index]), best_random)
            for head in np.argsort(-means, kind="stable")
        ]  # fmt: skip
    return rows
