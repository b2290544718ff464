"""The reader of metrics.jsonl."""

import json
import math
from pathlib import Path
from typing import Any


def _odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; "nan" and "inf" come back as numbers."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the line that a killed run was writing
        lines.append({k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in line.items()})
    return lines
