"""JSON files of other programs (`config.json`, `tokenizer_config.json`, an index of shards), read with every value checked.

A null counts as a key that is not there. Every complaint is one line that names the file, the key and what was found.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.errors import UserError, WeightsError

LARGEST = 2**31 - 1  # of a whole number: no size of a model, a vocabulary or a text is larger
SHOWN = 60  # characters of a wrong value in a message


class JsonObject(dict[str, Any]):
    """The object in a file, which it remembers as `origin` for messages."""

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        super().__init__(values)
        self.origin = origin


def read_object(path: Path, error: Callable[[str], UserError] = WeightsError) -> JsonObject:
    """The object in a JSON file. Raises `error` for a file that cannot be read, is not JSON, or holds anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON ({problem})") from None
    if not isinstance(values, dict):
        raise error(f"{path}: {shown(values)}; expected an object, {{...}}")
    return JsonObject(values, str(path))


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor -> name of the shard that holds it, from an index of weights. Raises WeightsError for anything but names of files
    beside it."""
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise WeightsError(f"{index}: weight_map={shown(weight_map)}; expected an object from tensors to files")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise WeightsError(f"{index}: weight_map: {tensor}={shown(name)}; expected the name of a file beside it")
    return dict(weight_map)


def shown(value: object) -> str:
    """A value in a message, in one line and shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def printable(text: str) -> str:
    """A name from a file in a message: as it is, or with escapes and shortened where it would not fit into one line."""
    return text if text.isprintable() and len(text) <= SHOWN else shown(text)


class Values:
    """Typed readers of an object's values. `origin` names the file in messages (default: the object's own, or config.json)."""

    def __init__(
        self,
        values: Mapping[str, Any],
        origin: str | None = None,
        error: Callable[[str], UserError] = WeightsError,
    ) -> None:
        self.values, self.error = values, error
        self.origin = origin or getattr(values, "origin", "config.json")

    def get(self, key: str) -> Any:
        """The value, unchecked; None where the key is missing or null."""
        return self.values.get(key)

    def require(self, *keys: str) -> None:
        """Raise where one of the keys is missing or null."""
        if missing := [key for key in keys if self.get(key) is None]:
            raise self.error(f"{self.origin} lacks {', '.join(missing)}")

    def wrong(self, key: str, expected: str) -> UserError:
        return self.error(f"{self.origin}: {key}={shown(self.get(key))}; expected {expected}")

    def whole(self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = LARGEST) -> int:
        """A whole number; without a default a missing one is an error."""
        value = self._value(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.wrong(key, f"a whole number from {minimum}" + ("" if maximum == LARGEST else f" to {maximum}"))
        return value

    def number(self, key: str, default: float, *, above: float = 0.0, below: float = 1.0) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < below:
            raise self.wrong(key, f"a number above {above:g} and below {below:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a text")
        return default if value is None else value

    def choice(self, key: str, names: Mapping[str, str], default: str) -> str:
        """What `names` says of the value. Raises for a value that it does not name, with all that it does."""
        value = self._value(key, default)
        if not isinstance(value, str) or value not in names:
            raise self.error(f"{self.origin}: {key} {shown(value)}; supported: {', '.join(names)}")
        return names[value]

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where the key is missing."""
        value = self.get(key)
        if value is None:
            return []
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "a list of texts")
        return list(value)

    def mapping(self, key: str) -> Mapping[str, object]:
        """An object; empty where the key is missing."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, "an object, {...}")
        return value

    def _value(self, key: str, default: object) -> Any:
        value = self.get(key)
        if value is None and default is None:
            self.require(key)
        return default if value is None else value
