"""Attention rollout equals the product by hand, its rows sum to one, and nothing is drawn from what a mask hides."""

import torch

from protoformer.attribution.rollout import attention_rollout, decoder_rollout


def rows(*shape: int, causal: bool = False) -> torch.Tensor:
    """Random attention weights."""
    scores = torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))
    return (scores.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -torch.inf) if causal else scores).softmax(-1)


def test_it_is_the_product_by_hand() -> None:
    weights = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]])
    # (W + I) / 2: [[3/4, 1/4], [1/8, 7/8]], then [[1, 0], [1/4, 3/4]]
    first, second = attention_rollout(weights)
    torch.testing.assert_close(first, torch.tensor([[0.75, 0.25], [0.125, 0.875]]))
    torch.testing.assert_close(second, torch.tensor([[0.75, 0.25], [0.28125, 0.71875]]))


def test_it_is_the_product_of_all_layers() -> None:
    weights = rows(4, 5, 5)
    expected = torch.eye(5, dtype=torch.double)
    for layer, rollout in zip(weights, attention_rollout(weights), strict=True):
        expected = (layer + torch.eye(5)) / 2 @ expected
        torch.testing.assert_close(rollout, expected)


def test_rows_sum_to_one_and_causal_stays_causal() -> None:
    rollout = attention_rollout(rows(6, 7, 7, causal=True))
    torch.testing.assert_close(rollout.sum(-1), torch.ones(6, 7, dtype=torch.double))
    assert (rollout.triu(1) == 0).all()
    assert (rollout.tril() > 0).sum() == 6 * 7 * 8 / 2


def test_decoder_is_the_rollout_of_one_graph_over_targets_and_sources() -> None:
    """Of both texts as one sequence, whose sources no step changes: each step is a matrix of one attention and residual."""
    weights, cross, encoder = rows(3, 4, 4, causal=True), rows(3, 4, 5), rows(2, 5, 5)
    memory = attention_rollout(encoder)[-1]
    result = decoder_rollout(weights, cross, memory)
    expected = torch.block_diag(torch.eye(4, dtype=torch.double), memory)
    for layer in range(3):
        for over_targets, over_sources in ((weights[layer], torch.zeros(4, 5)), (torch.zeros(4, 4), cross[layer])):
            step = torch.eye(9, dtype=torch.double)
            step[:4] = (step[:4] + torch.cat([over_targets, over_sources], dim=1)) / 2
            expected = step @ expected
        torch.testing.assert_close(result.targets[layer], expected[:4, :4])
        torch.testing.assert_close(result.sources[layer], expected[:4, 4:])
    torch.testing.assert_close(result.targets.sum(-1) + result.sources.sum(-1), torch.ones(3, 4, dtype=torch.double))
    assert (result.targets.triu(1) == 0).all()
