"""Files of a user's own data: a file, or a folder whose files are called after their splits."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AUTO = "auto"  # a split that is looked for by the names below
SPLIT_NAMES = {  # role -> what its files may be called; the first that exists counts
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test",),
}


def own_files(root: Path, splits: Mapping[str, object]) -> list[Path]:
    """The files below a root that the splits of a task may be read from; where there are none, its only file."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        return []
    names = {name for role, split in splits.items() for name in _names(role, split)}
    files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    chosen = [path for path in files if any(re.match(rf"{re.escape(name)}[.-]", path.name) for name in names)]
    return chosen or (files if len(files) == 1 else [])


def _names(role: str, split: Any) -> list[str]:
    """Names of whole splits in what a task says of a role."""
    texts = [] if split is None else [split] if isinstance(split, str) else list(split.values())
    names: list[str] = []
    for text in texts:
        names += SPLIT_NAMES[role] if text == AUTO else [part.partition("[")[0].strip() for part in text.split("+")]
    return names
