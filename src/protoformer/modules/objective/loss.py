"""Loss of a batch, as a sum and a count."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """The sum of the losses over the targets, and the number of targets, both scalars.

    `running_metrics` are (sum, count) of what else is logged in training, such as an accuracy.
    """

    total: Tensor
    targets: Tensor
    running_metrics: Mapping[str, tuple[Tensor, Tensor]] = MappingProxyType({})
