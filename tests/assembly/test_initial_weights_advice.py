"""What is advised where published weights cannot be fetched."""

from pathlib import Path

import pytest

from protoformer import hub
from protoformer.assembly.initial_weights import find_initial_weights
from protoformer.config.compose import compose
from protoformer.errors import RunFolderError, WeightsError
from protoformer.runs.folder import RunFolder


@pytest.mark.parametrize(("task", "trains"), [("incontext/copa", False), ("lm/wikitext2", False), ("glue/rte", True)])
def test_a_run_that_trains_nothing_is_not_sent_to_random_weights(
    monkeypatch: pytest.MonkeyPatch, task: str, trains: bool
) -> None:
    def unreachable(repo: str, revision: str | None) -> tuple[None, str]:
        raise WeightsError(f"{repo}: {hub.ADVICE_LATER}")

    monkeypatch.setattr(hub, "fetch", unreachable)
    with pytest.raises(WeightsError) as caught:
        find_initial_weights(compose(["model=gpt2", f"task={task}"]))
    assert "init_from=<folder>" in str(caught.value)
    assert ("init_from=scratch" in str(caught.value)) == trains


def test_a_copy_of_a_run_without_its_weights_is_told(tmp_path: Path) -> None:
    config = compose(["model=bert_l2_h128", "task=glue/rte", f"paths.outputs={tmp_path}"])
    run = RunFolder.locate(config)
    run.write_config(config)
    start = compose(["model=bert_l2_h128", "task=glue/mrpc", f"init_from={run.path}"])
    with pytest.raises(WeightsError, match=r"a run without checkpoints; .* a copy without them"):
        find_initial_weights(start)
    tested = {**config, "task": {**config["task"], "splits": {"train": None}}, "init_from": str(tmp_path / "weights")}
    (tmp_path / "weights").mkdir()
    run.write_config(tested)
    assert find_initial_weights(start).folder == tmp_path / "weights"  # what the run tested
    run.config_file.write_text("model: {}\n")
    with pytest.raises(RunFolderError, match="it lacks task, choices"):
        find_initial_weights(start)
