"""`protoformer completion SHELL`: the script by which bash, zsh or fish completes commands, groups, options, keys and flags.

The script asks `protoformer completion words WORD...` at each tab; that answers from the yamls and the schema alone.
"""

import argparse
import importlib
import types
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from protoformer.commands.parser import Parser
from protoformer.config import schema
from protoformer.config.annotations.signatures import Opaque, signature
from protoformer.config.groups import groups, model, option, options, search_path
from protoformer.config.validate import keys_of, stated_keys

HELP = "print the script that completes words in bash, zsh or fish"

COMPOSING = ("train", "plan", "prepare")  # commands whose words are overrides
NODES_OF_TARGETS = ("task.rows", "task.data", "task.module")
SCRIPTS = {
    "bash": """_protoformer() {
    local line=${COMP_LINE:0:COMP_POINT} current words
    current=${line##* }
    read -r -a words <<< "${line% *}"
    mapfile -t COMPREPLY < <(protoformer completion words "${words[@]:1}" "$current" 2>/dev/null)
    if [[ $current == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${current%%=*}="}"); fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} != *[=.] ]]; then COMPREPLY[0]+=' '; fi
}
complete -o nospace -o default -F _protoformer protoformer
""",
    "zsh": """#compdef protoformer
_protoformer() {
    local -a candidates
    candidates=(${(f)"$(protoformer completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#candidates} )); then compadd -S '' -- $candidates; else _files; fi
}
compdef _protoformer protoformer
""",
    "fish": """function __protoformer
    protoformer completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c protoformer -a '(__protoformer)'
""",
}
INSTALLATION = {
    "bash": "protoformer completion bash >> ~/.bashrc",
    "zsh": "protoformer completion zsh > a file _protoformer in a folder of $fpath",
    "fish": "protoformer completion fish > ~/.config/fish/completions/protoformer.fish",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = "; ".join(INSTALLATION.values())
    parser.add_argument("shell", choices=tuple(SCRIPTS), help=f"install with: {where}")


def run(arguments: argparse.Namespace) -> None:
    print(SCRIPTS[arguments.shell], end="")


def print_candidates(words: Sequence[str], verbs: dict[str, str]) -> None:
    """Print what may stand for the last of the words after `protoformer`, a line each; nothing where files may."""
    current = words[-1] if words else ""
    print("\n".join(sorted({word for word in _candidates(list(words), verbs) if word.startswith(current)})))


def _candidates(words: list[str], verbs: dict[str, str]) -> Iterator[str]:
    if len(words) < 2:
        yield from (verb for verb in verbs if " " not in verb)
        return
    verb, *before, current = words
    if not before:
        yield from (two.removeprefix(f"{verb} ") for two in verbs if two.startswith(f"{verb} "))
    elif f"{verb} {before[0]}" in verbs:
        verb, *before = f"{verb} {before[0]}", *before[1:]
    if verb not in verbs:
        return
    if current.startswith("-"):
        yield from _flags(verb, verbs[verb])
    elif verb in COMPOSING:
        yield from _overrides(before, current, search_path(_config_dir(before)))


def _flags(verb: str, module: str) -> Iterator[str]:
    command: Any = importlib.import_module(f"protoformer.commands.{module}")
    if verb == "train":
        parser = command.train_parser()
    else:
        parser = Parser(prog=verb)
        command.add_arguments(parser)
    yield from parser.flags()


def _config_dir(words: Sequence[str]) -> str | None:
    for word, following in pairwise([*words, ""]):
        if word == "--config-dir":
            return following
        if word.startswith("--config-dir="):
            return word.partition("=")[2]
    return None


def _overrides(before: Sequence[str], current: str, folders: tuple[Path, ...]) -> Iterator[str]:
    prefix = current[: len(current) - len(current.lstrip("+"))]
    key, equals, typed = current.lstrip("+").partition("=")
    if equals:
        earlier = typed.rpartition(",")[0]
        start = f"{prefix}{key}={f'{earlier},' if earlier else ''}"
        yield from (f"{start}{value}" for value in _values(key, folders))
    elif "." in key:
        node = key.rpartition(".")[0]
        yield from (f"{prefix}{node}.{name}" for name in _keys(node, before, folders))
    else:
        nodes = [name for name in keys_of(schema.Run) if stated_keys(name)]
        yield from (f"{prefix}{name}=" for name in groups(folders) if options(name, folders))
        yield from (f"{prefix}{name}=" for name in keys_of(schema.Run) if name not in nodes)
        yield from (f"{prefix}{name}." for name in (*nodes, "source"))


def _values(key: str, folders: tuple[Path, ...]) -> list[str]:
    """Options of a group, or the words that a key takes."""
    if key in groups(folders):
        return options(key, folders)
    node, _, name = key.rpartition(".")
    keys = keys_of(schema.Run) if not node else keys_of(schema.Splits) if node == "task.splits" else _schema_keys(node)
    return _words(keys[name].annotation) if name in keys else []


def _schema_keys(node: str) -> dict[str, Any]:
    kind = keys_of(schema.Run).get(node)
    return keys_of(kind.annotation) if kind is not None and stated_keys(node) else {}


def _words(annotation: object) -> list[str]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [str(value) for value in args]
    if origin is Annotated:
        return _words(args[0])
    if origin in (Union, types.UnionType):
        return [word for each in args for word in _words(each)]
    return {bool: ["true", "false"], types.NoneType: ["null"]}.get(annotation, [])


def _keys(node: str, before: Sequence[str], folders: tuple[Path, ...]) -> list[str]:
    """Keys of a node: the schema's, and those of the class that the typed model, task or source names."""
    chosen = {group: name for word in before for group, _, name in [word.partition("=")] if group in groups(folders)}
    names = [f"{name}{'.' if _has_keys(f'{node}.{name}') else '='}" for name in stated_keys(node)]
    if node == "task.splits":
        names = [f"{name}=" for name in keys_of(schema.Splits)]
    top, _, inner = node.partition(".")
    if top not in ("model", "task", "source") or chosen.get(top) not in options(top, folders):
        return names
    content = model(chosen[top], folders) if top == "model" else option(top, chosen[top], folders)
    target = content.get(inner, {}) if inner else content
    if not isinstance(target, dict) or not isinstance(target.get("_target_"), str):
        return names
    supplied = schema.SUPPLIED.get(node, {})
    parameters = signature(target["_target_"]).parameters.values()
    return names + [
        f"{each.name}=" for each in parameters if each.name not in supplied and each.annotation is not Opaque
    ]


def _has_keys(key: str) -> bool:
    return key in (*NODES_OF_TARGETS, "task.splits", "model.template")
