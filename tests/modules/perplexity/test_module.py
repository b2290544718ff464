"""Perplexities of windows, by hand on a trigram model that knows its probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from protoformer.data.batching.host_counts import WithHostCounts
from protoformer.data.running_text.datamodule import PerplexityReferences
from protoformer.data.running_text.table import WindowCollate, window_table
from protoformer.incontext.window_losses import window_losses
from protoformer.modules.perplexity.module import evaluate_windows

VOCABULARY, END = 5, 0
TEXTS = [[1, 2, 1, 2, 3, 4, 4, 1, 2, 1, 3], [4, 3, 2, 1], [2]]
COUNTS = {"words": 7, "original_tokens": 9, "bytes": 40, "characters": 38}


def probability(context: Sequence[int], token: int) -> float:
    """P(token | the last two tokens), or the last one where there is but one: any function will do."""
    weights = [1 + (3 * each + 2 * sum(context[-2:]) + 5 * len(context[-2:])) % 7 for each in range(VOCABULARY)]
    return weights[token] / sum(weights)


class Hidden:
    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def gather(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return self.rows[row, column]


class Trigram:
    """The oracle in a decoder's place: its hidden states are log-probabilities, its output matrix is the identity."""

    output_weight = torch.eye(VOCABULARY)

    def __call__(self, ids: torch.Tensor, padding_mask: torch.Tensor, lengths: Any = None) -> Hidden:
        rows = [
            [
                [math.log(probability(row[: place + 1], token)) for token in range(VOCABULARY)]
                for place in range(len(row))
            ]
            for row in ids.tolist()
        ]
        return Hidden(torch.tensor(rows))


def by_hand(window: int, stride: int) -> float:
    """Sum of -log P, with the context that each token has in its window."""
    total = 0.0
    for text in TEXTS:
        ids = [END, *text]
        for place in range(1, len(ids)):
            # the window that ends behind this token's stride, of which the first scores `window` tokens
            end = window if place <= window else window + stride * math.ceil((place - window) / stride)
            begin = max(0, min(end, len(text)) - window)
            total -= math.log(probability(ids[begin:place], ids[place]))
    return total


def scored(window: int, strides: list[int], rows: int) -> Any:
    table = window_table(TEXTS, END, window, strides).with_stats(**COUNTS)
    collate = WithHostCounts(WindowCollate(table, 0))
    numbers, losses = [], []
    for start in range(0, len(table), rows):
        batch = collate(list(range(start, min(len(table), start + rows))))
        numbers.append(batch["example_ids"])
        losses.append(window_losses(Trigram(), batch))  # type: ignore[arg-type]
    references = PerplexityReferences(table, strides, window)
    return evaluate_windows(references, torch.cat(numbers), torch.cat(losses), "perplexity_per_word")


@pytest.mark.parametrize(("window", "strides"), [(4, [4, 2]), (3, [1]), (20, [20, 5]), (1, [1])])
def test_by_hand(window: int, strides: list[int]) -> None:
    result = scored(window, strides, rows=3)
    for stride in strides:
        total = by_hand(window, stride)
        own = {name: value for name, value in result.other_metrics.items() if name.endswith(f"_stride_{stride}")}
        assert own == pytest.approx(
            {
                f"perplexity_per_token_stride_{stride}": math.exp(total / 16),
                f"perplexity_per_word_stride_{stride}": math.exp(total / 7),
                f"perplexity_per_original_token_stride_{stride}": math.exp(total / 9),
                f"bits_per_byte_stride_{stride}": total / 40 / math.log(2),
                f"bits_per_character_stride_{stride}": total / 38 / math.log(2),
            },
            rel=1e-6,
        )
        rows = list(result.rows())
        assert sum(row[f"negative_log_likelihood_stride_{stride}"] for row in rows) == pytest.approx(total, rel=1e-6)
    assert [row["tokens"] for row in result.rows()] == [11, 4, 1]
    first = strides[0]
    sums = result.example_sums()
    assert -sum(sums["log_likelihood"]) == pytest.approx(by_hand(window, first), rel=1e-6)
    assert sum(sums["tokens"]) == 16
    assert len(result.example_ids()) == len(sums["tokens"])
    word_perplexity = result.other_metrics[f"perplexity_per_word_stride_{first}"]
    assert result.scores == {f"probability_per_word_stride_{first}": pytest.approx(1 / word_perplexity)}


def test_batches_change_nothing() -> None:
    ours, theirs = (scored(4, [4, 1], rows).other_metrics for rows in (1, 50))
    assert ours == pytest.approx(theirs, rel=1e-7)


def test_less_overlap_is_less_context_for_a_model_that_uses_it() -> None:
    assert by_hand(2, 1) != pytest.approx(by_hand(2, 2))
    assert by_hand(2, 1) == pytest.approx(by_hand(20, 20))  # a trigram sees no more than two tokens
