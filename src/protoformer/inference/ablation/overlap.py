"""Whether the heads that a task needs are those that track relations: the overlap of two sets of heads against chance."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from protoformer.errors import ConfigurationError
from protoformer.interventions.heads import SPELLING, Head

COLUMNS = {"relation", "direction", "head", "verdict"}


@dataclass(frozen=True)
class HeadOverlap:
    """Of `heads`, the `top` important ones and the `syntactic` ones have `common`; `expected` by chance, and the chance `p` of
    as many or more."""

    heads: int
    top: int
    syntactic: int
    common: int

    @property
    def expected(self) -> float:
        return self.top * self.syntactic / self.heads

    @property
    def p(self) -> float:
        """The upper tail of the hypergeometric distribution."""
        largest = min(self.top, self.syntactic)
        draws = sum(
            comb(self.syntactic, k) * comb(self.heads - self.syntactic, self.top - k)
            for k in range(self.common, largest + 1)
        )
        return draws / comb(self.heads, self.top)


def head_overlap(by_importance: Sequence[Head], syntactic: Mapping[Head, Sequence[str]]) -> HeadOverlap:
    """Of as many important heads as there are syntactic ones."""
    top = by_importance[: len(syntactic)]
    return HeadOverlap(len(by_importance), len(top), len(syntactic), sum(head in syntactic for head in top))


def read_syntactic_heads(path: Path, heads: Sequence[Head]) -> dict[Head, list[str]]:
    """Head -> the relations that it is the best head of and finds above the best offset, from a file relations.TREEBANK.csv of
    `protoformer probe heads`.

    Raises ConfigurationError for another file, and for heads that the model does not have.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigurationError(f"--syntactic {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"--syntactic {path}: no CSV file ({error})") from None
    if not rows or not rows[0].keys() >= COLUMNS:
        raise ConfigurationError(
            f"--syntactic {path}: no columns {', '.join(sorted(COLUMNS))}, as in relations.TREEBANK.csv of probe heads --out"
        )
    relations: dict[Head, list[str]] = {}
    for number, row in enumerate(rows, start=2):
        if row["relation"] == "any" or row["verdict"] != "above":
            continue
        match = SPELLING.fullmatch(row["head"] or "")
        head = Head(match[1] or "", int(match[2]), int(match[3])) if match else None
        if head is None or head not in heads:
            raise ConfigurationError(f"--syntactic {path}, line {number}: the model has no head {row['head']}")
        relations.setdefault(head, []).append(f"{row['relation']} {row['direction']}")
    if not relations:
        raise ConfigurationError(f"--syntactic {path}: no head finds a relation above its offset")
    return relations
