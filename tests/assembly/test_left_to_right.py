"""Left-to-right targets need a causal model: any other sees the answers."""

import pytest

from protoformer.assembly.build import build
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError

TASK = ["task=pretrain/ltr", "source=sample", "source.rows=40", "init_from=scratch"]


def test_bert_is_causal_by_its_recipe() -> None:
    config = compose(["model=bert_l2_h128", "task=pretrain/ltr"])
    assert (config["model"]["attention"], config["model"]["template"]["pooled_token"]) == ("causal", "last")
    assert config["recipe"]["max_steps"] == 1_000_000


def test_a_model_that_reads_both_sides_is_refused() -> None:
    config = compose(
        ["model=bert_l2_h128", *TASK, "model.attention=bidirectional", "model.template.pooled_token=first"]
    )
    with pytest.raises(ConfigurationError, match="task=pretrain/ltr predicts each token from those before it"):
        build(config)
