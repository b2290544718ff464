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
