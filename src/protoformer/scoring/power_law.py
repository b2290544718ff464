"""Power laws of the loss over a size x (parameters or tokens), fitted to few points, with bootstrap intervals.

- `power`: L = (x_c / x)^alpha (Kaplan et al. 2020, arXiv 2001.08361, equations 1.1 and 1.2).
- `irreducible`: L = E + A x^-alpha, with an irreducible loss E >= 0 (Henighan et al. 2020, arXiv 2010.14701, equation 1.1).

Both minimise the squared residuals of ln L (`irreducible` to first order). Intervals are those of a studentised parametric
bootstrap: normal residuals of the fitted spread (n - p degrees of freedom) are added to the fit, the law is fitted again, and
the deviation of each statistic is divided by the resample's own spread. For `power` that is the t interval of a regression
line; the percentile interval of resampled residuals, the usual one, covers too little with five points.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Form = Literal["power", "irreducible"]
FEWEST = 3  # points of a fit
FEWEST_WITH_IRREDUCIBLE = 5  # points from which three coefficients are fitted
COEFFICIENTS: dict[Form, int] = {"power": 2, "irreducible": 3}
EXPONENTS = (0.01, 3.0)  # searched for `irreducible`
STEPS, ROUNDS = 41, 5  # grid over the exponents, and how often it is made finer around the best


class Interval(NamedTuple):
    """An estimate and its interval."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Laws:
    """Coefficients of several laws: L = irreducible + exp(log_scale) x^-exponent."""

    irreducible: Float[ndarray, "laws"]
    log_scale: Float[ndarray, "laws"]
    exponent: Float[ndarray, "laws"]

    def log_losses(self, sizes: Float[ndarray, "sizes"]) -> Float[ndarray, "laws sizes"]:
        """ln L of each law at each size."""
        power = np.exp(self.log_scale[:, None] - self.exponent[:, None] * np.log(sizes))
        result: Float[ndarray, "laws sizes"] = np.log(self.irreducible[:, None] + power)
        return result


