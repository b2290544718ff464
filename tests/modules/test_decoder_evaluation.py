"""What kinds that train nothing share: a model of the next token, and bounds of memory that are numbers of tokens."""

from typing import Any

import pytest

from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.modules.in_context.module import InContextModule
from protoformer.modules.perplexity.module import PerplexityModule

SIZES: dict[str, Any] = {"vocab_size": 9, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8, "max_seq_len": 8}
SPLITS: dict[Any, Any] = {"val": [], "test": ["test"]}


def test_a_model_without_next_tokens_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^perplexities need a model of the next token: choose one, such as"):
        PerplexityModule(backbone=bert(**SIZES), splits=SPLITS)
    with pytest.raises(ConfigurationError, match=r"^in-context tasks need a model of the next token"):
        InContextModule(backbone=bert(**SIZES), splits=SPLITS, metrics=["accuracy"])


def test_both_kinds_keep_their_evaluation_until_the_run_ends() -> None:
    backbone = gpt(**SIZES)
    for module in (
        PerplexityModule(backbone=backbone, splits=SPLITS),
        InContextModule(backbone=backbone, splits=SPLITS, metrics=["accuracy"]),
    ):
        assert module.is_causal_lm
        assert module.resumes_evaluation
        assert module.backbone is backbone
        assert module.splits == SPLITS


@pytest.mark.parametrize("name", ["tokens_per_pass", "cached_tokens"])
def test_a_bound_of_memory_is_at_least_one_token(name: str) -> None:
    bound: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigurationError, match=rf"^task.module.{name}=0: at least 1"):
        InContextModule(backbone=gpt(**SIZES), splits=SPLITS, metrics=["accuracy"], **bound)
