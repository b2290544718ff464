"""Probes: scores of other tasks within a training run, which is the same run without them."""

import json
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, InterruptedRunError, UserError
from protoformer.models.weights import read_pickle
from protoformer.modules.in_context.module import InContextModule
from protoformer.runs.metrics import read_metrics
from protoformer.training.measures.unchanged import unchanged
from protoformer.training.run import train

from ..forked_ranks import forked_ranks
from .kept_checkpoints import kept_checkpoints

MODEL = ["model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.max_seq_len=64", "model.dropout=0.1"]
WORDS = [
    *("model=gpt2_tiny", *MODEL, "task=pretrain/clm", "task.module.sample_tokens=0", "task.data.held_out=0.003"),
    *("source=sample", "source.rows=60", "tracking=none", "hardware.threads=1", "recipe.batch_size=4"),
    *("recipe.max_steps=4", "trainer.log_every=1", "trainer.checkpoint_every=1", "trainer.keep_optimizer=true"),
]
PROBES = ["task.probe_every=2", "task.probe_rows=12", "task.probe_train_rows=20"]
ENTRIES = 'task.probes=["incontext/copa task.shots=1",glue/sst2,glue/mnli]'
SPEEDS = ("time", *(f"train/{name}" for name in ("examples_per_s", "tokens_per_s", "flops_per_s", "mfu", "data_wait")))


def config(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides])


def only_run(outputs: Path) -> Path:
    return next(outputs.glob("*/*/*/*/config.yaml")).parent


def logged(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(run / "metrics.jsonl")]


