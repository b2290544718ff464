"""Limits of a run as Lightning takes them."""

from typing import Any

import pytest

from protoformer.assembly.steps import LIMITS, evaluation_limits, limits_in_micro_batches
from protoformer.errors import ConfigurationError


@pytest.mark.parametrize("batches", [1, 3, 49, 93, 1000])
def test_a_fraction_of_a_split_is_at_least_one_batch(batches: int) -> None:
    names = ("limit_val_batches", "limit_test_batches")
    limits = evaluation_limits(dict.fromkeys(names, 1e-6), {name: [batches, 5000, 0] for name in names})
    assert all(int(batches * limit) == 1 and limit <= 1.0 for limit in limits.values())  # as Lightning counts them
    for limit in (0.5, 1.0, 3, None):
        assert evaluation_limits({names[0]: limit}, {names[0]: [2000]}) == {names[0]: limit}


@pytest.mark.parametrize(
    ("limit", "interval", "expected"),
    [  # of 10 global batches of 4 micro-batches: batches of an epoch, and between validations
        (None, 0.25, (None, 2)),
        (None, 10, (None, 10)),
        (3, 0.5, (3, 1)),  # as debug=fast limits the epoch
        (3, 8, (3, 3)),  # validated at the end of the epoch
        (0.5, 1.0, (5, 5)),
        (0.5, 7, (5, 5)),
        (100, 0.1, (10, 1)),
    ],
)
def test_validations_fit_into_an_epoch_that_is_cut(limit: Any, interval: Any, expected: tuple[Any, int]) -> None:
    limits = dict.fromkeys(LIMITS) | {"max_steps": -1, "max_epochs": 1}
    found = limits_in_micro_batches(limits | {"limit_train_batches": limit, "val_check_interval": interval}, 40, 4)
    batches, between = expected
    assert found["limit_train_batches"] == (None if batches is None else 4 * batches)
    assert (found["val_check_interval"], type(found["val_check_interval"])) == (4 * between, int)


def test_an_interval_beyond_the_whole_epoch_is_refused() -> None:
    limits = dict.fromkeys(LIMITS) | {
        "max_steps": -1,
        "max_epochs": 1,
        "val_check_interval": 11,
        "limit_train_batches": 3,
    }
    with pytest.raises(ConfigurationError, match=r"val_check_interval=11 is more than the 10 batches of an epoch"):
        limits_in_micro_batches(limits, 40, 4)
