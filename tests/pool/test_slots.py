"""Slots of a pool: which devices hardware.pool means, what is refused, and what a trial's process is pinned to."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from protoformer.errors import ConfigurationError
from protoformer.pool.machine import Gpu, Machine
from protoformer.pool.slots import Placement, Slot, Slots, slots_of

CPU = Machine(tuple(range(8)), None)
CARDS = Machine(tuple(range(8)), None, tuple(Gpu(entry, "a card", 2**34) for entry in ("2", "GPU-77", "5", "6")))


def hardware(**changed: Any) -> dict[str, Any]:
    return {"accelerator": "auto", "devices": 1, "nodes": 1, "threads": None, **changed}


@pytest.mark.parametrize(
    ("size", "threads", "expected"),
    [
        ("all", None, [(i,) for i in range(8)]),
        ("all", 3, [(0, 1, 2), (3, 4, 5)]),
        (2, None, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (3, None, [(0, 1), (2, 3), (4, 5)]),
        (3, 1, [(0,), (1,), (2,)]),
        ([6, 1], None, [(6,), (1,)]),
        ([6, 1, 3, 2], 2, [(6, 1), (3, 2)]),
    ],
)
def test_cores_are_divided_equally(size: Any, threads: int | None, expected: list[tuple[int, ...]]) -> None:
    assert [slot.cores for slot in slots_of(size, hardware(threads=threads), CPU).all] == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("all", [("2", (0, 1)), ("GPU-77", (2, 3)), ("5", (4, 5)), ("6", (6, 7))]),
        (2, [("2", (0, 1, 2, 3)), ("GPU-77", (4, 5, 6, 7))]),
        ([3, 0], [("6", (0, 1, 2, 3)), ("2", (4, 5, 6, 7))]),
    ],
)
def test_each_card_has_its_part_of_the_cores(size: Any, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(slot.gpu, slot.cores) for slot in slots_of(size, hardware(), CARDS).all] == expected


def test_cards_are_left_alone_by_a_pool_on_the_cpu() -> None:
    assert {slot.gpu for slot in slots_of("all", hardware(accelerator="cpu"), CARDS).all} == {None}


@pytest.mark.parametrize(
    ("size", "machine", "changed", "message"),
    [
        ([], CPU, {}, "hardware.pool=[] is empty; name devices ([0,1]), a number of them, or all"),
        ([1, 1], CPU, {}, "hardware.pool=[1,1]: 1 stands there twice"),
        ([0, 8], CPU, {}, "hardware.pool=[0,8]: there is no core 8; there are 8 cores for this process (cores 0-7)"),
        (9, CPU, {}, "hardware.pool=9: there are 8 cores for this process; at most hardware.pool=8"),
        (3, CPU, {"threads": 4}, "hardware.pool=3 of 4 threads: there are 8 cores for this process; at most hardware.pool=2"),
        ("all", CPU, {"threads": 9}, "hardware.pool=all of 9 threads: there are 8 cores for this process; hardware.threads=8"),
        ("all", CPU, {"accelerator": "gpu"}, "hardware.pool=all: no GPU was found here; choose hardware=cpu"),
        ([0, 4], CARDS, {}, "hardware.pool=[0,4]: there is no GPU 4; there are 4 GPUs"),
        (5, CARDS, {}, "hardware.pool=5: there are 4 GPUs; at most hardware.pool=4"),
    ],
)  # fmt: skip
def test_devices_that_are_not_there_are_refused(
    size: Any, machine: Machine, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        slots_of(size, hardware(**changed), machine)


def test_a_trial_takes_a_slot_for_each_device_and_gives_them_back() -> None:
    slots = slots_of(3, hardware(), CARDS)
    assert [slots.needed({"hardware": hardware(devices=devices)}) for devices in (1, 2, "all")] == [1, 2, 3]
    with pytest.raises(ConfigurationError, match=r"hardware\.devices=4 takes 4 slots of the pool, which has 3"):
        slots.needed({"hardware": hardware(devices=4)})
    with pytest.raises(ConfigurationError, match=r"hardware\.nodes=2: a pool is of one machine"):
        slots.needed({"hardware": hardware(nodes=2)})
    two = slots.take(2)
    assert two is not None
    assert two.device == "GPU 0, GPU 1"
    assert two.environ({})["CUDA_VISIBLE_DEVICES"] == "2,GPU-77"
    assert slots.take(2) is None
    assert slots.free == 1
    slots.give_back(two)
    assert slots.take(3) == Placement(slots.all)


def test_one_worker_is_pinned_to_nothing() -> None:
    slots = Slots.anywhere()
    placement = slots.take(slots.needed({"hardware": hardware(devices=4)}))
    assert placement is not None
    assert (placement.environ({"OMP_NUM_THREADS": "3"}), slots.is_pinned) == ({}, False)
    before = os.sched_getaffinity(0)
    with placement.pinned():
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("given", "threads"), [("", "4"), ("2", "2"), ("16", "4"), ("many", "4")])
def test_threads_are_those_of_the_slot_or_fewer(given: str, threads: str) -> None:
    placement = Placement((Slot("cores 0-3", (0, 1, 2, 3)),))
    assert placement.environ({"OMP_NUM_THREADS": given}) == {"OMP_NUM_THREADS": threads}
    assert placement.device == "cores 0-3"


def test_a_started_process_runs_on_its_cores_and_this_one_where_it_did() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with Placement((Slot(f"core {core}", (core,)),)).pinned():
        command = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == f"{{{core}}}\n"
    assert os.sched_getaffinity(0) == before
