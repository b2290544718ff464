"""Early stopping; from every checkpoint in `test_resume`."""

import json
from pathlib import Path

import pytest

from protoformer.config.compose import compose
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
        *("hardware.threads=1", f"hardware={hardware}", f"paths.outputs={tmp_path}/out", f"paths.cache={tmp_path}/cache"),
    ]  # fmt: skip
    with forked_ranks():
        train(compose(words), "")
    (file,) = (tmp_path / "out").rglob("result.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["training"] | {"steps": 6, "stopped_early": True, "ended_by": "early_stopping"} == result["training"]
    assert "stopped early at step 6" in summary(result)["training"]