def probed(run: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in logged(run) if any(key.startswith("probe/") for key in line)}


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_pickle(run / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def test_a_run_that_stops_early_is_scored_at_its_last_step(tmp_path: Path) -> None:
    stopping = (
        "recipe.early_stopping={patience:1,min_delta:100}",
        "trainer.val_check_interval=1",
        "task.probe_every=3",
    )
    train(config(tmp_path / "out", *stopping, "task.probe_rows=4", 'task.probes=["incontext/copa task.shots=1"]'), "")
    assert list(probed(only_run(tmp_path / "out"))) == [0, 2]


def test_probes_change_nothing_and_go_on_from_every_checkpoint(tmp_path: Path) -> None:
    train(config(tmp_path / "without"), "")
    with kept_checkpoints(tmp_path) as kept:
        train(config(tmp_path / "whole", *PROBES, ENTRIES), "")
    without, whole = only_run(tmp_path / "without"), only_run(tmp_path / "whole")
    assert [line for line in logged(whole) if "train/loss" in line or "val/score" in line] == logged(without)
    for name, tensor in weights(without).items():
        assert torch.equal(tensor, weights(whole)[name]), name
    scores = probed(whole)
    assert list(scores) == [0, 2, 4]
    assert scores[0]["probe/incontext/copa/accuracy"] != scores[0]["probe/glue/sst2/accuracy"]
    assert {"probe/glue/mnli/matched/accuracy", "probe/glue/mnli/mismatched/accuracy"} <= scores[4].keys()
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    assert result["probes"]["glue/sst2"] == {
        "metric": "probe/glue/sst2/accuracy",
        "steps": [0, 2, 4],
        "values": [scores[step]["probe/glue/sst2/accuracy"] for step in scores],
    }
    assert "probe glue/sst2" in (whole / "card.md").read_text(encoding="utf-8")
    assert len(kept) == 4
    for number in (0, 1):
        outputs = tmp_path / f"again-{number}"
        shutil.copytree(kept[number], outputs / whole.relative_to(tmp_path / "whole"))
        train(config(outputs, *PROBES, ENTRIES), "")
        assert logged(only_run(outputs)) == logged(whole), f"continued from checkpoint {number}"
        for name, tensor in weights(only_run(outputs)).items():
            assert torch.equal(tensor, weights(whole)[name]), (number, name)


def test_a_stop_within_a_probe_is_granted_at_this_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [*PROBES, "task.probes=[incontext/copa]"]
    train(config(tmp_path / "whole", *overrides), "")
    eval_step, requests = InContextModule.eval_step, []

    def stop(self: InContextModule, batch: Any) -> Any:
        requests.append(batch)
        if len(requests) == 2:  # of step 2: one batch holds all rows
            running["module"].stop.signal_number = 15
        return eval_step(self, batch)

    running: dict[str, Any] = {}
    with monkeypatch.context() as patched:
        patched.setattr(InContextModule, "eval_step", stop)
        patched.setattr(pl.LightningModule, "on_fit_start", lambda self: running.update(module=self))
        with pytest.raises(InterruptedRunError, match="stopped at step 2"):
            train(config(tmp_path / "again", *overrides), "")
    assert list(probed(only_run(tmp_path / "again"))) == [0]
    train(config(tmp_path / "again", *overrides), "")
    assert sorted(logged(only_run(tmp_path / "again")), key=str) == sorted(
        logged(only_run(tmp_path / "whole")), key=str
    )


def test_two_ranks_have_the_scores_of_one(tmp_path: Path) -> None:
    overrides = [*PROBES, ENTRIES, "recipe.max_steps=1", "task.probe_rows=13"]
    train(config(tmp_path / "one", *overrides), "")
    with forked_ranks():
        train(config(tmp_path / "two", *overrides, "hardware=ddp_cpu", "hardware.devices=2"), "")
    one, two = (probed(only_run(tmp_path / name)) for name in ("one", "two"))
    assert two[0] == pytest.approx(one[0], rel=1e-5)


def test_an_encoder_is_probed_by_linear_heads(tmp_path: Path) -> None:
    words = ["model=bert_l2_h128", "task=pretrain/mlm_nsp", "model.d_model=16", "model.d_ff=32", "init_from=scratch"]
    tail = ["source=sample", "source.rows=60", "tracking=none", "hardware.threads=1", "recipe.max_steps=2"]
    folders = [f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}"]
    entries = "task.probes=[glue/stsb,swag,glue/rte]"
    train(compose([*words, *tail, *folders, "recipe.batch_size=4", *PROBES, entries]), "")
    scores = probed(only_run(tmp_path / "out"))
    assert list(scores) == [0, 2]
    assert {"probe/glue/stsb/pearson", "probe/swag/accuracy", "probe/glue/rte/accuracy"} <= scores[2].keys()
    assert all(value == value for value in scores[2].values())


def test_modes_and_random_states_are_put_back() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model[1].eval()
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with unchanged(model):
        assert not any(module.training for module in model.modules())
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == [True, True, False, False]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[lm/lambda]", r"task.probes: lm/lambda: task=lm/lambda: no such task; did you mean task=lm/lambada"),
        ("[incontext/copa,incontext/copa]", "task.probes: incontext/copa is named twice"),
        ("[squad/v1]", "task.probes: squad/v1: a probe is a task that needs no training"),
        (
            '["incontext/copa task.shot=1"]',
            "task.probes: incontext/copa task.shot=1: task.shot: .*did you mean.*task.shots",
        ),
        ("[lm/lambada]", "task.probes: lm/lambada: source=sample has no EleutherAI/lambada_openai"),
        ('[""]', "task.probes: an entry is empty"),
        (
            """["lm/files source.files=[it's.txt]"]""",
            r"task.probes: lm/files source.files=\[it's.txt\]: no closing quotation",
        ),
    ],
)
def test_a_wrong_probe_is_one_line(tmp_path: Path, entries: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(config(tmp_path / "out", f"task.probes={entries}"), "")
    assert not list(tmp_path.glob("out/**/config.yaml"))


def test_a_model_of_masked_tokens_has_no_next_token(tmp_path: Path) -> None:
    words = ["model=bert_l2_h128", "task=pretrain/mlm_nsp", "init_from=scratch", "source=sample", "tracking=none"]
    folders = [f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}"]
    with pytest.raises(
        ConfigurationError,
        match=r"task.probes: incontext/copa: model=bert_l2_h128 does not support task=incontext/copa",
    ):
        train(compose([*words, *folders, "task.probes=[incontext/copa]"]), "")
