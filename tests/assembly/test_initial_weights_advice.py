"""What is advised where published weights cannot be fetched."""

import pytest

from protoformer import hub
from protoformer.assembly.initial_weights import find_initial_weights
from protoformer.config.compose import compose
from protoformer.errors import WeightsError


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
