"""Labels that a task's yaml or its data name, where no model is built."""

from inspect import signature

import pytest

from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.own_data import with_own_data
from protoformer.config.compose import compose
from protoformer.data.sources.sample import SampleSource
from protoformer.modules import InContextModule

LABELLED = [
    "incontext/boolq",
    "incontext/cb",
    "incontext/glue/rte",
    "incontext/rte",
    "incontext/wic",
    "incontext/anli_r1",
]


@pytest.mark.parametrize("task", LABELLED)
def test_labels_of_prompts_stay_with_the_rows(task: str) -> None:
    config = compose(["model=gpt2_tiny", f"task={task}", "source=sample", "init_from=scratch"])
    found = with_own_data(config, SampleSource(seed=0, rows=40), InitialWeights("scratch"))["task"]
    assert len(found["rows"]["labels"]) >= 2
    assert set(found["module"]) <= {"_target_", *signature(InContextModule).parameters}


def test_labels_that_are_typed_reach_the_head_of_own_data() -> None:
    config = compose(["model=bert_l2_h128", "task=classify", "task.rows.text=a", "task.rows.label=b",
                      "task.rows.labels=[no,yes]", "source=files", "source.files=[x.csv]"])  # fmt: skip
    found = with_own_data(config, SampleSource(seed=0, rows=40), InitialWeights("scratch"))["task"]
    assert found["module"]["labels"] == found["rows"]["labels"] == ["no", "yes"]
