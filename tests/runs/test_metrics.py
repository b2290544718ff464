"""metrics.jsonl read back."""

from pathlib import Path

import pytest

from protoformer.errors import RunFolderError
from protoformer.runs.metrics import read_curves, read_metrics

LINES = '{"step": 1, "val/score": 0.5}\n{"step": 2, "val/score": "nan"}\n{"step": 2, "val/score": 0.75}\n'


def test_a_step_that_was_logged_twice_counts_as_the_later_line_has_it(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LINES + '{"step": 3, "val')  # a killed run was writing it
    assert read_curves(file) == {"val/score": ([1, 2], [0.5, 0.75])}
    assert len(read_metrics(file)) == 3


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("{}\n" + LINES)
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl, line 1: metrics cannot be read"):
        read_curves(file)


@pytest.mark.parametrize("read", [read_curves, read_metrics])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, read) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(LINES.encode("utf-16"))
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl: not UTF-8 text"):
        read(file)
