"""Statistics of attention heads, compared with their definitions in plain loops, and in known cases."""

import math

import pytest
import torch
from torch import Tensor

from protoformer.views.head_statistics import (
    HeadStatistics,
    head_statistics,
    telling_head,
    top_heads,
    weight_at_offset,
)


def drawn(layers: int = 2, heads: int = 3, queries: int = 7, keys: int = 7, causal: bool = False) -> Tensor:
    scores = 3 * torch.randn(layers, heads, queries, keys)
    if causal:
        scores = scores.masked_fill(torch.triu(torch.ones(queries, keys, dtype=torch.bool), 1), -math.inf)
    return scores.softmax(-1)


def from_definitions(weights: Tensor, special: list[int]) -> dict[str, list[list[float]]]:
    """Every number from its definition, weight by weight."""
    results: dict[str, list[list[float]]] = {name: [] for name in HeadStatistics._fields}
    for layer in weights.tolist():
        rows: dict[str, list[float]] = {name: [] for name in HeadStatistics._fields}
        for head in layer:
            n = len(head)
            cells = [(i, j, w) for i, row in enumerate(head) for j, w in enumerate(row)]
            rows["entropy"].append(-sum(w * math.log2(w) for _, _, w in cells if w) / n)
            rows["distance"].append(sum(w * abs(i - j) for i, j, w in cells) / n)
            rows["special"].append(sum(w for _, j, w in cells if j in special) / n)
            rows["first"].append(sum(w for _, j, w in cells if j == 0) / n)
            rows["current"].append(sum(w for i, j, w in cells if i == j) / n)
            rows["previous"].append(sum(w for i, j, w in cells if j == i - 1) / (n - 1))
            rows["next"].append(sum(w for i, j, w in cells if j == i + 1) / (n - 1))
        for name, values in rows.items():
            results[name].append(values)
    return results


@pytest.mark.parametrize("causal", [False, True])
def test_statistics_equal_their_definitions(causal: bool) -> None:
    weights, special = drawn(causal=causal), [0, 4, 6]
    flags = torch.tensor([place in special for place in range(7)])
    statistics = head_statistics(weights, flags)._asdict()
    for name, expected in from_definitions(weights, special).items():
        torch.testing.assert_close(statistics[name], torch.tensor(expected), atol=1e-6, rtol=1e-5)
    assert bool((statistics["next"] == 0).all()) == causal


def test_known_heads() -> None:
    """One head with uniform weights, one on the previous token, one on the last token, a separator."""
    n = 8
    alike = torch.full((n, n), 1 / n)
    before = torch.diag(torch.ones(n - 1), -1)
    before[0, 0] = 1.0
    last = torch.zeros(n, n)
    last[:, -1] = 1.0
    special = torch.zeros(n, dtype=torch.bool)
    special[-1] = True
    statistics = head_statistics(torch.stack([alike, before, last])[None], special)
    assert statistics.entropy[0].tolist() == pytest.approx([3.0, 0.0, 0.0], abs=1e-6)  # log2 8
    assert statistics.previous is not None
    assert statistics.previous[0].tolist() == pytest.approx([1 / 8, 1.0, 0.0])
    assert statistics.special is not None
    assert statistics.special[0].tolist() == pytest.approx([1 / 8, 0.0, 1.0])
    assert statistics.distance is not None
    assert statistics.distance[0, 1:].tolist() == pytest.approx([7 / 8, 3.5])
    assert top_heads(statistics.previous, 2) == [(0, 1, pytest.approx(1.0)), (0, 0, pytest.approx(1 / 8))]


def test_between_two_texts_there_are_no_neighbours() -> None:
    statistics = head_statistics(drawn(queries=5, keys=9), torch.zeros(9, dtype=torch.bool), cross_attention=True)
    assert (statistics.distance, statistics.current, statistics.previous, statistics.next) == (None,) * 4
    assert statistics.special is None  # nor any special token
    assert statistics.entropy.shape == statistics.first.shape == (2, 3)


def test_a_single_token_has_no_neighbour_and_comes_last() -> None:
    one = torch.ones(1, 2, 1, 1)
    assert weight_at_offset(one, -1).isnan().all()
    mixed = torch.tensor([[math.nan, 0.2], [0.1, math.nan]])
    assert [place[:2] for place in top_heads(mixed, 9)][:2] == [(0, 1), (1, 0)]


def test_a_telling_head_looks_at_one_word_of_the_text() -> None:
    """Heads of weight one: on the first token, on the token itself, on a separator, and on the third token."""
    special = torch.tensor([True, False, False, True])
    weights = torch.zeros(2, 2, 4, 4)
    weights[0, 0, :, 0] = weights[1, 1, :, 2] = weights[1, 0, :, 3] = 1
    weights[0, 1] = torch.eye(4)
    assert telling_head(weights, special) == (1, 1)
    assert telling_head(weights[:, :, :, :3], special[:3], cross_attention=True) == (1, 1)
