"""Profile of a few training steps (`debug=profile`): where their time goes, as a table and as a trace."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from protoformer.atomic import replace_atomically, write_text
from protoformer.training.lightning_internals import is_accumulating

log = logging.getLogger(__name__)
WARM_UP = 5  # steps of this process before the measured ones: compilation, choice of kernels, growth of memory
ROWS = 20  # of each table
MODULE = "module "
PARTS = {  # of a step, by the ends of the names of Lightning's actions
    "data wait": ".train_dataloader_next",
    "copy to the device": ".batch_to_device",
    "forward": "Strategy.training_step",
    "backward": "Strategy.backward",
    "whole": "run_training_batch",
}


@dataclass(frozen=True)
class ProfileLine:
    """A line of a table: calls and milliseconds a step."""

    name: str
    calls: float
    milliseconds: float


class ProfileSteps(Callback):
    """Measures `steps` optimizer steps after WARM_UP others, on the first rank: `profile.txt` and `trace.json.gz` in `folder`,
    and the text on the terminal. Once in a process.

    Times are torch.profiler's, which itself takes time at each operation: they compare parts of a step, and are no speed.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.taken = 0  # steps of this process
        self.is_done = False
        self.profiler: profile | None = None
        self._measuring = ExitStack()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: object) -> None:
        if self.profiler is None and not self.is_done and self.taken >= WARM_UP and trainer.is_global_zero:
            self._begin(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: object) -> None:
        if is_accumulating(trainer):
            return
        self.taken += 1
        if self.profiler is not None and self.taken >= WARM_UP + self.steps:
            self._end()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.profiler is not None:
            self._end()  # a validation is no part of a step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.profiler is not None:
            self._end()
        if not self.is_done and trainer.is_global_zero:
            log.warning("debug=profile: nothing was measured; more than %d steps are needed", WARM_UP)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._measuring.close()

    def _begin(self, trainer: pl.Trainer, module: nn.Module) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_initialized() else [])]
        self._measuring.enter_context(_recorded_actions(trainer))
        self._measuring.enter_context(_recorded_modules(module))
        self.profiler = self._measuring.enter_context(profile(activities=activities))

    def _end(self) -> None:
        assert self.profiler is not None
        measured, self.profiler, self.is_done = self.profiler, None, True
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._measuring.close()
        steps = min(self.steps, self.taken - WARM_UP)
        text = report(measured, max(1, steps))
        write_text(self.folder / "profile.txt", text + "\n")
        with replace_atomically(self.folder / "trace.json.gz") as tmp:
            measured.export_chrome_trace(str(tmp.with_suffix(".gz")))  # by its end the profiler knows to compress it
            tmp.with_suffix(".gz").replace(tmp)
        print(f"{text}\n\nprofile  {self.folder / 'profile.txt'}\ntrace    {self.folder / 'trace.json.gz'}", flush=True)


def report(measured: profile, steps: int) -> str:
    """Parts of a step, modules' forward passes, and operations by their own time, in milliseconds a step."""
    averages = measured.key_averages()
    on_device = any(event.self_device_time_total for event in averages)
    spans: dict[str, float] = {}
    modules, operations = [], []
    for event in averages:
        if event.key.startswith(MODULE):
            modules.append(_row(event.key.removeprefix(MODULE), event.count, event.cpu_time_total, steps))
        elif event.is_user_annotation:
            spans |= {part: event.cpu_time_total for part, end in PARTS.items() if event.key.endswith(end)}
        else:
            own = event.self_device_time_total if on_device else event.self_cpu_time_total
            operations.append(_row(event.key, event.count, own, steps))
    parts = [_row(part, steps, spans[part], steps) for part in PARTS if part in spans and part != "whole"]
    whole = spans.get("whole", 0.0) + sum(spans.get(part, 0.0) for part in ("data wait", "copy to the device"))
    inside = sum(spans.get(part, 0.0) for part in ("forward", "backward"))
    parts.append(_row("optimizer and the rest", steps, max(0.0, spans.get("whole", 0.0) - inside), steps))
    total, where = whole / steps / 1000, "the device's own time" if on_device else "own time"
    return "\n\n".join(
        [
            f"{steps} steps of {total:,.2f} ms each by the host's clock, the profiler's own work included",
            _table("part of a step (host)", parts, total, ROWS),
            _table("forward pass of a module (host, with what it calls)", modules, total, ROWS),
            _table(f"operation ({where})", operations, sum(row.milliseconds for row in operations), ROWS),
        ]
    )


def _row(name: str, count: int, microseconds: float, steps: int) -> ProfileLine:
    return ProfileLine(name, count / steps, microseconds / steps / 1000)


def _table(title: str, rows: Sequence[ProfileLine], total: float, number: int) -> str:
    """The longest rows, with their fraction of `total` milliseconds."""
    longest = sorted(rows, key=lambda row: -row.milliseconds)[:number]
    width = max(len(title), *(len(row.name[:60]) for row in longest)) if longest else len(title)
    lines = [f"{title:<{width}}  {'ms/step':>9}  {'fraction':>8}  {'calls/step':>10}"]
    for row in longest:
        percent = f"{100 * row.milliseconds / total:.1f} %" if total else "-"
        lines.append(f"{row.name[:60]:<{width}}  {row.milliseconds:>9.3f}  {percent:>8}  {row.calls:>10.1f}")
    return "\n".join(lines)


class ActionRecords(Profiler):
    """Lightning's actions as spans of torch's profiler."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: dict[str, record_function] = {}

    def start(self, action_name: str) -> None:
        self.spans[action_name] = record_function(action_name)
        self.spans[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        if (span := self.spans.pop(action_name, None)) is not None:
            span.__exit__(None, None, None)


@contextmanager
def _recorded_actions(trainer: pl.Trainer) -> Iterator[None]:
    before, trainer.profiler = trainer.profiler, ActionRecords()  # type: ignore[attr-defined]  # set by its connector
    try:
        yield
    finally:
        trainer.profiler = before  # type: ignore[attr-defined]


@contextmanager
def _recorded_modules(root: nn.Module) -> Iterator[None]:
    """Forward passes of modules as spans; not of compiled ones and their parts, which a hook would break into pieces."""
    compiled = [name for name, part in root.named_modules() if part._compiled_call_impl is not None]
    open_spans: dict[str, list[record_function]] = {}
    with ExitStack() as hooks:
        for name, part in root.named_modules():
            if not name or any(name == each or name.startswith(f"{each}.") for each in compiled):
                continue
            hooks.callback(part.register_forward_pre_hook(partial(_open, open_spans, name)).remove)
            hooks.callback(part.register_forward_hook(partial(_close, open_spans, name)).remove)
        yield


def _open(spans: dict[str, list[record_function]], name: str, *rest: object) -> None:
    span = record_function(f"{MODULE}{name}")
    span.__enter__()
    spans.setdefault(name, []).append(span)


def _close(spans: dict[str, list[record_function]], name: str, *rest: object) -> None:
    spans[name].pop().__exit__(None, None, None)
