"""The caches of tokens as other users of a machine find them."""

import os
from pathlib import Path

import numpy as np

from protoformer.data.cache import Table, cached


def test_a_cache_has_the_modes_of_the_umask_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    table = Table(np.arange(3), np.zeros(3, dtype=np.uint8), np.array([0, 1, 3]), stats={"origin": "here"})
    before = os.umask(0o022)
    try:
        cached(tmp_path, {"a": 1}, lambda: table, Table)
    finally:
        os.umask(before)
    (folder,) = (tmp_path / "tokens").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert cached(tmp_path, {"a": 1}, lambda: table, Table).ids.tolist() == [0, 1, 2]
