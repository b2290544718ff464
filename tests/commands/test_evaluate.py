"""`protoformer evaluate RUN`: what was typed for a run holds for its evaluation too, unless other is typed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from protoformer.cli import main as command
from protoformer.commands.runs.evaluate import literal

CONFIG = {
    "choices": {
        "model": "transformer_tiny", "task": "translate/own", "source": "local",
        "set": ["recipe.lr", "source.root", "task.max_len", "task.rows.source", "task.folds", "task.splits.train"],
    },
    "source": {"root": "my texts"},
    "task": {"max_len": 40, "rows": {"source": "fr"}, "folds": 5, "splits": {"train": "train"}},
}  # fmt: skip


def words_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *given: str) -> list[str]:
    """The overrides that the evaluation adds to those `given`."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    passed: list[list[str]] = []
    monkeypatch.setattr("protoformer.commands.train.main", lambda words, program: passed.append(words) or 0)
    assert command(["evaluate", str(folder), *given]) == 0
    (words,) = passed
    assert words[:4] == [
        "model=transformer_tiny", f"init_from={literal(str(folder))}", "task.splits.train=null", "tracking=none",
    ]  # fmt: skip
    return [word for word in words[4:] if word not in given]


def test_alone_it_scores_the_task_and_data_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["source.root='my texts'", "task.max_len=40", "task.rows.source='fr'"]
    assert words_of(tmp_path, monkeypatch) == ["task=translate/own", "source=local", *typed]
    assert "texts of at most 40 tokens, as in training (task.max_len)" in capsys.readouterr().err


def test_other_data_of_the_same_task_keep_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = words_of(tmp_path, monkeypatch, "task=translate/own", "source=parallel", "source.root=x")
    assert added == ["task.max_len=40", "task.rows.source='fr'"]


def test_another_task_keeps_the_longest_text_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(tmp_path, monkeypatch, "task=translate/wmt14_en_de") == ["task.max_len=40"]
    assert words_of(tmp_path, monkeypatch, "task=translate/wmt14_en_de", "task.max_len=9") == []


@pytest.mark.parametrize("value", ["fr", "a, b", "it's", "/x/y.csv", ["a b", "c"], None, True, 3, {"a": ["x y"]}])
def test_values_are_written_so_that_they_are_read_as_they_were(value: Any) -> None:
    assert OverridesParser.create().parse_override(f"key={literal(value)}").value() == value
