"""`views.attention=true`: every kind of task leaves a page of an example that its data hold."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from protoformer.runtime import attention_views
from protoformer.runtime.building import build
from protoformer.runtime.compose import compose
from protoformer.runtime.naming import run_id
from protoformer.runtime.run_folder import RunFolder

KINDS = {
    "glue/mrpc": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "swag": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "squad/v1": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "pretrain/mlm_nsp": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "glue/rte": ("model=gpt2_tiny", ["decoder self-attention"], "[start]"),
    "pretrain/clm": ("model=gpt2_tiny", ["decoder self-attention"], None),
}


def leave(place: Path, *overrides: str) -> list[dict[str, Any]]:
    """The panels of the page that a run would leave; nothing is trained."""
    config = compose(
        ["source=sample", "init_from=scratch", f"paths.cache={place}", f"paths.outputs={place}", *overrides]
    )
    parts = build(config)
    parts.data.setup()
    attention_views.leave(config, parts, RunFolder(place, "id"), [], 7)
    page = (place / "attention.html").read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script', page)
    assert found
    return json.loads(found[1])["panels"]


@pytest.mark.parametrize("task", KINDS)
def test_every_kind_leaves_a_page_and_pictures(task: str, tmp_path: Path) -> None:
    model, names, first = KINDS[task]
    panels = leave(tmp_path, model, f"task={task}", "source.rows=40", "model.n_layers=2")
    assert [panel["name"] for panel in panels] == names
    tokens = panels[0]["queries"]
    assert first is None or tokens[0][0] == first
    assert [kind for *_, kind in tokens].count(2) == attention_views.PADDING
    assert len(tokens) <= attention_views.LENGTH + attention_views.PADDING
    for name in names:
        picture = tmp_path / f"attention_{re.sub('[ -]', '_', name)}.png"
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_is_too_much_is_told_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("protoformer.runtime.attention.LARGEST", 100)
    with caplog.at_level(logging.WARNING), pytest.raises(FileNotFoundError):
        leave(tmp_path, "model=bert_l2_h128", "task=glue/mrpc", "source.rows=40")
    assert "views.attention: 2 layers of 2 heads over" in caplog.text


def test_it_renames_no_run() -> None:
    words = ["model=bert_l2_h128", "task=glue/mrpc", "source=sample"]
    assert run_id(compose([*words, "views.attention=true"])) == run_id(compose(words))
