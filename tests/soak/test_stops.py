"""A signal in each phase of a run: it ends the run at once, or within one step and its save, and nothing is lost.

Where a phase is long it is made so: the process that sends the signal does nothing for a minute, as in compiled code.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import BERT, COMMON, SESSION, TESTED, VALIDATED
from comparison import differences
from faults import Faults
from workspace import Workspace

from protoformer.distributed.signals import PATIENCE

MINUTE = 60.0
SPARE = 10.0  # seconds that a busy machine takes longer
CLASSIFICATION = (
    f"{BERT} task=glue/mrpc source=sample source.rows=120 init_from=scratch recipe.epochs=2 recipe.batch_size=16 "
    f"task.max_len=32 trainer.checkpoint_every=100 {COMMON}"
)
TRANSLATION = (
    "model=transformer_tiny model.d_model=32 task=translate/multi30k_en_de source=sample source.rows=60 "
    f"recipe.max_steps=4 recipe.batch_size=300 trainer.checkpoint_every=100 {COMMON}"
)
TRAINING = "protoformer.modules.task_module:TaskModule.training_step"
ENCODING = "protoformer.data.datamodules.classification:ClassificationDataModule.encode"
EPOCH_END = "protoformer.training.callbacks.checkpointing:SaveLastCheckpoint.on_train_epoch_end"


class Phase(NamedTuple):
    """A phase of a command: the call at which the signal comes, the step that is then named, the calls there may be of it."""

    command: str
    call: str
    nth: int = 1
    stall: float = 0.0
    step: int | None = None
    calls: int | None = None


PHASES = {
    "building": Phase(CLASSIFICATION, f"{SESSION}._build_trainer", stall=MINUTE),
    "tokenising": Phase(CLASSIFICATION, ENCODING, stall=MINUTE, calls=1),
    "compiling": Phase(CLASSIFICATION, TRAINING, stall=MINUTE, calls=1),
    "step": Phase(CLASSIFICATION, TRAINING, nth=3, stall=0.5, step=3, calls=3),
    "validation": Phase(CLASSIFICATION, VALIDATED, stall=0.5, step=8, calls=1),
    "beam search": Phase(TRANSLATION, VALIDATED, nth=2, stall=0.5, step=4, calls=2),
    "between epochs": Phase(CLASSIFICATION, EPOCH_END, step=9),
    "evaluation": Phase(CLASSIFICATION, TESTED, stall=MINUTE, calls=1),
}
EXIT_CODES = {SIGTERM: 143, SIGUSR1: 143, SIGHUP: 143, SIGINT: 130}
QUICK = {  # the others are slow tests
    ("tokenising", SIGHUP, "cpu"), ("compiling", SIGUSR1, "cpu"), ("validation", SIGTERM, "cpu"),
    ("between epochs", SIGINT, "cpu"), ("evaluation", SIGTERM, "cpu"),
}  # fmt: skip


def cases() -> list[object]:
    return [
        pytest.param(phase, number, hardware, marks=() if (phase, number, hardware) in QUICK else pytest.mark.slow)
        for phase in PHASES
        for number in EXIT_CODES
        for hardware in ("cpu", *(["ddp_cpu"] if number == SIGTERM else []))
    ]


def calls(trace: Path, name: str) -> int:
    return sum(json.loads(line)[1] == name for line in trace.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("phase", "number", "hardware"), cases())
def test_a_signal_is_served_in_every_phase(tmp_path: Path, phase: str, number: int, hardware: str) -> None:
    words, call, nth, stall, step, most_calls = PHASES[phase]
    if hardware == "ddp_cpu":
        stall = max(stall, 2.0)  # until the command has forwarded it to both ranks, also on a busy machine
    workspace, marker, trace = Workspace(tmp_path), tmp_path / "marker", tmp_path / "trace"
    faults = Faults(call, nth=nth, number=number, target="command", marker=str(marker), stall=stall)
    faults = replace(faults, methods=(call,), trace=str(trace))
    process = workspace.start(f"{words} hardware={hardware}", "stopped", faults)
    code = workspace.finish(process, "stopped", 2 * MINUTE)
    seconds = time.time() - marker.stat().st_mtime
    text = (tmp_path / "stopped.log").read_text(encoding="utf-8")
    assert code == EXIT_CODES[number], text
    (error,) = (line for line in text.splitlines() if line.startswith("error: "))
    # ranks tell one another of a stop about once a second: a short validation may end before they have
    steps = [step] if step is None or (phase, hardware) != ("validation", "ddp_cpu") else [step, step + 1]
    at_steps = ["" if each is None else f" at step {each}" for each in steps]
    assert error in [f"error: stopped{at_step}; the same command continues from there" for at_step in at_steps]
    assert seconds < stall % MINUTE + PATIENCE + SPARE
    if most_calls is not None and hardware == "cpu":
        assert calls(trace, call) == most_calls
    assert workspace.orphans(process) == []
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.slow
@pytest.mark.parametrize("hardware", ["cpu", "ddp_cpu", "fsdp_cpu"])
def test_a_beam_search_that_is_left_is_begun_again(tmp_path: Path, hardware: str) -> None:
    words, call, nth, *_ = PHASES["beam search"]
    words = f"{words} hardware={hardware}"
    workspace = Workspace(tmp_path)
    whole = workspace.start(words, "whole", Faults())
    faults = Faults(call, nth=nth, number=SIGTERM, target="command", marker=str(tmp_path / "marker"), stall=1.5)
    stopped = workspace.start(words, "stopped", faults)
    assert workspace.finish(stopped, "stopped", 2 * MINUTE) == 143
    assert "stopped at step 4" in (tmp_path / "stopped.log").read_text(encoding="utf-8")
    assert workspace.finish(workspace.start(words, "stopped", Faults()), "stopped", 2 * MINUTE) == 0
    assert workspace.finish(whole, "whole", 2 * MINUTE) == 0
    assert differences(workspace.run_folder("whole"), workspace.run_folder("stopped")) == []
