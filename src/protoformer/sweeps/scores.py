"""Scores of a trial, from the folder of its run: at each validation, and at the end."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from protoformer.errors import RunFolderError
from protoformer.runs import reader
from protoformer.runs.metrics import read_curves


@dataclass(frozen=True)
class RunScores:
    """What a run folder says of the objective."""

    folder: Path
    objective: str

    def validations(self) -> list[float]:
        """The objective at each validation so far, in order of steps."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return []
        with contextlib.suppress(RunFolderError, FileNotFoundError):  # replaced while it is read: at the next look
            return read_curves(file).get(self.objective, ([], []))[1]
        return []

    def final(self) -> float:
        """The objective of the finished run. Raises RunFolderError where it has none."""
        result = reader.read_result(self.folder)
        if result is None:
            raise RunFolderError(f"{self.folder} has no result.json")
        metrics = {"val/score": result.get("score"), **result["metrics"]}
        value = metrics.get(self.objective)
        if not isinstance(value, int | float):
            numbers = sorted(key for key, each in metrics.items() if isinstance(each, int | float))
            raise RunFolderError(f"no {self.objective} among its metrics: {', '.join(numbers) or 'none'}")
        return float(value)
