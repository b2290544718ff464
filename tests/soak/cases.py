"""Cases: what is run, on which hardware, at which moment a signal comes, and which. All pairs of these are drawn evenly."""

import json
import math
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from faults import OS_CALLS, Faults

BERT = "model=bert_l2_h128 model.d_model=32 model.n_heads=2 model.d_ff=64"
GPT = "model=gpt2_tiny model.d_model=32 model.d_ff=64"
COMMON = "tracking=none trainer.keep_optimizer=true trainer.log_every=1 hardware.threads=1 hardware.grace=30"
SHORT = "recipe.batch_size=16 recipe.lr=3e-3 trainer.checkpoint_every=3"
TRAINED = {  # dropout stays on: the states of random generators are part of a checkpoint
    "classification": f"{BERT} task=glue/mrpc source=sample source.rows=120 init_from=scratch recipe.epochs=3 {SHORT} "
    "task.max_len=32 trainer.val_check_interval=5",
    "span": f"{BERT} task=squad/v2 source=sample source.rows=60 init_from=scratch recipe.epochs=3 {SHORT} "
    "task.max_len=96 task.data.stride=32 task.data.max_question=16",
    "clm": f"{GPT} task=pretrain/clm source=sample task.max_len=64 recipe.max_steps=24 recipe.batch_size=8 "
    "task.module.sample_tokens=4 trainer.val_check_interval=7 trainer.limit_val_batches=4 trainer.checkpoint_every=3",
    "mlm_nsp": f"{BERT} task=pretrain/mlm_nsp source=sample task.max_len=128 recipe.max_steps=24 recipe.batch_size=8 "
    "recipe.lr=1e-3 recipe.warmup=10 trainer.val_check_interval=7 trainer.limit_val_batches=4 trainer.checkpoint_every=3",
    "translation": "model=transformer_tiny model.d_model=32 task=translate/multi30k_en_de source=sample source.rows=60 "
    "recipe.epochs=3 recipe.batch_size=300 recipe.average=3 trainer.checkpoint_every=3",
}
EVALUATED = {  # by the weights of a run of `clm`
    "zero_shot": f"{GPT} task=lm/files source=files source.files=[{{text}}] task.max_len=48 task.strides=[48,12] "
    "hardware.micro_batch=4 init_from={weights}",
    "in_context": f"{GPT} task=incontext/copa source=sample task.shots=2 task.draws=6 init_from={{weights}}",
}
KINDS = {**TRAINED, **EVALUATED}
HARDWARE = {
    "cpu": "",
    "workers": "hardware.workers=2",
    "ddp": "hardware=ddp_cpu",
    "ddp_workers": "hardware=ddp_cpu hardware.workers=2",
    "fsdp": "hardware=fsdp_cpu",
}
SAME_BITS = {"workers": "cpu", "ddp_workers": "ddp"}  # data workers change no bit

SESSION = "protoformer.training.session:TrainingSession"
EVALUATION = "protoformer.training.session:evaluate"
STEP = "protoformer.training.callbacks.step_logger:StepLogger.on_train_batch_end"
SAVE = "protoformer.training.callbacks.checkpointing:SaveLastCheckpoint._save"
VALIDATED = "protoformer.modules.task_module:TaskModule.validation_step"
TESTED = "protoformer.modules.task_module:TaskModule.test_step"
METHODS = (f"{SESSION}.__init__", f"{SESSION}._build_trainer", EVALUATION, STEP, SAVE, VALIDATED, TESTED)


class Point(NamedTuple):
    """A call, as in `Faults`; a signal comes at one of such calls of a run, from the part `first` to the part `last` of all."""

    call: str
    path: str = ""
    before: bool = True
    delay: float = 0.0  # at most
    first: float = 0.0
    last: float = 1.0


