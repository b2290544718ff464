"""Ranks that others started are those of one command, or are refused before they share anything."""

import threading
from typing import Any

from torch.distributed import HashStore

from protoformer.distributed.checks.same_command import check_same_command
from protoformer.errors import ConfigurationError

CONFIG = {"seed": 0, "recipe": {"lr": 1e-3}, "choices": {"task": "glue/rte"}, "paths": {"cache": "a"}}


def compared(*configs: dict[str, Any]) -> list[BaseException | None]:
    """How the check ends on each rank."""
    store, ends = HashStore(), [None] * len(configs)

    def rank(number: int) -> None:
        try:
            check_same_command(store, configs[number], number, len(configs))
        except BaseException as error:
            ends[number] = error

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(len(configs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return ends


def test_the_same_command_is_one_run_whatever_the_cache() -> None:
    assert compared(CONFIG, CONFIG, {**CONFIG, "paths": {"cache": "b"}}) == [None, None, None]


def test_another_command_is_refused_on_all_ranks_and_named_once() -> None:
    other = {**CONFIG, "seed": 1, "recipe": {"lr": 2e-3}, "choices": {"task": "glue/sst2"}}
    first, *others = compared(CONFIG, CONFIG, other)
    assert isinstance(first, ConfigurationError)
    message = str(first)
    assert "rank 2 was started with another command than rank 0: recipe.lr=0.002 instead of 0.001" in message
    assert "seed=1 instead of 0" in message
    assert [(type(error), error.code) for error in others if isinstance(error, SystemExit)] == [(SystemExit, 2)] * 2
