"""Evaluated batches on disk, so that an interrupted evaluation continues where it was.

A line a batch: the ids of its examples, and its outputs. Each rank appends to a file of its own and reads those of all. Numbers
are written with all their digits, so that a continued evaluation ends in the same scores.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from protoformer.modules.evaluation import EvalOutputs

SUFFIX = ".batches.jsonl"


class EvaluationJournal:
    """The batches of all splits of a run. `digest` says what decides the outputs: batches of another one are dropped."""

    def __init__(self, folder: Path, digest: str, rank: int = 0) -> None:
        self.folder, self.digest = folder, digest
        self.file = folder / f"rank{rank}{SUFFIX}"
        self._outputs: dict[tuple[str, tuple[int, ...]], EvalOutputs] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"rank*{SUFFIX}")):
            self._read(path)
        if not self._read(self.file):
            self.file.write_text(json.dumps({"digest": digest}) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self._outputs)

    def recorded(self, split: str, example_ids: Sequence[int]) -> EvalOutputs | None:
        """The outputs of a batch with these examples; None: it has not been evaluated."""
        return self._outputs.get((split, tuple(example_ids)))

    def record(self, split: str, example_ids: Sequence[int], outputs: EvalOutputs) -> None:
        """Append a batch, whole on disk when this returns."""
        tensors = [{"dtype": str(each.dtype).removeprefix("torch."), "values": each.tolist()} for each in outputs]
        line = json.dumps({"split": split, "examples": list(example_ids), "outputs": tensors})
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the files of all ranks, once the result is written."""
        for path in self.folder.glob(f"rank*{SUFFIX}"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self, path: Path) -> bool:
        """Take over the whole lines of a file; a torn last line is cut off. Returns whether they are of this evaluation."""
        if not path.is_file():
            return False
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if not lines or json.loads(lines[0]).get("digest") != self.digest:
            return False
        for line in lines[1:]:
            batch = json.loads(line)
            outputs = tuple(
                torch.tensor(each["values"], dtype=getattr(torch, each["dtype"])) for each in batch["outputs"]
            )
            self._outputs[batch["split"], tuple(batch["examples"])] = outputs
        if path == self.file and len(whole) < len(content):
            os.truncate(path, len(whole))
        return True
