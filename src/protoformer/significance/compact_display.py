"""Compact letter display: systems that share a letter are not shown to differ.

Insertion and absorption (Piepho 2004, J. Comput. Graph. Stat. 13): all systems begin in one set; each set that holds a pair
that differs is replaced by two, one without each of the pair; sets that another one contains go.
"""

from collections.abc import Collection
from string import ascii_lowercase


def compact_display(count: int, different: Collection[tuple[int, int]]) -> list[str]:
    """The letters of systems 0 to count - 1; `a` is of the first set in their order."""
    sets = [frozenset(range(count))]
    for pair in different:
        split = [one for one in sets if not one.issuperset(pair)]
        for whole in sets:
            if whole.issuperset(pair):
                split += [whole - {member} for member in pair]
        sets = [one for one in dict.fromkeys(split) if not any(one < other for other in split)]
    ordered = sorted(sets, key=sorted)
    return ["".join(_name(index) for index, one in enumerate(ordered) if system in one) for system in range(count)]


def _name(index: int) -> str:
    """a to z, then a' to z', ..."""
    return ascii_lowercase[index % 26] + "'" * (index // 26)
