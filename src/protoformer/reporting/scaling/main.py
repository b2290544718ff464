"""`protoformer report scaling`: losses and in-context scores over size, tokens and shots; laws, predictions, their checks."""

import csv as csv_files
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from protoformer.atomic import replace_atomically
from protoformer.errors import UserError
from protoformer.reporting.scaling import prediction as predictions
from protoformer.reporting.scaling import scores as score_curves
from protoformer.reporting.scaling.law import SYMBOLS, ScalingLaw, described, interval_text, law_of
from protoformer.reporting.scaling.points import LossPoint, ScorePoint, read_points
from protoformer.reporting.scaling.prediction import LossPrediction, Verdict
from protoformer.reporting.tables import counted, make_console, print_line, print_table
from protoformer.scoring.power_law import Form
from protoformer.views.scaling import FORMATS, LossPanel, ScorePanel, draw

HEAD = ("model", "seed", "parameters", "without embeddings", "tokens", "loss", "law", "residual %")
AXES = {"parameters": "parameters without embeddings", "tokens": "tokens read"}


def main(
    folders: Sequence[str],
    *,
    form: Form | None = None,
    level: float = 0.95,
    predict: str | None = None,
    record: str | None = None,
    check: str | None = None,
    figure: str | None = None,
    csv: str | None = None,
) -> None:
    """Print what the finished runs in `folders` say about scaling; see the command's help for the rest.

    Raises UserError for runs that no law can be fitted to, and for files that cannot be used.
    """
    if figure is not None and Path(figure).suffix not in FORMATS:
        raise UserError(f"--figure {figure}: the file must end in {' or '.join(FORMATS)}")
    console = make_console()
    losses, scores, left_out = read_points(folders)
    if not losses and (predict or check):
        raise UserError("no language model among these runs; a law of the loss needs their pretraining runs")
    panels: list[LossPanel | ScorePanel] = []
    law: ScalingLaw | None = None
    if check is not None:
        prediction = predictions.read(Path(check))
        law = prediction.law
        panels.append(_print_check(console, prediction, predictions.check(prediction, losses)))
    elif losses:
        law = law_of(losses, form=form, level=level)
        _print_law(console, law)
        panels.append(_predicted(console, law, predict, record))
    panels += score_curves.report(console, scores)
    for line in left_out:
        print_line(console, f"Left out: {line}.")
    if figure is not None:
        draw(panels, Path(figure))
    if csv is not None:
        _write_csv(Path(csv), law, losses, scores)


def _print_law(console: Console, law: ScalingLaw) -> None:
    fitted = law.fit.predicted(law.fit.sizes)
    rows = [_row(point, float(loss)) for point, loss in zip(law.points, fitted, strict=True)]
    title = f"loss over {AXES[law.variable]}, {law.points[0].task}"
    print_table(HEAD, rows, title, console=console, framed=True, right=HEAD[1:])
    for fit in (law.fit, law.other):
        if fit is not None:
            used = " (used)" if fit is law.fit and law.other is not None else ""
            print_line(console, f"{described(fit, law.variable)}{used}.")
    if law.left_out_errors:
        errors = ", ".join(f"{form} {100 * error:.2f} %" for form, error in law.left_out_errors.items())
        print_line(console, f"Error of the loss at a point by the law through the others: {errors}.")
    else:
        print_line(console, "A law with an irreducible loss has three coefficients: it is fitted from five sizes on.")
    seeds = {point.seed for point in law.points}
    if len(seeds) == 1:
        print_line(console, f"One seed ({seeds.pop()}): intervals come from the scatter around the law alone.")


def _row(point: LossPoint, fitted: float) -> list[str]:
    counts = (point.parameters, point.layers, point.tokens)
    residual = 100 * (point.loss / fitted - 1)
    return [
        point.model,
        str(point.seed),
        *(f"{count:,}" for count in counts),
        f"{point.loss:.4f}",
        f"{fitted:.4f}",
        f"{residual:+.2f}",
    ]


def _predicted(console: Console, law: ScalingLaw, predict: str | None, record: str | None) -> LossPanel:
    """The panel of a law, with the prediction for `predict`, which is printed and written to a file."""
    if predict is None:
        if record is not None:
            raise UserError(f"--record {record}: nothing is predicted; add --predict")
        return _panel(law)
    prediction = predictions.predict(law, predictions.parsed_size(predict, law))
    loss = prediction.loss
    farther = f"{prediction.size / max(law.fit.sizes):.2g} x the largest here"
    print_line(
        console,
        f"Predicted for {SYMBOLS[law.variable]} = {prediction.size:,} ({farther}): loss {loss.value:.4f}, "
        f"{interval_text(law.fit.level)} of one run {loss.low:.4f} to {loss.high:.4f}.",
    )
    if record is not None:
        predictions.record(prediction, Path(record))
        print_line(console, f"Recorded in {record}; after the run: protoformer report scaling RUN --check {record}")
    return _panel(law, prediction)


def _print_check(console: Console, prediction: LossPrediction, verdicts: Sequence[Verdict]) -> LossPanel:
    law = prediction.law
    print_line(
        console,
        f"Prediction of {prediction.predicted_at} for {SYMBOLS[law.variable]} = {prediction.size:,}, from "
        f"{counted(len(law.points), 'run')}; {described(law.fit, law.variable)}.",
    )
    for verdict in verdicts:
        print_line(console, verdict.text(prediction))
    return _panel(law, prediction, verdicts)


def _panel(law: ScalingLaw, prediction: LossPrediction | None = None, verdicts: Sequence[Verdict] = ()) -> LossPanel:
    return LossPanel(
        f"Loss over {law.variable}",
        AXES[law.variable],
        law.fit,
        law.other,
        None if prediction is None else (float(prediction.size), prediction.loss),
        [(float(law.size(verdict.point)), verdict.point.loss) for verdict in verdicts],
    )


def _write_csv(file: Path, law: ScalingLaw | None, losses: Sequence[LossPoint], scores: Sequence[ScorePoint]) -> None:
    """A row for each run: its fields, and of a loss the law's value and the residual."""
    rows: list[dict[str, Any]] = []
    for point in losses:
        assert law is not None  # where there are losses there is a law
        fitted = float(law.fit.predicted(np.array([float(law.size(point))]))[0])
        rows.append({**asdict(point), "law": fitted, "residual": point.loss / fitted - 1})
    rows += [asdict(point) for point in scores]
    head = list(dict.fromkeys(key for row in rows for key in row))
    with replace_atomically(file) as tmp, tmp.open("w", encoding="utf-8", newline="") as lines:
        writer = csv_files.DictWriter(lines, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
