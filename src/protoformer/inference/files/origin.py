"""What a file of predictions comes from: a record beside the file, with which a command that continues it is compared."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError

REMEDY = "name another file, or --force replaces it"


@dataclass(frozen=True)
class Origin:
    """The digest of a model (see `model_digest`), and the options of the command that change an answer, as they are typed."""

    model: str
    options: Mapping[str, str] = field(default_factory=dict)


def origin_file(path: Path) -> Path:
    """Where the record of a file is: beside it, hidden."""
    return path.with_name(f".{path.name}.origin.json")


def write_origin(path: Path, origin: Origin) -> None:
    write_text(origin_file(path), json.dumps(asdict(origin), indent=1) + "\n")


def check_origin(path: Path, origin: Origin, name: str) -> None:
    """Raise ConfigurationError where a file comes from another model than `name` or from other options, or has no record."""
    try:
        earlier = json.loads(origin_file(path).read_text(encoding="utf-8"))
        model, options = earlier["model"], dict(earlier["options"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"--out {path}: which model and options it comes from is not known (no {origin_file(path).name} beside it can "
            f"be read): {REMEDY}"
        ) from None
    if model != origin.model:
        raise ConfigurationError(
            f"--out {path} holds predictions of another model than {name} is now (weights, tokenizer or config): {REMEDY}"
        )
    for option in dict.fromkeys([*options, *origin.options]):
        before, now = options.get(option), origin.options.get(option)
        if before != now:
            raise ConfigurationError(
                f"--out {path} was written {_typed(option, before)}, this command is {_typed(option, now)}: {REMEDY}"
            )


def _typed(option: str, value: str | None) -> str:
    return f"without {option}" if value is None else f"with {option} {value}"
