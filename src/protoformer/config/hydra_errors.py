"""Errors of Hydra and OmegaConf as one readable line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from protoformer.config.groups import options
from protoformer.config.names.suggest import PLUGINS, advice
from protoformer.config.validate import key_advice, stated_keys
from protoformer.errors import ConfigurationError


@contextmanager
def readable_errors(folders: Sequence[Path]) -> Iterator[None]:
    """What Hydra, OmegaConf and yaml raise about a config, as ConfigurationError in one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigurationError(_translated(error, folders)) from None


def not_global(group: str, name: str, folders: Sequence[Path]) -> str:
    file = next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)
    where = f"{group}={name}" if file is None else file.relative_to(file.parents[name.count("/") + 2]).as_posix()
    return (
        f"{where}: what it states stands under `{group}`, where nothing reads it; its first line must be "
        "`# @package _global_`"
    )


def none_chosen(group: str, folders: Sequence[Path]) -> str:
    return f"no {group} is chosen; add {group}=<one of: {', '.join(options(group, folders))}>"


def _translated(error: BaseException, folders: Sequence[Path]) -> str:
    text = str(error)
    if of_resolver := re.match(r"KeyedError raised while resolving interpolation: (.*)", text):
        return of_resolver[1]
    group = re.search(r"You must specify '(\w+)'", text)
    if group:
        return none_chosen(group.group(1), folders)
    absent = re.search(r"Could not delete from config\. '([\w.]+)'", text)
    if absent:
        path, _, name = absent.group(1).rpartition(".")
        return f"~{absent.group(1)}: no yaml states this key; {key_advice(path, name, stated_keys(path))}"
    unset = re.search(r"Missing mandatory value: ([\w.]+)", text)
    if unset:
        from protoformer.config.reference.settings import meaning  # for this message alone

        return f"{unset.group(1)} is not set; add {unset.group(1)}=<{meaning(unset.group(1), folders) or 'a value'}>"
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        problem = getattr(error, "problem", None) or first_line(error)
        return f"{mark.name}, line {mark.line + 1}: not valid yaml ({problem})"
    missing = getattr(error, "missing_cfg_file", None)
    if isinstance(missing, str) and "/" in missing:
        name, _, option = missing.rpartition("/")
        plugin = PLUGINS.get(name)
        return f"{first_line(error)}; {advice(option, options(name, folders)) if plugin is None else plugin}"
    if clash := re.match(r"Error merging override \+*([^=]+)=([\[{].*)", text):
        name, value = clash.groups()
        expected = f"a list, as in {name}=[a,b]" if value[0] == "{" else f"a mapping, as in {name}={{a:1}}"
        return f"{name}={value} does not fit; expected {expected}"
    key = getattr(error, "full_key", None)
    return f"{key}: {first_line(error)}" if key and key not in first_line(error) else first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
