"""Systems share a letter exactly where they are not shown to differ."""

from itertools import combinations

import numpy as np
import pytest

from protoformer.significance.compact_display import compact_display


@pytest.mark.parametrize(
    ("count", "different", "expected"),
    [
        (3, [], ["a", "a", "a"]),
        (3, [(0, 1), (0, 2), (1, 2)], ["a", "b", "c"]),
        (3, [(0, 2)], ["a", "ab", "b"]),
        (4, [(0, 2), (0, 3), (1, 3)], ["a", "ab", "bc", "c"]),
        (1, [], ["a"]),
    ],
)
def test_by_hand(count: int, different: list[tuple[int, int]], expected: list[str]) -> None:
    assert compact_display(count, different) == expected


@pytest.mark.parametrize("seed", range(8))
def test_any_relation_is_shown_as_it_is(seed: int) -> None:
    pairs = list(combinations(range(9), 2))
    chosen = np.random.default_rng(seed).random(len(pairs)) < 0.4
    different = {pair for pair, is_chosen in zip(pairs, chosen, strict=True) if is_chosen}
    actual = compact_display(9, different)
    assert all(actual)
    for i, j in pairs:
        assert bool(set(actual[i]) & set(actual[j])) == ((i, j) not in different)
