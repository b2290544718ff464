"""Calibration in a run's card: a table, the reliability diagram, and what it says at this number of examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer.reporting.tables import escape_markdown, markdown_table
from protoformer.views import reliability

FEW = 200  # examples below which bins are too small to say much


def section(folder: Path, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """The card's section on calibration; writes reliability.svg. Empty where the result has none."""
    if not splits:
        return ""
    reliability.draw(folder / "reliability.svg", splits)
    heads = ("split", "examples", "accuracy", "confidence", "ECE", "ECE by chance", "Brier", "log loss")
    rows = [
        row
        for name, entry in splits.items()
        for row in (
            _row(name, entry["as_is"]),
            *([_row(f"{name}, T = {entry['temperature']['value']:.2f}", entry["scaled"])] if "scaled" in entry else []),
        )
    ]
    parts = ["## Calibration", markdown_table(heads, rows, right=heads[1:])]
    parts.append(
        "Expected calibration error (ECE) of the predicted label or answer, in 15 bins of equal width; times 100, as are "
        "accuracy and confidence. *By chance*: the mean ECE of a calibrated model with these confidences and this number of "
        "examples, and its 95th percentile. Brier score: squared distance to the reference, summed over labels (0 to 2); of "
        "answers that are right or wrong that of the confidence (0 to 1)."
    )
    parts += [_verdict(name, entry["as_is"]) for name, entry in splits.items()]
    temperature = next((entry["temperature"] for entry in splits.values() if "temperature" in entry), None)
    if temperature is not None:
        parts.append(_of_temperature(temperature))
    parts.append("![Accuracy over confidence, by bin, before and after temperature scaling](reliability.svg)")
    return "\n\n".join(parts)


def _row(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    mean, high = values["chance"]
    return (
        name,
        f"{values['examples']:,}",
        *(f"{100 * values[key]:.2f}" for key in ("accuracy", "confidence", "ece")),
        f"{100 * mean:.2f} (to {100 * high:.2f})",
        f"{values['brier']:.4f}",
        f"{values['log_loss']:.4f}",
    )


def _verdict(name: str, values: Mapping[str, Any]) -> str:
    """Whether the error is more than chance gives, and in which direction."""
    split = escape_markdown(name)
    if values["ece"] <= values["chance"][1]:
        text = f"{split}: the ECE is within what chance gives a calibrated model."
    else:
        direction = "more" if values["confidence"] > values["accuracy"] else "less"
        text = f"{split}: the ECE is beyond chance; on average the model is {direction} confident than right."
    return text + (" The examples are few: bins hold a handful each." if values["examples"] < FEW else "")


def _of_temperature(temperature: Mapping[str, Any]) -> str:
    split = escape_markdown(temperature["fitted_on"])
    interval = f"{temperature['low']:.2f} to {temperature['high']:.2f}"
    too = "far from" if temperature["high"] < 1 else "close to"
    holds_one = temperature["low"] <= 1 <= temperature["high"]
    meaning = ", which holds 1, no change" if holds_one else f"; without it probabilities are too {too} certainty"
    return (
        f"Temperature T = {temperature['value']:.2f} (95 % interval {interval}{meaning}), of the greatest likelihood on {split}"
        ": divide logits by it for calibrated probabilities; predictions stay as they are. "
        f"On {split} itself the numbers at T are fitted, and so flatter. T is searched from 0.05 to 20; where it is an end "
        "of that, the likelihood has no maximum in between, as where all predictions are right."
    )
