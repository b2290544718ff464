"""Limits of a run as Lightning takes them."""

import pytest

from protoformer.assembly.steps import evaluation_limits


@pytest.mark.parametrize("batches", [1, 3, 49, 93, 1000])
def test_a_fraction_of_a_split_is_at_least_one_batch(batches: int) -> None:
    names = ("limit_val_batches", "limit_test_batches")
    limits = evaluation_limits(dict.fromkeys(names, 1e-6), {name: [batches, 5000, 0] for name in names})
    assert all(int(batches * limit) == 1 and limit <= 1.0 for limit in limits.values())  # as Lightning counts them
    for limit in (0.5, 1.0, 3, None):
        assert evaluation_limits({names[0]: limit}, {names[0]: [2000]}) == {names[0]: limit}
