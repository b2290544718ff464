"""metrics.jsonl: every logged number, one JSON object a line, in the run folder whatever tracker is used."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from protoformer.atomic import named_if_full, write_text
from protoformer.runs.metrics import read_metrics, to_json_line


class MetricsLog(Logger):
    """Rank zero appends; each line is flushed, so that a killed run keeps all but the line it was writing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "metrics.jsonl"
        self.lines = 0  # so far; checkpoints hold it, since an evaluation logs at the step of the last one

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """The config stands in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: float(value) for key, value in metrics.items()}
        line: dict[str, Any] = {"step": step, "epoch": int(values.pop("epoch", 0)), "time": round(time.time(), 3)}
        with named_if_full(self.file), self.file.open("a", encoding="utf-8") as file:
            file.write(to_json_line(line | values))
        self.lines += 1

    @rank_zero_only
    def truncate(self, step: int, lines: int | None) -> None:
        """Drop what was logged after the checkpoint of `step`, when there were `lines`, that a run continues from; also a line
        that was cut short. `truncate(0, 0)` begins anew; None: an earlier version did not count."""
        kept = []
        if self.file.exists():
            logged = read_metrics(self.file)
            kept = [line for line in logged if line["step"] is not None and line["step"] <= step][:lines]
            write_text(self.file, "".join(map(to_json_line, kept)))
        self.lines = len(kept)
