"""The law of a set of losses: over which variable, in which form, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting.scaling.points import LossPoint, check_comparable, differ
from protoformer.scoring import power_law
from protoformer.scoring.power_law import FEWEST, FEWEST_WITH_IRREDUCIBLE, Fit, Form

Variable = Literal["parameters", "tokens"]
SYMBOLS = {"parameters": "N", "tokens": "D"}


@dataclass(frozen=True)
class ScalingLaw:
    """The law that points follow over a variable, and the other form where there are points enough for it."""

    variable: Variable
    points: Sequence[LossPoint]
    fit: Fit  # used for predictions
    other: Fit | None
    left_out_errors: dict[Form, float]  # of ln L, where both forms are fitted

    def size(self, point: LossPoint) -> int:
        """Where a point stands on the axis."""
        return size_of(point, self.variable)


def size_of(point: LossPoint, variable: Variable) -> int:
    """N without embeddings, or tokens."""
    return point.layers if variable == "parameters" else point.tokens


def law_of(points: Sequence[LossPoint], *, form: Form | None = None, level: float = 0.95) -> ScalingLaw:
    """The law of comparable losses over what differs between them.

    `form` None means the one that predicts points that are left out better. Raises UserError where terms differ, where both
    or neither of size and tokens differ, and for too few different sizes.
    """
    check_comparable(points)
    variable = _variable(points)
    sizes = np.array([size_of(point, variable) for point in points], dtype=float)
    losses = np.array([point.loss for point in points])
    different = len(np.unique(sizes))
    needed = FEWEST_WITH_IRREDUCIBLE if form == "irreducible" else FEWEST
    if different < needed:
        law = "a law with an irreducible loss" if form == "irreducible" else "a power law"
        raise UserError(f"{different} different sizes in {variable}; {law} needs at least {needed}")
    if not np.isfinite(losses).all():
        raise UserError(f"{points[int(np.argmin(np.isfinite(losses)))].folder}: the loss is not finite")
    errors: dict[Form, float] = {}
    if different >= FEWEST_WITH_IRREDUCIBLE:
        errors = {each: power_law.left_out_error(sizes, losses, each) for each in power_law.COEFFICIENTS}
    if form is None:
        form = power_law.best_form(errors)
    fits = {each: power_law.fit(sizes, losses, each, level=level) for each in {form, *errors}}
    return ScalingLaw(variable, points, fits.pop(form), next(iter(fits.values()), None), errors)


def described(fit: Fit, variable: Variable) -> str:
    """A fitted law in a line: its formula, exponent with interval, constants, and the spread of the residuals."""
    symbol, exponent = SYMBOLS[variable], fit.exponent()
    alpha = f"alpha = {exponent.value:.4f} ({interval_text(fit.level)} {exponent.low:.4f} to {exponent.high:.4f})"
    formula, constants = (
        (f"L = ({symbol}_c / {symbol})^alpha", f"{symbol}_c = {fit.scale:.3g}")
        if fit.form == "power"
        else (f"L = E + A / {symbol}^alpha", f"E = {fit.irreducible:.3f}, A = {fit.scale:.3g}")
    )
    return f"{formula}: {alpha}, {constants}; spread of the residuals {100 * fit.spread:.2f} %"


def interval_text(level: float) -> str:
    """`95 % interval`."""
    return f"{100 * level:g} % interval"


def _variable(points: Sequence[LossPoint]) -> Variable:
    sizes, tokens = (differ([size_of(point, name) for point in points]) for name in ("parameters", "tokens"))
    if sizes and tokens:
        raise UserError(
            "these runs differ both in parameters and in tokens; give runs of one size, or runs that read the same tokens"
        )
    if not sizes and not tokens:
        raise UserError(f"1 different size in parameters and in tokens; a power law needs at least {FEWEST}")
    return "parameters" if sizes else "tokens"
