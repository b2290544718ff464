"""Last layers of initial weights that are drawn anew (`recipe.reinit_layers`)."""

import logging
from pathlib import Path

import pytest
import torch

from protoformer.assembly.build import build
from protoformer.commands import train
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError

WORDS = ["model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=30", "tracking=none", "model.d_model=16",
         "model.d_ff=32", "model.n_heads=2", "hardware=cpu", "hardware.threads=1"]  # fmt: skip


def state(*words: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return build(compose([*WORDS, *words])).module.state_dict()


def test_the_last_layer_and_the_pooler_are_drawn_and_all_else_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
    assert train.main([*WORDS, "init_from=scratch", "recipe.max_steps=2", "recipe.batch_size=8", *places]) == 0
    (result,) = (tmp_path / "outputs").rglob("result.json")
    from_run = f"init_from={result.parent}"
    loaded, drawn = state(from_run, *places), state("init_from=scratch", *places)
    monkeypatch.setattr(logging.getLogger("protoformer"), "propagate", True)  # as before the command
    with caplog.at_level("INFO", "protoformer"):
        actual = state(from_run, "recipe.reinit_layers=1", *places)
    assert "drawn anew (recipe.reinit_layers=1): stack.layers.1, pooler" in caplog.text
    anew = ("backbone.stack.layers.1.", "backbone.pooler.")
    for name, tensor in actual.items():
        assert torch.equal(tensor, (drawn if name.startswith(anew) else loaded)[name]), name
    assert not torch.equal(loaded["backbone.pooler.dense.weight"], drawn["backbone.pooler.dense.weight"])
    with pytest.raises(ConfigurationError, match=r"recipe\.reinit_layers=3: the model has fewer layers \(stack: 2\)"):
        state(from_run, "recipe.reinit_layers=3", *places)


def test_without_initial_weights_there_is_nothing_to_draw_anew() -> None:
    with pytest.raises(ConfigurationError, match=r"recipe\.reinit_layers=1 draws .* init_from=scratch has none"):
        state("init_from=scratch", "recipe.reinit_layers=1")
