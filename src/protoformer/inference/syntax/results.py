"""Results of a treebank: rows of the tables, with intervals, tests and random models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from protoformer.inference.syntax.probe import Baseline, Choice, Counting, Report
from protoformer.significance.power import holm
from protoformer.syntax.relations import OFFSETS, Direction
from protoformer.syntax.uncertainty import fractions, permutation_p

LEVEL = 0.05
RESAMPLES_PER_TEST = 30  # fewer than 1 / LEVEL for each test, and Holm's correction could not show any of them


@dataclass(frozen=True)
class RelationResult:
    """The best head for a relation in one direction, on sentences that it was not chosen on.

    `random` are the accuracies of the best heads of random models, `p` that of a permutation test against the best offset,
    `corrected_p` the same for as many tests as there are rows (Holm).
    """

    relation: str
    direction: Direction
    arcs: int
    head: str
    accuracy: float
    low: float
    high: float
    offset: int
    offset_accuracy: float
    random: tuple[float, ...]
    p: float
    corrected_p: float = 1.0

    @property
    def verdict(self) -> str:
        """Against the offset: above, below, or not shown."""
        if self.corrected_p >= LEVEL:
            return "not shown"
        return "above" if self.accuracy > self.offset_accuracy else "below"


@dataclass(frozen=True)
class TreeResult:
    """Attachment of one way to draw trees: undirected (UUAS), or directed (UAS) of probes."""

    name: str
    measure: str
    score: float
    low: float
    high: float
    random: tuple[float, ...] = ()


def relation_results(
    choice: Choice,
    baseline: Baseline,
    counting: Counting,
    report: Report,
    random: Sequence[Report],
    names: Sequence[str],
) -> list[RelationResult]:
    """A row a cell that has arcs enough."""
    assert report.by_offset is not None
    of_heads, of_offsets = fractions(report.by_head, report.arcs), fractions(report.by_offset, report.arcs)
    arcs_of_cells = report.arcs.sum(axis=0)
    has_row = arcs_of_cells >= max(1, counting.at_least)
    p_values = permutation_p(
        report.by_head, report.by_offset, resamples=max(2_000, RESAMPLES_PER_TEST * int(has_row.sum()))
    )
    of_random = [each.by_head.sum(axis=0) / np.maximum(each.arcs.sum(axis=0), 1) for each in random]
    results = [
        RelationResult(
            relation, direction, int(arcs), names[int(choice.heads[cell])], float(of_heads.fraction[cell]),
            float(of_heads.low[cell]), float(of_heads.high[cell]), OFFSETS[int(baseline.offsets[cell])],
            float(of_offsets.fraction[cell]), tuple(float(each[cell]) for each in of_random), float(p_values[cell]),
        )
        for cell, ((relation, direction), arcs) in enumerate(zip(counting.cells, arcs_of_cells, strict=True))
        if has_row[cell]
    ]  # fmt: skip
    corrected = holm([each.p for each in results])
    return [replace(each, corrected_p=p) for each, p in zip(results, corrected, strict=True)]


def tree_results(choice: Choice, report: Report, random: Sequence[Report], names: Sequence[str]) -> list[TreeResult]:
    """A row for each way to draw trees."""
    of_all = fractions(np.stack(list(report.trees.values()), axis=1), np.tile(report.edges[:, None], len(report.trees)))
    titles = {
        "offset 2": "each word with the second before it",
        "best head": f"best head, {names[choice.ensemble[0]]}",
        "ensemble": f"mean of the {len(choice.ensemble)} best heads"
        if len(choice.ensemble) > 1
        else "mean of several heads (none is better)",
        "probe of distances": "linear probe of distances alone",
        "probe": f"linear probe of all heads, {len(names)}",
    }
    return [
        TreeResult(
            titles.get(name, name), "UAS" if "probe" in name else "UUAS", float(of_all.fraction[index]),
            float(of_all.low[index]), float(of_all.high[index]),
            tuple(float(each.trees[name].sum() / each.edges.sum()) for each in random if name in each.trees),
        )
        for index, name in enumerate(report.trees)
    ]  # fmt: skip