MOMENTS = {  # in the order in which a run comes to them
    "start-up": (
        Point("link", "lock"), Point("link", "lock", before=False), Point("replace", "code_digest"),
        Point("replace", "config.yaml"),
        Point(f"{SESSION}.__init__"), Point(f"{SESSION}.__init__", before=False), Point(f"{SESSION}._build_trainer"),
    ),
    "first epoch": (Point(STEP, delay=0.03, last=0.3), Point(STEP, last=0.3)),
    "before a save": (Point(SAVE),),
    "within a save": (
        Point("fsync", ".last.ckpt"), Point(SAVE, delay=0.01), Point("replace", "checkpoints/last.ckpt"),
        Point("fsync", "/shards/"),
    ),
    "after a save": (Point("replace", "checkpoints/last.ckpt", before=False), Point(SAVE, before=False)),
    "validation": (Point(VALIDATED), Point(VALIDATED, delay=0.02)),
    "later epoch": (Point(STEP, delay=0.03, first=0.4), Point(STEP, first=0.4)),
    "last save": (
        Point("fsync", ".last.ckpt", first=1.0), Point("replace", "checkpoints/last.ckpt", first=1.0),
        Point("replace", "checkpoints/last.ckpt", before=False, first=1.0), Point("replace", "averaged.ckpt"),
        Point("unlink", "/step-", before=False), Point("replace", "checkpoints/best.ckpt", first=1.0),
    ),
    "evaluation": (
        Point(EVALUATION), Point(TESTED), Point(TESTED, delay=0.02), Point("fsync", "/evaluation/"),
        Point("fsync", "/evaluation/", before=False),
    ),
    "results": (
        Point("replace", "/predictions/"), Point("replace", "result.json"), Point("replace", "result.json", before=False),
        Point("replace", "card.md"), Point("unlink", "/lock"),
    ),
}  # fmt: skip
SIGNALS = ("KILL", "TERM", "INT", "HUP", "USR1")
TARGETS = {  # a terminal sends to the group; a rank is killed by the kernel, the others come from outside to the command
    "KILL": ("self", "self", "command", "group"),
    "TERM": ("command", "group"),
    "INT": ("command", "group"),
    "HUP": ("command", "group"),
    "USR1": ("command",),
}


@dataclass(frozen=True)
class Case:
    """One signal: to what, where, when and which."""

    kind: str
    hardware: str
    moment: str
    name: str  # of the signal

    def __str__(self) -> str:
        return f"{self.name} {self.moment}"


def possible(kinds: Sequence[str], hardware: Sequence[str]) -> list[Case]:
    """All cases; what trains nothing saves nothing, and has no ranks that share weights."""
    return [
        Case(kind, where, moment, name)
        for kind in kinds
        for where in hardware
        for moment in MOMENTS
        for name in SIGNALS
        if kind in TRAINED or (where != "fsdp" and moment in ("start-up", "evaluation", "results"))
    ]


class Deck:
    """Draws cases: of some random ones always that whose pairs of properties have come least."""

    def __init__(self, cases: Sequence[Case], generator: random.Random) -> None:
        self.cases, self.generator = cases, generator
        self.counts: Counter[tuple[str, ...]] = Counter()

    def draw(self, kind: str | None = None, hardware: str | None = None) -> Case:
        cases = [case for case in self.cases if kind in (None, case.kind) and hardware in (None, case.hardware)]
        case = min(self.generator.sample(cases, min(60, len(cases))), key=self._used)
        self.counts.update(_properties(case))
        return case

    def put_back(self, case: Case) -> None:
        """It could not be shown."""
        self.counts.subtract(_properties(case))

    def _used(self, case: Case) -> float:
        return sum(self.counts[each] * (3 if len(each) == 1 else 1) for each in _properties(case))


def _properties(case: Case) -> list[tuple[str, ...]]:
    values = (case.kind, case.hardware, case.moment, case.name)
    return [*((value,) for value in values), *combinations(values, 2)]


class Trace:
    """The calls of an undisturbed run: how often each process made each."""

    def __init__(self, file: Path) -> None:
        self.calls = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def count(self, point: Point) -> int:
        """The calls of a point in the process that makes most of them."""
        by_process: Counter[int] = Counter()
        for process, name, *paths in self.calls:
            if name == point.call and (name not in OS_CALLS or any(point.path in path for path in paths)):
                by_process[process] += 1
        return max(by_process.values(), default=0)


def faults_of(case: Case, trace: Trace, share: float, generator: random.Random) -> Faults | None:
    """Faults that show a case where `share` of the run is left at most; None: the run has no such call."""
    points = [(point, number) for point in MOMENTS[case.moment] if (number := trace.count(point))]
    if not points:
        return None
    point, number = generator.choice(points)
    first = max(1, math.ceil(point.first * number * share))
    last = max(first, math.floor(point.last * number * share))
    return Faults(
        call=point.call, path=point.path, nth=generator.randint(first, last), before=point.before,
        delay=generator.uniform(0.0, point.delay) if point.delay else 0.0, number=getattr(signal, f"SIG{case.name}"),
        target=generator.choice(TARGETS[case.name]),
    )  # fmt: skip


def with_surroundings(faults: Faults, generator: random.Random) -> Faults:
    """Now and then with another clock, or on a slow disk."""
    clock = generator.choice((0.0, 0.0, 0.0, -3600.0, 3600.0))
    return replace(faults, clock=clock, fsync_seconds=generator.choice((0.0, 0.0, 0.0, 0.02)))


def command(kind: str, hardware: str, files: Mapping[str, Path]) -> str:
    """The words of a command; `files` are the text and the weights of what is evaluated."""
    return f"{KINDS[kind].format_map(files)} {COMMON} {HARDWARE[hardware]}"
