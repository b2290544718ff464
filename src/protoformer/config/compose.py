"""From overrides to a plain, checked config.

The yamls state only what they change, so Hydra's own struct check would refuse most keys (`model.dropout=0`), and yet
let a `+` through. Here `a.b=c` becomes `++a.b=c` before Hydra reads it, and the composed whole is judged by `check`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.config import schema
from protoformer.config.annotations.coerce import KeyedError
from protoformer.config.groups import CONFIG_NAME, conf_dir, file_of, groups, options, search_path
from protoformer.config.hydra_errors import none_chosen, not_global, readable_errors
from protoformer.config.names.foreign_names import foreign_value
from protoformer.config.names.suggest import advice
from protoformer.config.old_keys import renamed
from protoformer.config.overrides import parsed, quoted_example
from protoformer.config.resolvers import ladder
from protoformer.config.validate import check, check_supported, key_advice, keys_of
from protoformer.errors import ConfigurationError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

__all__ = ["compose", "conf_dir", "plain"]


log = logging.getLogger(__name__)
VERSION_BASE = "1.3"
LABELS = "task.rows.labels"
NO_TASK = "_none"  # stands in train.yaml, since a sweep over tasks is composed without one first
OF_THE_MODEL = {"max_len": "${model.max_seq_len}"}  # keys of task that a yaml gives the model's positions
VARIANT_REFERENCE = re.compile(r"\$\{variant\.(\w+)\}")
TRANSIENT_GROUPS = (
    "family",
    "predicts",
    "architecture",
    "experiment",
    "debug",
)  # groups that choose, and leave nothing of their own behind


def compose(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """The plain, resolved, checked config of a command line. Raises ConfigurationError in one readable line."""
    folders = search_path(config_dir)
    composed = composed_by_hydra(overrides, folders)
    config = plain(composed, dict(composed.hydra.runtime.choices), overrides, folders)
    _warn_of_reordered_labels(config, overrides, folders)
    return config


def _warn_of_reordered_labels(config: Mapping[str, Any], overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """One line where typed labels are the task's own in another order: integer labels then mean other classes."""
    typed = [text for text in overrides if text.lstrip("+").partition("=")[0] == LABELS]
    if not typed:
        return
    own = composed_by_hydra([text for text in overrides if text not in typed], folders).task.rows.get("labels")
    labels = config["task"]["rows"]["labels"]
    if not isinstance(labels, list) or own is None or isinstance(own, str):  # numbers, or those of the data
        return
    if list(own) != labels and sorted(map(str, own)) == sorted(labels):
        task = config["choices"].get("task")
        log.warning(
            "%s: the labels of task=%s are %s, in this order; integer labels 0, 1, ... are now read as %s (a trained head in "
            "another order needs no such change: it is put in the order of the data)",
            LABELS,
            task,
            ", ".join(map(str, own)),
            ", ".join(map(str, labels)),
        )


