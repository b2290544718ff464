"""Predictions of a law that later runs check: made before the run, kept in a file with the runs that they come from."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from protoformer.atomic import write_text
from protoformer.config.resolvers import ladder
from protoformer.errors import UserError
from protoformer.json_files import read_object
from protoformer.reporting.scaling.law import ScalingLaw, law_of, size_of
from protoformer.reporting.scaling.points import LossPoint, check_comparable, differ
from protoformer.scoring.power_law import Interval

LADDER = "gpt2_ladder"
DEPTH = "depth="


@dataclass(frozen=True)
class LossPrediction:
    """The loss of a run of a size that was not trained yet."""

    law: ScalingLaw
    size: int
    loss: Interval
    predicted_at: str  # time, UTC

    @property
    def held_equal(self) -> int:
        """Tokens of a prediction over parameters, parameters of one over tokens."""
        return size_of(self.law.points[0], "tokens" if self.law.variable == "parameters" else "parameters")


@dataclass(frozen=True)
class Verdict:
    """A later run beside its prediction."""

    point: LossPoint
    inside: bool
    in_advance: bool  # whether the prediction was made before the run finished

    def text(self, prediction: LossPrediction) -> str:
        """In a line."""
        loss = prediction.loss
        words = (
            f"{'inside' if self.inside else 'OUTSIDE'}: {self.point.folder} has a loss of {self.point.loss:.4f}; predicted "
            f"{loss.value:.4f}, {loss.low:.4f} to {loss.high:.4f} ({100 * (self.point.loss / loss.value - 1):+.2f} %)"
        )
        late = f"; no test: the run finished {self.point.finished}, the prediction was made {prediction.predicted_at}"
        return words if self.in_advance else words + late


def parsed_size(text: str, law: ScalingLaw) -> int:
    """`--predict`: parameters without embeddings (or tokens), or `depth=8` of the ladder."""
    if text.startswith(DEPTH):
        models = {point.model for point in law.points}
        if law.variable != "parameters" or models != {LADDER}:
            raise UserError(
                f"--predict {text}: a depth is a size of model={LADDER}; these runs need a number of {law.variable}"
            )
        return ladder_size(text.removeprefix(DEPTH))
    try:
        size = int(float(text))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise UserError(f"--predict {text}: expected a number of {law.variable} such as 1e7, or depth=8")
    return size


def ladder_size(depth: object) -> int:
    """Parameters of the ladder's layers, with biases and normalisations."""
    width = ladder.d_model(depth)
    layers = ladder.layer_parameters(depth) // (12 * width**2)
    return ladder.layer_parameters(depth) + 13 * layers * width + 2 * width


def predict(law: ScalingLaw, size: int) -> LossPrediction:
    """The loss of a run of this size that reads the same tokens (or has the same parameters)."""
    return LossPrediction(law, size, law.fit.prediction(float(size)), datetime.now(UTC).isoformat(timespec="seconds"))


def record(prediction: LossPrediction, path: Path) -> None:
    """Write a prediction to a file. Raises UserError for a file that exists: a prediction is not replaced."""
    if path.exists():
        raise UserError(f"{path} exists; a prediction is not replaced, name another file")
    fit = prediction.law.fit
    content = {
        "predicted_at": prediction.predicted_at,
        "variable": prediction.law.variable,
        "size": prediction.size,
        "loss": prediction.loss.value,
        "low": prediction.loss.low,
        "high": prediction.loss.high,
        "level": fit.level,
        "form": fit.form,
        "exponent": fit.exponent().value,
        "runs": [point.as_json() for point in prediction.law.points],
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def read(path: Path) -> LossPrediction:
    """A prediction from its file; the law is that of the recorded runs. Raises UserError for anything else."""
    content = read_object(path, UserError)
    try:
        points = [LossPoint(**run) for run in content["runs"]]
        law = law_of(points, form=content["form"], level=float(content["level"]))
        loss = Interval(*(float(content[key]) for key in ("loss", "low", "high")))
        return LossPrediction(law, int(content["size"]), loss, str(content["predicted_at"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a prediction of `report scaling` ({type(error).__name__}: {error})") from None


def check(prediction: LossPrediction, points: list[LossPoint]) -> list[Verdict]:
    """The verdict on each run of the predicted size; runs that the prediction comes from are passed over.

    Raises UserError for a run that is not comparable, or that has another size or other tokens.
    """
    law = prediction.law
    known = {(point.run_id, point.task, point.model) for point in law.points}
    new = [point for point in points if (point.run_id, point.task, point.model) not in known]
    if not new:
        raise UserError("all of these runs are those that the prediction was made from; give a new run")
    for point in new:
        check_comparable([law.points[0], point])
        _check_size(prediction, point)
    since = _time(prediction.predicted_at)
    return [Verdict(point, prediction.loss.holds(point.loss), since <= _time(point.finished)) for point in new]


def _check_size(prediction: LossPrediction, point: LossPoint) -> None:
    variable = prediction.law.variable
    other: Any = "tokens" if variable == "parameters" else "parameters"
    for name, expected in ((variable, prediction.size), (other, prediction.held_equal)):
        if differ([actual := size_of(point, name), expected]):
            raise UserError(f"{point.folder}: {actual:,} {name}, the prediction is of {expected:,}")


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
