"""Shots: solved examples that are drawn from a split, and read when they are drawn."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from protoformer.data.examples.columns import OnBadRow
from protoformer.data.prompts.earlier import with_earlier
from protoformer.data.prompts.examples import PromptExample
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.sources.source import RawTable
from protoformer.errors import ConfigurationError


class ShotPool:
    """The rows that shots are drawn from. Of a conversation the last turn is a shot, which shows all turns.

    A training split may have millions of rows, so only those that a seed draws are read, unless unusable rows are skipped:
    which these are is not known before all are read. Raises ConfigurationError for fewer rows than `shots`; of the split
    that is evaluated (`own_split`) one more is needed.
    """

    def __init__(
        self,
        reader: PromptReader,
        raw: RawTable,
        shots: int,
        seeds: Iterable[str],
        on_bad_row: OnBadRow = "error",
        *,
        own_split: bool = False,
    ) -> None:
        self.shots, self.own_split, total = shots, own_split, raw.table.num_rows
        rows: Sequence[int] = range(total)
        if on_bad_row == "error":
            drawn = sorted({index for seed in set(seeds) for index in self._sample(len(rows), seed)})
            if reader.earlier is not None:
                drawn = with_earlier(raw, drawn, str(reader.group))
            if len(drawn) < len(rows):
                rows, raw = drawn, raw.take(drawn)
        examples = reader.read(raw, "train", on_bad_row).examples
        self._by_row: Mapping[int, PromptExample] = {
            rows[each.row]: replace(each, row=rows[each.row]) for each in examples
        }
        self._rows = list(self._by_row) if on_bad_row == "skip" else range(total)
        if len(self._rows) < shots + own_split:
            raise ConfigurationError(
                f"task.shots={shots}: {raw.origin} has {len(self._rows)} usable rows"
                + (", and an example is no shot for itself" if own_split else "")
            )

    def _sample(self, count: int, seed: str) -> list[int]:
        """One more than needed: it stands in where the example is itself a shot."""
        return Random(seed).sample(range(count), min(count, self.shots + 1))

    def draw(self, seed: str, row: int) -> list[str]:
        """The texts of the shots of this seed for an example of this row, which is not one of them."""
        drawn = [self._by_row[self._rows[index]] for index in self._sample(len(self._rows), seed)]
        if self.own_split:
            drawn = [each for each in drawn if each.row != row]
        return [each.shot for each in drawn[: self.shots]]
