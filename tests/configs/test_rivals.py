"""One name a rival, whatever the task: its family's recipes give it the architecture that a task asks for."""

from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.config.groups import can, options, search_path
from protoformer.errors import ConfigurationError

FOLDERS = search_path()
RIVALS = [name for name in options("model", FOLDERS) if name.startswith(("rnn", "cnn"))]
ENCODERS = [name for name in options("model", FOLDERS) if name.startswith("transformer_encoder")]
TASKS = options("task", FOLDERS)
ARCHITECTURES = {
    **dict.fromkeys(("causal_lm", "in_context", "perplexity"), "decoder"),
    "translation": "encoder_decoder",
}


def composed(model: str, task: str) -> dict[str, Any]:
    return compose([f"model={model}", f"task={task}"])


@pytest.mark.parametrize(
    "task",
    [
        *("glue/mnli", "squad/v2", "swag", "pretrain/mlm_nsp", "pretrain/clm"),
        *("incontext/copa", "incontext/squad_v2", "lm/wikitext2"),
    ],
)
def test_task_decides_the_architecture(task: str) -> None:
    for model in ("rnn", "cnn"):
        config = composed(model, task)
        assert config["model"]["architecture"] == ARCHITECTURES.get(config["task"]["kind"], "encoder")


def test_rivals_run_every_task() -> None:
    for task in TASKS:
        assert can("rnn", task, FOLDERS), task
        assert can("cnn", task, FOLDERS), task


def test_sizes_and_kinds_hold_in_every_architecture() -> None:
    assert {"rnn", "rnn_small", "rnn_tiny", "cnn", "cnn_small", "cnn_tiny", "cnn_dilated", "cnn_separable"} == set(
        RIVALS
    )
    for model in ("rnn_small", "cnn_dilated"):
        nodes = [composed(model, task)["model"] for task in ("glue/rte", "pretrain/clm", "translate/wmt14_en_de")]
        own = [{k: v for k, v in node.items() if k not in ("architecture", "template")} for node in nodes]
        assert own[0] == own[1] == own[2]
        assert [node["architecture"] for node in nodes] == ["encoder", "decoder", "encoder_decoder"]


def test_rivals_translate_by_the_transformers_recipe() -> None:
    """But for the clip; and for French the big Transformer's dropout is its own."""
    for task in ("wmt14_en_fr", "multi30k_de_en"):  # the other two are what these are made of
        expected = composed("transformer", f"translate/{task}")["recipe"]
        for model in ("rnn", "cnn"):
            actual = composed(model, f"translate/{task}")["recipe"]
            assert actual == {**expected, "clip": 5.0}


def test_the_encoder_alone_writes_no_language() -> None:
    assert len(ENCODERS) == 3
    for task in TASKS:
        assert can("transformer_encoder", task, FOLDERS) == (
            not task.startswith(("translate/", "pretrain/clm", "incontext/", "lm/"))
        )
    composed("transformer_encoder", "glue/rte")
    for task in ("translate/wmt14_en_de", "pretrain/clm"):
        with pytest.raises(ConfigurationError, match=r"supported models: .*rnn"):
            composed("transformer_encoder", task)
