"""Fractions of groups of examples that are right as a whole: MultiRC's questions with several answers, QuAC's dialogs."""

from collections.abc import Hashable, Sequence

Summands = tuple[
    Sequence[float], Sequence[float]
]  # what each example adds to the two sums that a score is the ratio of


def summands_of_groups(groups: Sequence[Hashable], right: Sequence[bool]) -> Summands:
    """The fraction of groups of whose examples each is right; a group counts at its first example."""
    whole = dict.fromkeys(groups, True)
    first: dict[Hashable, int] = {}
    for index, (group, is_right) in enumerate(zip(groups, right, strict=True)):
        first.setdefault(group, index)
        whole[group] &= is_right
    above, below = [0.0] * len(groups), [0.0] * len(groups)
    for group, index in first.items():
        above[index], below[index] = float(whole[group]), 1.0
    return above, below
