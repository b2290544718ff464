"""Random tokens, repeated, and heads that copy."""

import pytest
import torch

from protoformer.syntax.repeated_tokens import pattern_scores, random_tokens


def test_tokens_are_distinct_and_repeated() -> None:
    tokens = random_tokens(torch.arange(100, 150), 7, 20)
    assert tokens.shape == (7, 40)
    assert torch.equal(tokens[:, :20], tokens[:, 20:])
    assert all(len(set(row)) == 20 for row in tokens[:, :20].tolist())
    assert (tokens.min(), tokens.max()) >= (100, 100)
    with pytest.raises(ValueError, match="50 tokens: too few for 51"):
        random_tokens(torch.arange(50), 1, 51)


@pytest.mark.parametrize("before", [0, 1])
def test_heads_that_do_one_thing_each(before: int) -> None:
    """Four tokens, twice: to the one before, to the same one, to the one after the same one, and equal weights."""
    seq = 8 + before
    weights = torch.zeros(1, 4, seq, seq)
    for query in range(1, seq):
        weights[0, 0, query, query - 1] = 1.0
        if query >= before + 4:
            weights[0, 1, query, query - 4] = weights[0, 2, query, query - 3] = 1.0
    weights[0, 3] = torch.ones(seq, seq).tril() / torch.arange(1, seq + 1)[:, None]
    result = pattern_scores(weights, before)
    assert torch.equal(result.scores[:, 0, :3], torch.eye(3))
    torch.testing.assert_close(result.scores[:, 0, 3], result.uniform)