def composed_by_hydra(overrides: Sequence[str], folders: Sequence[Path]) -> "DictConfig":
    """What Hydra makes of a command line, its own node included; unresolved and unchecked."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    words = [*rewritten(overrides, folders), *further(folders)]
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a run that composes is put back after
    try:
        with readable_errors(folders), initialize_config_dir(str(folders[0]), version_base=VERSION_BASE):
            return hydra_compose(CONFIG_NAME, words, return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = outer


def plain(
    config: "DictConfig",
    choices: Mapping[str, Any],
    overrides: Sequence[str] = (),
    folders: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """What Hydra composed, resolved to plain containers, filled up and checked.

    `choices` are Hydra's (`hydra.runtime.choices`); those of our groups stand in the config's `choices`, with the
    keys that the command line gave under `set`, and those of the task that follow the model's sizes under `follows`.
    """
    from omegaconf import OmegaConf

    folders = folders or search_path()
    ladder.register()
    given = [text.lstrip("+~").partition("=")[0] for text in overrides]
    whole = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    stated = OmegaConf.to_container(whole, resolve=False)
    _check_variant({str(key): value for key, value in stated.items()} if isinstance(stated, dict) else {}, given)
    known = groups(folders)
    chosen: dict[str, Any] = {name: option for name, option in choices.items() if name in known}
    if chosen.get("task") == NO_TASK:
        raise ConfigurationError(none_chosen("task", folders))
    if isinstance(stated, dict):
        ladder.check_dial({str(key): value for key, value in stated.items()}, chosen.get("model"))
        check_supported(stated, chosen)  # before values are resolved: a task may refer to sizes that the model lacks
    with readable_errors(folders):
        resolved = OmegaConf.to_container(whole, resolve=True)
    assert isinstance(resolved, dict)
    chosen["set"] = sorted(name for name in given if name not in known and not name.startswith("hydra"))
    task = stated.get("task") if isinstance(stated, dict) else None
    if isinstance(task, dict) and (follows := [name for name, size in OF_THE_MODEL.items() if task.get(name) == size]):
        chosen["follows"] = [f"task.{name}" for name in follows]
    for name in TRANSIENT_GROUPS:
        if not resolved.get(name):
            resolved.pop(name, None)
        elif not _is_set(name, chosen["set"]):
            raise ConfigurationError(not_global(name, str(chosen.get(name)), folders))
    try:
        return check({**{str(key): value for key, value in resolved.items()}, "choices": chosen})
    except KeyedError as error:
        if (variant_key := _variant_key(stated, error.key)) is not None:
            raise ConfigurationError(f"variant.{variant_key}: {error}") from None
        file = None if _is_set(error.key, chosen["set"]) else file_of(error.key, chosen, folders)
        raise ConfigurationError(f"{file}: {error}" if file else str(error)) from None


def further(folders: Sequence[Path]) -> list[str]:
    """The override that makes Hydra look into a second folder of options."""
    return [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]"] if len(folders) > 1 else []


def rewritten(overrides: Sequence[str], folders: Sequence[Path], sweep: bool = False) -> list[str]:
    """Overrides as Hydra is to read them; names of groups, options and top-level keys are judged here already.

    Several values for a key (`seed=1,2`) are an error unless `sweep`.
    """
    pairs = parsed(overrides, folders)
    for text, override in pairs:
        if override.is_sweep_override() and not sweep:
            raise ConfigurationError(
                f"{text}: several values are a sweep; add -m to run each of them, or quote one value: {quoted_example(text)}"
            )
    known = sorted({*groups(folders), *keys_of(schema.Run)})
    return [_rewritten(text, override, known, folders) for text, override in pairs]


def shown(override: str) -> str:
    """An override as its user spelt it: without the prefix that `rewritten` put before a key."""
    return override.removeprefix("++")


def _rewritten(text: str, override: "Override", known: list[str], folders: Sequence[Path]) -> str:
    key = override.key_or_group
    if (new := renamed(key)) is not None:
        raise ConfigurationError(f"{text}: {key} has a new name; did you mean {new}?")
    top = re.split(r"[./]", key)[0]
    if top == "hydra":
        return text
    if top not in known:
        raise ConfigurationError(f"{text}: there is no group or key {top!r}; {key_advice('', top, known)}")
    bare = not text.startswith(("+", "~"))
    if key == "variant" and not override.is_delete():
        _check_variant_override(text, override)
    if "/" in key and "." not in key:
        group, _, rest = key.partition("/")
        raise ConfigurationError(f"{text}: write {group}={rest}/{override.get_value_element_as_str()}")
    if key in groups(folders) and not override.is_delete():
        _check_option(text, key, override, folders)
        if isinstance(override.value(), float):  # debug=nan: the name of an option, which Hydra would take for a number
            return text.replace("=", "='", 1) + "'"
        return text
    if text.startswith("+") and not text.startswith("++"):  # also where a yaml states the key already
        return f"+{text}"
    return f"++{text}" if bare else text


def _check_variant_override(text: str, override: "Override") -> None:
    values = override.value().list if override.is_choice_sweep() else [override.value()]  # type: ignore[union-attr]  # a choice sweep
    if not all(isinstance(value, dict) for value in values):
        raise ConfigurationError(f"{text}: a variant is a mapping, as in variant={{key:1}}, without quotes")


def _check_option(text: str, group: str, override: "Override", folders: Sequence[Path]) -> None:
    names = options(group, folders)
    if not names:
        raise ConfigurationError(
            f"{text}: {group} has no options to choose from; set its keys, as in {group}.key=value"
        )
    if override.is_sweep_override():
        values = [str(value).strip("'\"") for value in override.sweep_string_iterator()]
    else:
        values = [override.get_value_element_as_str().strip("'\"")]
    for value in values:
        if value in names:
            if group in TRANSIENT_GROUPS:
                _check_package(group, value, folders)
            continue
        if value in ("", "null"):
            raise ConfigurationError(f"{group}= is empty; choose from: {', '.join(names)}")
        raise ConfigurationError(f"{group}={value}: no such {group}; {_option_advice(group, value, names)}")


def _option_advice(group: str, value: str, names: Sequence[str]) -> str:
    """What an unknown option was probably meant to be: the file of this folder, another program's name, or the nearest."""
    here = Path("conf", group, f"{value}.yaml")
    if here.is_file():
        return f"./{here} is there: add --config-dir conf"
    if (meant := foreign_value(group, value)) is not None:
        return f"did you mean {group}={meant}?"
    return advice(value, names, prefix=f"{group}=")


def _check_variant(stated: Mapping[str, object], given: Sequence[str]) -> None:
    """An ablation's variant changes the values that its sweep's yaml reads from it; any other key would change nothing."""
    variant, read = stated.get("variant"), sorted(set(VARIANT_REFERENCE.findall(repr(stated))))
    if not isinstance(variant, dict):
        if variant is None and not read:
            return
        example = read[0] if read else "key"
        raise ConfigurationError(
            f"variant={variant}: a variant is a mapping, as in variant={{{example}:1}}, without quotes"
        )
    for name in variant:
        if name in read:
            continue
        instead = [key for key in given if key.rpartition(".")[2] == name and not key.startswith("variant.")]
        if instead:
            raise ConfigurationError(
                f"{instead[0]}: variant.{name} sets it in this experiment; override variant.{name} instead"
            )
        hint = advice(str(name), read) if read else "no yaml reads any; choose an experiment that has variants"
        raise ConfigurationError(f"variant.{name}: nothing reads it; {hint}")


def _variant_key(stated: object, key: str) -> str | None:
    """Which key of the variant a key's value is read from."""
    for part in key.split("."):
        stated = stated.get(part) if isinstance(stated, Mapping) else None
    reference = VARIANT_REFERENCE.fullmatch(stated) if isinstance(stated, str) else None
    return reference[1] if reference else None


def _check_package(group: str, name: str, folders: Sequence[Path]) -> None:
    """Raises ConfigurationError for an experiment without `# @package _global_`: its keys would be under its group."""
    file = next(path for folder in folders if (path := folder / group / f"{name}.yaml").is_file())
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    content = [line.partition("#")[0].strip() for line in lines]
    header = lines[: next((index for index, text in enumerate(content) if text), len(lines))]
    if any(content) and "".join(content) != "{}" and not any("@package" in line for line in header):
        raise ConfigurationError(not_global(group, name, folders))


def _is_set(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in names if name)
