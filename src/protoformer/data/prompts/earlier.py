"""Rows that stand in front of others: the questions of a passage, with their answers, before the next one."""

from collections.abc import Sequence

import numpy as np

from protoformer.data.sources.source import RawTable


def with_earlier(raw: RawTable, rows: Sequence[int], column: str) -> list[int]:
    """These rows and all rows before them with the same value of a column, in order."""
    values = raw.table.column(column).combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    same = [np.flatnonzero(values[: row + 1] == values[row]) for row in rows]
    return [int(row) for row in np.unique(np.concatenate([np.asarray(rows, dtype=np.int64), *same]))]
