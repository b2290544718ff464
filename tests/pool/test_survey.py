"""Memory of a pool, said before it starts."""

import json

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, UserError
from protoformer.planning import trial_memory
from protoformer.pool import survey as surveys
from protoformer.pool.machine import Gpu, Machine
from protoformer.pool.slots import Slot, Slots
from protoformer.pool.survey import TrialMemory, check_memory, survey

GIB = 2**30
TINY = ["model=bert_l2_h128", "task=glue/mrpc", "source=sample", "init_from=scratch", "tracking=none", "hardware=cpu"]
EIGHT = Slots([Slot(f"core {number}", (number,)) for number in range(8)])


def test_trials_that_do_not_fit_side_by_side_are_refused_with_the_largest_pool() -> None:
    machine = Machine(tuple(range(8)), 10 * GIB)
    trials = [TrialMemory(2 * GIB, 0), TrialMemory(GIB, 0), None]
    with pytest.raises(ConfigurationError, match=r"hardware\.pool=8: 8 trials side by side take 16\.0 GiB .*2\.0 GiB each.*"
                       r"10\.0 GiB are available; the largest pool that fits is hardware\.pool=5"):  # fmt: skip
        check_memory(EIGHT, trials, 24, 1, machine)
    with pytest.raises(ConfigurationError, match=r"workers=8: 8 trials"):
        check_memory(EIGHT, trials, 24, 1, machine, "workers")
    with pytest.raises(ConfigurationError, match="one trial alone does not fit"):
        check_memory(EIGHT, [TrialMemory(11 * GIB, 0)], 24, 1, machine)
    check_memory(EIGHT, trials, 5, 1, machine)  # as many trials as fit
    check_memory(EIGHT, trials, 24, 2, machine)  # of two devices each: four side by side
    check_memory(EIGHT, trials, 24, 1, Machine(tuple(range(8)), None))
    check_memory(EIGHT, [None], 24, 1, machine)


def test_a_card_that_holds_no_trial_is_named() -> None:
    machine = Machine((0, 1), 99 * GIB, (Gpu("0", "a card", 8 * GIB),))
    with pytest.raises(ConfigurationError, match=r"7\.0 GiB of its card with a single row.*a card has 8\.0 GiB"):
        check_memory(Slots([Slot("GPU 0", (0, 1), "0")]), [TrialMemory(GIB, 7 * GIB)], 4, 1, machine)


def test_trials_that_differ_in_seed_alone_are_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[list[dict[str, object]]] = []

    def answer(configs: str) -> str:
        requests.append(json.loads(configs))
        return json.dumps(
            {"gpus": [["a card", 8 * GIB]], "trials": [[n, 0] for n, _ in enumerate(requests[0], start=1)]}
        )

    monkeypatch.setattr(surveys, "estimates_of", answer)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    words = [["seed=1"], ["seed=2"], ["recipe.batch_size=8"], ["seed=3"]]
    here = survey([compose([*TINY, *each]) for each in words])
    assert len(requests[0]) == 2
    assert here.trials == [TrialMemory(1, 0), TrialMemory(1, 0), TrialMemory(2, 0), TrialMemory(1, 0)]
    assert here.machine.gpus == (Gpu("7", "a card", 8 * GIB),)


def test_a_trial_takes_what_its_plan_says_and_its_imports() -> None:
    one, two = (trial_memory.trial_memory(compose([*TINY, *words]), False) for words in ([], ["hardware=ddp_cpu"]))
    assert one is not None
    assert two is not None
    assert one[1] == two[1] == 0
    assert trial_memory.IMPORTS < one[0] < 2 * trial_memory.IMPORTS
    assert one[0] + trial_memory.IMPORTS < two[0] < 3 * one[0]
    on_card = trial_memory.trial_memory(compose([*TINY, "hardware=gpu"]), True)
    assert on_card is not None
    assert on_card[0] < one[0]
    assert 0 < on_card[1] < one[0] - trial_memory.IMPORTS  # a single row at once


def test_what_cannot_be_built_has_no_estimate() -> None:
    assert trial_memory.trial_memory(compose([*TINY, "model.n_heads=3"]), False) is None


def test_an_estimate_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "MODULE", "protoformer.no_such_module")
    with pytest.raises(UserError, match=r"estimate of a trial's memory failed with exit code 1: .*No module named"):
        surveys.estimates_of("[]")
