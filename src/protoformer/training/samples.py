"""What a language model writes at each validation: in the run folder, on the terminal, in the tracker."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.atomic import write_text
from protoformer.modules.language_modeling import LanguageEvaluation, Sample
from protoformer.runs.metrics import read_json_lines
from protoformer.training import tracking

SHOWN = 160  # characters of a sample on the terminal


class LogSamples(Callback):
    """Appends to `samples.jsonl`, one line a sample, with the step; a run that goes on drops what was written after it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "samples.jsonl"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.file.exists():
            kept = [line for line in read_samples(self.file) if line["step"] <= trainer.global_step]
            write_text(self.file, "".join(map(_line, kept)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        written = [
            sample
            for found in pl_module.evaluations.get("val", {}).values()
            if isinstance(found, LanguageEvaluation)
            for sample in found.samples
        ]
        if not written:
            return
        step = trainer.global_step
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(_line({"step": step, "prompt": one.prompt, "text": one.text}) for one in written)
        shown = next((one for one in written if one.text.strip()), written[0])  # a text may end at once
        print(f"step {step}  writes: {_shown(shown)}", flush=True)
        tracking.log_samples(trainer.loggers, step, [(one.prompt, one.text) for one in written])


def read_samples(path: Path) -> list[dict[str, Any]]:
    """All complete lines."""
    return read_json_lines(path)


def _line(sample: dict[str, Any]) -> str:
    return json.dumps(sample, ensure_ascii=False) + "\n"


def _shown(sample: Sample) -> str:
    """In one line, without what would steer a terminal."""
    text = " ".join(f"{sample.prompt}{sample.text}".split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
