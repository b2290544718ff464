"""Search spaces: what a sweep varies, key by key, in plain values.

recipe.lr: {log_uniform: [1e-5, 1e-3]}     recipe.batch_size: {choice: [16, 32]}      model.n_layers: {int: [2, 12], step: 2}
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protoformer.config.names.suggest import advice
from protoformer.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna.trial import Trial

CHOICES = ("choice", "values")
RANGES = {  # name -> whether its numbers are whole, and whether they are drawn on a logarithmic scale
    "uniform": (False, False),
    "log_uniform": (False, True),
    "int": (True, False),
    "log_int": (True, True),
}
PLAIN = re.compile(r"[\w.:/@+-][\w.:/@+ -]*")  # a text that Hydra reads as it is
WORDS_OF_YAML = ("null", "true", "false", "yes", "no", "on", "off")
Point = dict[str, object]  # a value for each key, as Optuna keeps it


@dataclass(frozen=True)
class Choices:
    """A list of values, each as the text that a command line has behind the equals sign."""

    texts: tuple[str, ...]

    def suggest(self, trial: "Trial", key: str) -> object:
        """A trial's value: the one that it has, or one that the sampler draws."""
        return trial.suggest_categorical(key, self.texts)

    @property
    def probes(self) -> tuple[object, ...]:
        """Values to check before the first trial: all of them."""
        return self.texts

    def plain(self) -> object:
        """As a sweep's file has it."""
        return {"choice": list(self.texts)}


@dataclass(frozen=True)
class NumberRange:
    """Numbers from `low` to `high`, both included."""

    kind: str  # of RANGES
    low: float
    high: float
    step: float | None = None

    def suggest(self, trial: "Trial", key: str) -> object:
        whole, log = RANGES[self.kind]
        if whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=log, step=int(self.step or 1))
        return trial.suggest_float(key, self.low, self.high, log=log, step=self.step)

    @property
    def probes(self) -> tuple[object, ...]:
        whole, _ = RANGES[self.kind]
        return (int(self.low), int(self.high)) if whole else (self.low, self.high)

    def numbers(self) -> list[float] | None:
        """All numbers of the range; None where it is continuous, or on a logarithmic scale."""
        whole, log = RANGES[self.kind]
        if log or not (whole or self.step):
            return None
        step = self.step or 1
        count = int((self.high - self.low) / step + 1e-9) + 1
        numbers = [self.low + i * step for i in range(count)]
        return [int(number) for number in numbers] if whole else [float(f"{number:.12g}") for number in numbers]

    def plain(self) -> object:
        step = {} if self.step is None else {"step": self.step}
        return {self.kind: [self.low, self.high], **step}


Space = dict[str, Choices | NumberRange]


def parse_space(node: object, where: str) -> Space:
    """The space that a mapping of keys describes. Raises ConfigurationError, which begins with `where`."""
    if not isinstance(node, Mapping):
        raise ConfigurationError(f"{where}: space={node}: a mapping of keys, as in recipe.lr: {{choice: [1e-4, 3e-4]}}")
    return {str(key): _parsed(value, f"{where}: space: {key}") for key, value in node.items()}


def _parsed(node: object, where: str) -> Choices | NumberRange:
    example = "{choice: [16, 32]}, {int: [2, 12]}, {uniform: [0, 0.3]} or {log_uniform: [1e-5, 1e-3]}"
    if not isinstance(node, Mapping) or not node:
        hint = f"write {{choice: {override_text(node)}}}" if isinstance(node, list) else f"write one of {example}"
        raise ConfigurationError(f"{where}: {override_text(node)} is no range; {hint}")
    kinds = [str(name) for name in node if name != "step"]
    for name in kinds:
        if name not in (*CHOICES, *RANGES):
            raise ConfigurationError(f"{where}: {name}: no such range; {advice(name, [*CHOICES, *RANGES])}")
    if len(kinds) != 1:
        raise ConfigurationError(f"{where}: one of {', '.join([*CHOICES, *RANGES])} is needed, not {len(kinds)}")
    kind, values = kinds[0], node[kinds[0]]
    if not isinstance(values, list) or not values:
        raise ConfigurationError(f"{where}: {kind}: {override_text(values)} is not a list of values")
    if kind in RANGES:
        return _number_range(kind, values, node.get("step"), where)
    if "step" in node:
        raise ConfigurationError(f"{where}: step belongs to int or uniform, not to {kind}")
    return choices([override_text(value) for value in values], where)


def choices(texts: Sequence[str], where: str) -> Choices:
    """Choices that differ."""
    twice = [text for text in texts if list(texts).count(text) > 1]
    if twice:
        raise ConfigurationError(f"{where}: {twice[0]} stands there twice")
    return Choices(tuple(texts))


def _number_range(kind: str, values: Sequence[object], step: object, where: str) -> NumberRange:
    whole, log = RANGES[kind]
    if len(values) != 2:
        raise ConfigurationError(
            f"{where}: {kind} has a lower and an upper end, as in {kind}: [1, 8]; found {len(values)}"
        )
    low, high = (_number(value, whole, f"{where}: {kind}") for value in values)
    if low >= high or (log and low <= 0):
        above = "above 0 and " if log else ""
        raise ConfigurationError(
            f"{where}: {kind}: [{low:g}, {high:g}]: the lower end must be {above}below the upper one"
        )
    if step is None:
        return NumberRange(kind, low, high)
    if log:
        raise ConfigurationError(f"{where}: a logarithmic range has no step")
    size = _number(step, whole, f"{where}: step")
    if not 0 < size <= high - low:
        raise ConfigurationError(f"{where}: step={size:g} must be above 0 and at most {high - low:g}")
    return NumberRange(kind, low, high, size)


def _number(value: object, whole: bool, where: str) -> float:
    """YAML reads 1e-5, without a point, as a text."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise ConfigurationError(f"{where}: {override_text(value)} is not a {'whole ' if whole else ''}number")
    return number


def grid(space: Space, where: str) -> list[Point]:
    """All points, the last key varying fastest. Raises ConfigurationError for a continuous range."""
    texts = [tuple(each.texts) for each in finite(space, where).values()]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*texts)]


def finite(space: Space, where: str) -> dict[str, Choices]:
    """A space of choices alone, for a grid."""
    result = {}
    for key, each in space.items():
        if isinstance(each, NumberRange):
            numbers = each.numbers()
            if numbers is None:
                raise ConfigurationError(
                    f"{where}: space: {key}: {each.kind} has no finite number of values for method: grid; list them as "
                    "{values: [...]}, give a uniform range a step, or choose method: random"
                )
            each = Choices(tuple(override_text(number) for number in numbers))
        result[key] = each
    return result


def covering_points(space: Space) -> Iterator[Point]:
    """Few points in which each value of each key occurs: of a range both ends."""
    probes = {key: each.probes for key, each in space.items()}
    for i in range(max(map(len, probes.values()), default=0)):
        yield {key: values[i % len(values)] for key, values in probes.items()}


def overrides_of(point: Mapping[str, Any]) -> list[str]:
    """A point as words of a command line."""
    return [f"{key}={value if isinstance(value, str) else override_text(value)}" for key, value in point.items()]


def override_text(value: object) -> str:
    """A value as Hydra reads it behind the equals sign: null, true, 1e-05, [1,2], {mask:0.8}, a text (quoted where needed)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(override_text, value)) + "]"
    if not isinstance(value, str):
        return repr(value)
    if value.startswith("${") or (PLAIN.fullmatch(value) and value.lower() not in WORDS_OF_YAML):
        return value
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # as Hydra reads quotes, see config.overrides
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
