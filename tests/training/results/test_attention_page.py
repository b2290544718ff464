"""`views.attention=true`: every kind of task leaves a page of an example that its data hold."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.assembly.build import build
from protoformer.config.compose import compose
from protoformer.runs.folder import RunFolder
from protoformer.runs.identity import run_id
from protoformer.training.results import attention_page
from protoformer.training.trackers.tracking import log_images
from protoformer.views.attention_grid import draw
from protoformer.views.panels import Panel, Token

from ...e2e.commands import SMALL, Workspace

TRANSLATION = ["encoder self-attention", "decoder self-attention", "attention to the source"]
KINDS = {
    "glue/mrpc": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "swag": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "squad/v1": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "pretrain/mlm_nsp": ("model=bert_l2_h128", ["encoder self-attention"], "[CLS]"),
    "glue/rte": ("model=gpt2_tiny", ["decoder self-attention"], "[start]"),
    "pretrain/clm": ("model=gpt2_tiny", ["decoder self-attention"], None),
    "translate/multi30k_en_de": ("model=transformer_tiny", TRANSLATION, None),
}
QUICK = ("glue/mrpc", "translate/multi30k_en_de")


def leave(workspace: Path, *overrides: str) -> list[dict[str, Any]]:
    """The panels of the page that a run would leave; nothing is trained."""
    config = compose(
        ["source=sample", "init_from=scratch", f"paths.cache={workspace}", f"paths.outputs={workspace}", *overrides]
    )
    parts = build(config)
    parts.data.setup()
    attention_page.write_attention_page(config, parts, RunFolder(workspace, "id"), [], 7)
    page = (workspace / "attention.html").read_text(encoding="utf-8")
    actual = re.search(r'id="data">(.*?)</script', page)
    assert actual
    return json.loads(actual[1])["panels"]


@pytest.mark.parametrize(
    "task", [task if task in QUICK else pytest.param(task, marks=pytest.mark.slow) for task in KINDS]
)
def test_every_kind_leaves_a_page_and_pictures(task: str, tmp_path: Path) -> None:
    model, names, first = KINDS[task]
    panels = leave(tmp_path, model, f"task={task}", "source.rows=40", "model.n_layers=2")
    assert [panel["name"] for panel in panels] == names
    tokens = panels[0]["queries"]
    assert first is None or tokens[0][0] == first
    assert [kind for *_, kind in tokens].count(2) == attention_page.PADDING
    assert len(tokens) <= attention_page.MAX_TOKENS + attention_page.PADDING
    for name in names:
        picture = tmp_path / f"attention_{re.sub('[ -]', '_', name)}.png"
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_is_too_much_is_told_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("protoformer.views.inspected_model.MAX_WEIGHTS", 100)
    with caplog.at_level(logging.WARNING), pytest.raises(FileNotFoundError):
        leave(tmp_path, "model=bert_l2_h128", "task=glue/mrpc", "source.rows=40")
    assert "views.attention: 2 layers of 2 heads over" in caplog.text


def test_it_renames_no_run() -> None:
    words = ["model=bert_l2_h128", "task=glue/mrpc", "source=sample"]
    assert run_id(compose([*words, "views.attention=true"])) == run_id(compose(words))


def test_pictures_reach_tensorboard(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(save_dir=tmp_path, name="", version="tensorboard")
    weights = torch.full((2, 3, 4, 4), 0.25)
    tokens = [Token("a")] * 4
    panel = Panel("encoder self-attention", tokens, tokens, [1, 2], weights, torch.ones(2, 4, 4, dtype=torch.bool))
    picture = draw(panel, "a model", tmp_path / "heads.png")
    log_images([logger], 7, {"attention/encoder self-attention": picture})
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (image,) = events.Images("attention/encoder self-attention")
    assert image.step == 7
    assert image.width > image.height > 100


@pytest.mark.slow
def test_a_run_leaves_its_page_and_wandb_gets_the_picture(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    completed = workspace.run(*SMALL, "recipe.epochs=1", "tracking=wandb_offline", "views.attention=true")
    assert completed.returncode == 0, completed.stderr
    (run,) = workspace.runs()
    assert (run / "attention.html").stat().st_size > 20_000
    (picture,) = run.glob("attention_*.png")
    (sent,) = run.glob("wandb/offline-run-*/files/media/images/attention/*.png")
    assert sent.read_bytes() == picture.read_bytes()
