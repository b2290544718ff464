"""The config groups as they lie on disk, read without Hydra: what `--help`, `protoformer list` and errors name."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from protoformer.config.annotations.signatures import members
from protoformer.errors import ConfigurationError

CONF_VARIABLE = "PROTOFORMER_CONF"  # --config-dir, handed to every verb and process
CONFIG_NAME = "train"


def conf_dir() -> Path:
    """The folder of yamls: --config-dir, ./conf beside train.py, the packaged copy, or the checkout's own."""
    given = os.environ.get(CONF_VARIABLE)
    if given and (Path(given) / f"{CONFIG_NAME}.yaml").is_file():
        return Path(given).resolve()
    here = Path.cwd()
    if (here / "train.py").is_file() and (here / "conf" / f"{CONFIG_NAME}.yaml").is_file():
        return here / "conf"
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / f"{CONFIG_NAME}.yaml").is_file():
            return folder
    raise ConfigurationError(f"no conf/{CONFIG_NAME}.yaml beside train.py or in the package; give --config-dir DIR")


def search_path(config_dir: str | None = None) -> tuple[Path, ...]:
    """The folder that holds train.yaml, then a folder of further options if --config-dir names one."""
    given = config_dir or os.environ.get(CONF_VARIABLE)
    if not given:
        return (conf_dir(),)
    folder = Path(given).resolve()
    if not folder.is_dir():
        raise ConfigurationError(f"--config-dir {given}: no such folder")
    return (folder,) if (folder / f"{CONFIG_NAME}.yaml").is_file() else (conf_dir(), folder)


def groups(folders: Sequence[Path]) -> list[str]:
    """Names of the config groups (`model`, `task`, ...)."""
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()} - {"hydra"})


def options(group: str, folders: Sequence[Path]) -> list[str]:
    """Names of a group's options, numbers in order of size, nested ones by path (`glue/mnli`); no bases (`_glue`)."""
    names = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted((name for name in names if not any(part[0] == "_" for part in name.split("/"))), key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@cache
def option(group: str, name: str, folders: tuple[Path, ...]) -> dict[str, Any]:
    """An option's own content merged over its bases, uninterpolated; groups that it overrides stand under `overrides`.

    Enough of Hydra's defaults lists for a table: bases in the same group, and `override /group: option`.
    """
    path = next((file for folder in folders if (file := folder / group / f"{name}.yaml").is_file()), None)
    if path is None:
        raise ConfigurationError(f"{group}={name}: no such file")
    content = _load(path) or {}
    merged: dict[str, Any] = {"overrides": {}}
    for base in content.pop("defaults", []):
        if isinstance(base, dict):
            for key, value in base.items():
                if key.startswith("override"):
                    merged["overrides"][key.removeprefix("override").strip(" /").partition("@")[0]] = value
        elif base != "_self_":
            merged = _merge(merged, option(group, base.partition("@")[0].removeprefix(f"/{group}/"), folders))
    return _merge(merged, content)


def file_of(key: str, choices: Mapping[str, object], folders: Sequence[Path]) -> str | None:
    """The chosen yaml that states a key of the composed config, as `conf/model/bert.yaml`."""
    train = folders[0] / f"{CONFIG_NAME}.yaml"
    stating_file = train if _states(_load(train) or {}, key) else None
    for group, name in choices.items():
        for path in _lineage(group, str(name), folders):
            everywhere = "@package _global_" in path.read_text(encoding="utf-8")
            inside = key if everywhere else key.removeprefix(f"{group}.")
            if (everywhere or inside != key) and _states(_load(path) or {}, inside):
                stating_file = path
                break
    if stating_file is None:
        return None
    home = next(folder for folder in folders if folder in stating_file.parents)
    return stating_file.relative_to(home.parent).as_posix()


def _lineage(group: str, name: str, folders: Sequence[Path]) -> list[Path]:
    """An option's file and those of its bases, nearest first."""
    path = next((file for folder in folders if (file := folder / group / f"{name}.yaml").is_file()), None)
    if path is None:
        return []
    bases = [base for base in (_load(path) or {}).get("defaults", []) if isinstance(base, str) and base != "_self_"]
    return [path, *(file for base in bases for file in _lineage(group, base, folders))]


def _states(content: object, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def heading(group: str, name: str, folders: Sequence[Path]) -> str:
    """The first comment of an option's file: what it is, in a line."""
    for folder in folders:
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
            return lines[0].lstrip("# ") if lines and lines[0].startswith("#") else ""
    return ""


def supports(template_target: str, data_target: str) -> bool:
    """Whether a template has the method that a datamodule writes examples with (its class attribute `template_method`)."""
    return required_template_method(data_target) in members(template_target)


def required_template_method(data_target: str) -> str:
    """The template method that a datamodule needs."""
    return str(members(data_target).get("template_method", "encode_texts"))


def models_for(data_target: str, folders: tuple[Path, ...]) -> list[str]:
    """The models whose template can write this kind of task."""
    tasks = [
        name for name in options("task", folders) if option("task", name, folders)["data"]["_target_"] == data_target
    ]
    return [name for name in options("model", folders) if any(can(name, task, folders) for task in tasks)]


def can(name: str, task: str, folders: tuple[Path, ...]) -> bool:
    """Whether a model's template writes a task: its own, or the one that its family names for what the task predicts, or in
    its recipe for the task."""
    template = model(name, folders)["template"]
    predicts = option("task", task, folders)["overrides"].get("predicts", "none")
    for group, choice in (("architecture", predicts), ("recipe", task)):
        of_family = f"{family(name, folders)}/{choice}"
        if any((folder / group / f"{of_family}.yaml").is_file() for folder in folders):
            template = template | option(group, of_family, folders).get("model", {}).get("template", {})
    return supports(template["_target_"], option("task", task, folders)["data"]["_target_"])


def family(name: str, folders: tuple[Path, ...]) -> str:
    """Whose recipes a model has."""
    return str(option("model", name, folders)["overrides"].get("family", "none"))


def model(name: str, folders: tuple[Path, ...]) -> dict[str, Any]:
    """The `model` node that an option gives."""
    content = option("model", name, folders)
    return dict(content.get("model", content))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _load(path: Path) -> dict[str, Any] | None:
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid yaml ({' '.join(str(error).split())})") from None
