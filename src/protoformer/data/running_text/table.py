"""Encoded texts on disk, and the windows in which a model reads them; batches of windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import LanguageBatch
from protoformer.data.batching.padding import pad
from protoformer.data.batching.samplers import decode_dummies
from protoformer.data.cache import Table
from protoformer.data.running_text.windows import windows


@dataclass(frozen=True)
class WindowTable(Table):
    """Text t is `ids[offsets[t]:offsets[t + 1]]`, its first token the one between documents, which is not scored.

    Window w reads `ids[start[w]:stop[w] - 1]` and scores the last `targets[w]` of the tokens behind these; `text[w]` is its
    text and `stride[w]` its stride.
    """

    start: Int[ndarray, "windows"]
    stop: Int[ndarray, "windows"]
    targets: Int[ndarray, "windows"]
    text: Int[ndarray, "windows"]
    stride: Int[ndarray, "windows"]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Int[ndarray, "windows"]:
        """Tokens that each window reads."""
        return self.stop - self.start - 1


def window_table(texts: Sequence[Sequence[int]], end_id: int, window: int, strides: Sequence[int]) -> WindowTable:
    """The windows of encoded texts, stride by stride; `stats` count texts and their tokens."""
    offsets = np.cumsum([0, *(len(ids) + 1 for ids in texts)])
    ids = np.asarray([token for text in texts for token in (end_id, *text)], dtype=np.int64)
    rows = [
        (int(offsets[number]) + each.start, int(offsets[number]) + each.stop, each.targets, number, stride)
        for stride in strides
        for number, text in enumerate(texts)
        for each in windows(len(text) + 1, window, stride)
    ]
    start, stop, targets, text, stride = np.asarray(rows, dtype=np.int64).reshape(-1, 5).T
    return WindowTable(
        ids=ids,
        segment_ids=np.empty(0, dtype=np.uint8),
        offsets=offsets,
        start=start,
        stop=stop,
        targets=targets,
        text=text,
        stride=stride,
        stats={"texts": len(texts), "tokens": len(ids) - len(texts), "window": window},
    )


class WindowCollate:
    """Numbers of windows -> one batch; what is not scored, and a dummy's tokens, has the target -1."""

    def __init__(self, table: WindowTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> LanguageBatch:
        numbers, is_real = decode_dummies(indices)
        rows = [np.asarray(self.table.ids[self.table.start[each] : self.table.stop[each]]) for each in numbers]
        ids, padding_mask = pad([row[:-1] for row in rows], self.pad_id)
        target_ids = np.full(ids.shape, -1, dtype=np.int64)
        for index, (number, real) in enumerate(zip(numbers, is_real, strict=True)):
            if real:
                targets, read = int(self.table.targets[number]), len(rows[index]) - 1
                target_ids[index, read - targets : read] = rows[index][-targets:]
        return LanguageBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(padding_mask),
            target_ids=torch.from_numpy(target_ids),
            example_ids=torch.where(torch.tensor(is_real), torch.tensor(numbers), -1),
        )
