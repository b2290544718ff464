"""The time of a training: at a given speed, on cards of a name, or by the speed of this machine's matrix products."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from protoformer.distributed.devices import DATA_SHEETS, data_sheet, matrix_flops, peak_of
from protoformer.errors import ConfigurationError
from protoformer.reporting.tables import format_duration

YEAR = 365.25 * 24 * 3600
# training speed as a fraction of the speed of bare matrix products, at most; see benchmarks/results/glue-minilm.md
TRAINING_EFFICIENCY = 0.5
# of a card's peak by its data sheet, where no other fraction is given: GPT-3's on V100 was 0.21, PaLM's on TPU v4 0.46
# (arXiv 2204.02311, table 3)
USUAL_MFU = 0.4


@dataclass(frozen=True)
class Speed:
    """Tokens a second of all devices together, or the name of a card, with the fraction of its peak that training reaches; with
    neither this machine is measured."""

    tokens_per_s: float | None = None
    card: str | None = None
    mfu: float | None = None

    def time(self, flops: float, tokens: float, devices: int, hardware: Mapping[str, Any]) -> str:
        """A line on the time of so many FLOPs, or tokens, on so many devices.

        Raises ConfigurationError for a card whose speed is not known.
        """
        if self.tokens_per_s is not None:
            return (
                f"{_duration(tokens / self.tokens_per_s)} at {self.tokens_per_s:,.0f} tokens/s of all devices together"
            )
        if self.card is None:
            return self._measured(flops, devices, hardware)
        sheet = data_sheet(self.card)
        if sheet is None:
            raise ConfigurationError(f"--card {self.card}: not in the list: {', '.join(DATA_SHEETS)}")
        peak, mfu = peak_of(sheet, hardware["precision"]), self.mfu or USUAL_MFU
        cards = f"{devices:,} x {self.card}" if devices > 1 else self.card
        return (
            f"{_duration(flops / (peak * mfu * devices))} on {cards}, at {mfu:.0%} of the {flops_text(peak)}/s of its data "
            f"sheet in {hardware['precision']}"
        )

    def _measured(self, flops: float, devices: int, hardware: Mapping[str, Any]) -> str:
        """From the speed of matrix products, where the requested kind of device is here."""
        if hardware["accelerator"] == "gpu" and torch.cuda.device_count() < devices // hardware["nodes"]:
            return "not estimated, since those GPUs are not here to be measured: --card, or --tokens-per-second"
        device = "cuda" if hardware["accelerator"] != "cpu" and torch.cuda.is_available() else "cpu"
        measured = matrix_flops(device, hardware["precision"], seconds=0.1)
        ranks = devices if device == "cuda" else hardware["nodes"]  # CPU processes share the cores
        mfu = self.mfu or TRAINING_EFFICIENCY
        return (
            f"about {_duration(flops / (measured * mfu * ranks))} at most, at {mfu:.0%} of the {flops_text(measured)}/s that "
            "matrix products reach here now"
        )


MEASURED = Speed()


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < YEAR else f"{seconds / YEAR:,.1f} years"


def flops_text(number: float) -> str:
    for name, size in (("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {name}FLOP"
    return f"{number:.0f} FLOP"
