"""Samples of a language model at each validation: in the run folder, on the terminal, in the tracker."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.atomic import write_text
from protoformer.modules.evaluation import Sample
from protoformer.runs.metrics import read_json_lines
from protoformer.training.checkpoints import VALIDATION_IS_DUE
from protoformer.training.trackers import tracking

MAX_PRINTED = 160  # characters of a sample on the terminal


class LogSamples(Callback):
    """Appends to `samples.jsonl`, one line a sample, with the step. A continued run removes the lines of later steps."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "samples.jsonl"
        self.validation_is_due = False  # that of the step which the run continues from

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.validation_is_due = checkpoint.get(VALIDATION_IS_DUE, False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.file.exists():
            last = trainer.global_step - self.validation_is_due
            kept = [line for line in read_samples(self.file) if line["step"] <= last]
            write_text(self.file, "".join(map(_line, kept)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        samples = [
            sample for evaluation in pl_module.evaluations.get("val", {}).values() for sample in evaluation.samples
        ]
        if not samples:
            return
        step = trainer.global_step
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(_line({"step": step, "prompt": each.prompt, "text": each.text}) for each in samples)
        first = next((each for each in samples if each.text.strip()), samples[0])  # a text may end at once
        print(f"step {step}  writes: {_printable(first)}", flush=True)
        tracking.log_samples(trainer.loggers, step, [(each.prompt, each.text) for each in samples])


def read_samples(path: Path) -> list[dict[str, Any]]:
    """All complete lines."""
    return read_json_lines(path)


def _line(sample: dict[str, object]) -> str:
    return json.dumps(sample, ensure_ascii=False) + "\n"


def _printable(sample: Sample) -> str:
    """One line for the terminal, without control characters."""
    text = " ".join(f"{sample.prompt}{sample.text}".split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= MAX_PRINTED else f"{text[:MAX_PRINTED]}..."
