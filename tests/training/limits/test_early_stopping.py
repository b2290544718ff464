"""Early stopping; from every checkpoint in `test_resume`."""

import json
from pathlib import Path

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.reporting.results import summary
from protoformer.training.run import train

from ...forked_ranks import forked_ranks


@pytest.mark.parametrize("hardware", ["cpu", "ddp_cpu"])
def test_all_ranks_stop_at_one_step_and_the_result_says_which(tmp_path: Path, hardware: str) -> None:
    words = [
        *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=48", "init_from=scratch", "tracking=none"),
        *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=8", "recipe.epochs=9", "task.max_len=24"),
        *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
        "recipe.early_stopping={patience:2,min_delta:100}",  # no score can rise by 100 points
        f"seed={2**32 - 1}",  # the largest, which the second rank's generator starts one beyond
        *("hardware.threads=1", f"hardware={hardware}", f"paths.outputs={tmp_path}/out", f"paths.cache={tmp_path}/cache"),
    ]  # fmt: skip
    with forked_ranks():
        train(compose(words), "")
    (file,) = (tmp_path / "out").rglob("result.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["training"] | {"steps": 6, "stopped_early": True, "ended_by": "early_stopping"} == result["training"]
    assert "stopped early at step 6" in summary(result)["training"]


CORPUS = [
    *("model=gpt2_tiny", "task=pretrain/clm", "source=sample", "source.rows=60", "tracking=none", "hardware.threads=1"),
    *("model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.max_seq_len=64", "task.module.sample_tokens=0"),
    *("recipe.batch_size=4", "recipe.max_steps=4", "trainer.val_check_interval=1"),
    "recipe.early_stopping={patience:1,min_delta:100}",
]  # fmt: skip


def test_documents_that_are_held_out_are_a_dev_set(tmp_path: Path) -> None:
    train(
        compose([*CORPUS, "task.data.held_out=0.1", f"paths.outputs={tmp_path}/out", f"paths.cache={tmp_path}/c"]), ""
    )
    (file,) = (tmp_path / "out").rglob("result.json")
    training = json.loads(file.read_text(encoding="utf-8"))["training"]
    assert (training["steps"], training["ended_by"]) == (2, "early_stopping")


def test_nothing_to_validate_on_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs rows to validate on, and none are held out"):
        train(
            compose([*CORPUS, "task.data.held_out=0", f"paths.outputs={tmp_path}/out", f"paths.cache={tmp_path}/c"]), ""
        )
    assert not list(tmp_path.rglob("*.ckpt"))