@dataclass(frozen=True)
class Fit:
    """A law fitted to points, and its bootstrap resamples."""

    form: Form
    sizes: Float[ndarray, "points"]
    losses: Float[ndarray, "points"]
    law: Laws  # one
    spread: float  # standard deviation of the residuals of ln L
    resamples: Laws
    resampled_spreads: Float[ndarray, "resamples"]
    level: float
    seed: int

    @property
    def irreducible(self) -> float:
        """The irreducible loss E; 0 for `power`."""
        return float(self.law.irreducible[0])

    @property
    def scale(self) -> float:
        """A of `irreducible`; for `power` x_c, the size at which the loss would be 1."""
        log_scale, exponent = float(self.law.log_scale[0]), float(self.law.exponent[0])
        return float(np.exp(log_scale if self.form == "irreducible" else log_scale / exponent))

    def predicted(self, sizes: Float[ndarray, "sizes"]) -> Float[ndarray, "sizes"]:
        """The law's loss at sizes."""
        return np.asarray(np.exp(self.law.log_losses(sizes)[0]))

    def exponent(self) -> Interval:
        """alpha."""
        value = float(self.law.exponent[0])
        return Interval(value, *(float(each) for each in self._bounds(value, self.resamples.exponent - value)))

    def band(self, sizes: Float[ndarray, "sizes"]) -> tuple[Float[ndarray, "sizes"], Float[ndarray, "sizes"]]:
        """Low and high of the law's own loss at sizes."""
        fitted = self.law.log_losses(sizes)
        low, high = self._bounds(fitted[0], self.resamples.log_losses(sizes) - fitted)
        return np.exp(low), np.exp(high)

    def prediction(self, size: float) -> Interval:
        """The loss of one more run of this size: the law's uncertainty and a run's own scatter together."""
        at = np.array([float(size)])
        fitted = self.law.log_losses(at)
        scatter = np.random.default_rng(self.seed + 1).normal(size=len(self.resampled_spreads)) * self.spread
        off = self.resamples.log_losses(at) - fitted - scatter[:, None]
        low, high = (float(np.exp(each[0])) for each in self._bounds(fitted[0], off))
        return Interval(float(np.exp(fitted[0, 0])), low, high)

    def _bounds(self, value: Any, off: Any) -> tuple[Any, Any]:
        """The studentised interval of a value, from the deviations of its resamples."""
        spreads = self.resampled_spreads.reshape(-1, *[1] * (np.ndim(off) - 1))
        pivots = np.divide(off, spreads, out=np.zeros_like(off), where=spreads > 0)
        low, high = np.quantile(pivots, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return value - high * self.spread, value - low * self.spread


def fit(
    sizes: Float[ndarray, "points"],
    losses: Float[ndarray, "points"],
    form: Form = "power",
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Fit:
    """The law of this form through points.

    Raises ValueError for fewer than three different sizes (`irreducible`: five), for sizes and losses that are not finite and
    above 0, and for a level outside 0 to 1.
    """
    _check(sizes, losses, form)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level must be between 0 and 1, and resamples at least 1, not {level} and {resamples}")
    law, squares = _fitted(sizes, losses[None], form)
    degrees = len(sizes) - COEFFICIENTS[form]
    spread = float(np.sqrt(squares[0] / degrees))
    noise = np.random.default_rng(seed).normal(scale=spread, size=(resamples, len(sizes)))
    resampled, of_resamples = _fitted(sizes, np.exp(law.log_losses(sizes) + noise), form)
    return Fit(form, sizes, losses, law, spread, resampled, np.sqrt(of_resamples / degrees), level, seed)


def left_out_error(sizes: Float[ndarray, "points"], losses: Float[ndarray, "points"], form: Form) -> float:
    """Root mean square error of ln L at each point, by the law through the others."""
    errors = []
    for index in range(len(sizes)):
        others = np.arange(len(sizes)) != index
        law, _ = _fitted(sizes[others], losses[None, others], form)
        errors.append(float(law.log_losses(sizes[[index]])[0, 0] - np.log(losses[index])))
    return float(np.sqrt(np.mean(np.square(errors))))


def best_form(errors: dict[Form, float]) -> Form:
    """The form that predicts points that are left out best; `power` where nothing was tried."""
    best: Form = "power"
    for form, error in errors.items():
        if error < errors[best]:
            best = form
    return best


def _check(sizes: Float[ndarray, "points"], losses: Float[ndarray, "points"], form: Form) -> None:
    different, needed = len(np.unique(sizes)), FEWEST_WITH_IRREDUCIBLE if form == "irreducible" else FEWEST
    if different < needed:
        raise ValueError(f"{different} different sizes; {form} needs at least {needed}")
    for name, values in (("size", sizes), ("loss", losses)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"a {name} is not finite and above 0: {values.tolist()}")


def _fitted(
    sizes: Float[ndarray, "points"], losses: Float[ndarray, "fits points"], form: Form
) -> tuple[Laws, Float[ndarray, "fits"]]:
    """The law through each row of losses, and its sum of squared residuals of ln L."""
    law = _power(sizes, losses) if form == "power" else _with_irreducible(sizes, losses)
    return law, np.square(law.log_losses(sizes) - np.log(losses)).sum(axis=1)


def _power(sizes: Float[ndarray, "points"], losses: Float[ndarray, "fits points"]) -> Laws:
    """A straight line through ln x and ln L."""
    x, y = np.log(sizes), np.log(losses)
    centred = x - x.mean()
    exponent = -(y - y.mean(axis=1, keepdims=True)) @ centred / np.square(centred).sum()
    return Laws(np.zeros(len(losses)), y.mean(axis=1) + exponent * x.mean(), exponent)


def _with_irreducible(sizes: Float[ndarray, "points"], losses: Float[ndarray, "fits points"]) -> Laws:
    """For an exponent, E and A are a linear regression weighted by 1 / L^2; the exponent is searched on ever finer grids."""
    middle = np.exp(np.log(sizes).mean())  # keeps x^-alpha near 1
    low, high = np.log(EXPONENTS[0]), np.log(EXPONENTS[1])
    grids = np.broadcast_to(np.linspace(low, high, STEPS), (len(losses), STEPS))
    rows = np.arange(len(losses))
    for _ in range(ROUNDS):
        irreducible_losses, scales, squares = _linear(
            np.exp(grids)[:, :, None], (sizes / middle)[None, None], losses[:, None]
        )
        best = squares.argmin(axis=1)
        width = (grids[:, 1] - grids[:, 0])[:, None]
        centre = grids[rows, best][:, None]
        best_laws = (np.exp(centre[:, 0]), irreducible_losses[rows, best], scales[rows, best])
        grids = np.clip(centre + np.linspace(-1, 1, STEPS) * width, low, high)
    exponents, irreducible, scale = best_laws
    return Laws(irreducible, np.log(scale) + exponents * np.log(middle), exponents)


def _linear(exponents: Any, sizes: Any, losses: Any) -> tuple[Any, Any, Any]:
    """E >= 0 and A > 0 that minimise the sum of ((E + A x^-alpha) / L - 1)^2, for each fit and exponent; and the sums."""
    ones, powers = 1 / losses, sizes**-exponents / losses
    aa, ab, bb = (np.broadcast_to(each, powers.shape).sum(axis=-1) for each in (ones**2, ones * powers, powers**2))
    a, b = np.broadcast_to(ones, powers.shape).sum(axis=-1), powers.sum(axis=-1)
    determinant = aa * bb - ab**2
    irreducible_losses = np.divide(
        a * bb - b * ab, determinant, out=np.zeros_like(a), where=determinant > 1e-12 * aa * bb
    )
    scales = (b - irreducible_losses * ab) / bb
    without = (irreducible_losses < 0) | (scales <= 0)
    irreducible_losses, scales = np.where(without, 0.0, irreducible_losses), np.where(without, b / bb, scales)
    residuals = irreducible_losses[..., None] * ones + scales[..., None] * powers - 1
    return irreducible_losses, scales, np.square(residuals).sum(axis=-1)
