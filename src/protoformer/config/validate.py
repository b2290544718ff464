"""Every key and every value of a composed config, held against what the program takes, before anything is imported.

Nodes without a `_target_` are held against the dataclasses of `schema`, nodes with one against that target's signature.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from protoformer.config import schema
from protoformer.config.coerce import MISSING, KeyedError, described, fitted
from protoformer.config.groups import models_for, search_path, wanted, writes
from protoformer.config.signatures import Opaque, Parameter, signature
from protoformer.config.suggest import advice
from protoformer.errors import ConfigurationError

Keys = dict[str, Parameter]

WHOLE = ("model", "source", "task.rows")  # targets whose every argument stands in the config
LATE = {  # arguments that `building` gives itself, and the key that says it instead, where there is one
    "model": {"packing": "hardware.packing"},
    "model.format": {"tokenizer": "model.tokenizer"},
    "task.data": {
        "rows": "task.rows", "splits": "task.splits", "source": "source", "tokenizer": "model.tokenizer",
        "format": "model.format", "max_len": "task.max_len", "batching": "recipe.batching", "cache": "paths.cache",
    },
    "task.module": {
        "backbone": "model", "splits": "task.splits", "optimization": "recipe", "labels": "task.rows.labels",
        "choices": "task.rows.choices", "unanswerable": "task.rows.unanswerable", "aux_lm_weight": "recipe.aux_lm_weight",
        "label_smoothing": "recipe.label_smoothing",
    },
}  # fmt: skip
BUILT = ("model.format", "task.rows", "task.data", "task.module", "source")  # nodes that some class has to build
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 4294967295"),
    "recipe.lr": (lambda value: 0 < value < math.inf, "above 0"),
    "recipe.betas": (lambda value: all(0 <= beta < 1 for beta in value), "two numbers, each at least 0 and below 1"),
    "source.rows": (lambda value: value >= 1, "at least 1"),
    "recipe.batch_size": (lambda value: value >= 1, "at least 1"),
    "recipe.epochs": (lambda value: value >= 1, "at least 1"),
    "recipe.max_steps": (lambda value: value >= 1 or value == -1, "at least 1, or -1 for no limit"),
    "recipe.warmup": (lambda value: value >= 0, "at least 0 (a share of all steps when below 1, else steps)"),
    "recipe.weight_decay": (lambda value: value >= 0, "at least 0"),
    "recipe.eps": (lambda value: value > 0, "above 0"),
    "recipe.clip": (lambda value: value > 0, "above 0, or null for none"),
    "recipe.decay": (lambda value: 0 < value <= 1, "a share of the run, above 0 and at most 1"),
    "recipe.final_lr": (lambda value: 0 <= value <= 1, "a share of recipe.lr, from 0 to 1"),
    "recipe.label_smoothing": (lambda value: 0 <= value < 1, "at least 0 (none) and below 1"),
    "recipe.average": (lambda value: value >= 1, "at least 1 (the one checkpoint)"),
    "recipe.average_every": (lambda value: value >= 1, "at least 1, or null for each validation"),
    "recipe.aux_lm_weight": (lambda value: value >= 0, "at least 0 (0: no language model beside the task)"),
    **{
        f"model.{name}": (lambda value: value >= 1, "at least 1")
        for name in (
            *("n_layers", "n_decoder_layers", "d_model", "n_heads", "d_head", "d_key", "d_ff", "window"),
            *("vocab_size", "max_seq_len"),
        )
    },
    "model.dropout": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "model.attention_dropout": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "task.max_len": (lambda value: value >= 4, "at least 4: special tokens and one of each text"),
    "trainer.log_every": (lambda value: value >= 1, "at least 1"),
    "trainer.checkpoint_every": (lambda value: value >= 1, "at least 1"),
    "trainer.limit_train_batches": (lambda value: _some(value), "a number of batches from 1, or a share up to 1.0"),
    "trainer.limit_val_batches": (lambda value: _some(value), "a number of batches from 1, or a share up to 1.0"),
    "trainer.limit_test_batches": (lambda value: _some(value), "a number of batches from 1, or a share up to 1.0"),
    "trainer.val_check_interval": (lambda value: _some(value), "a number of batches from 1, or a share up to 1.0"),
    "trainer.check_val_every_n_epoch": (lambda value: value >= 1, "at least 1"),
    "hardware.devices": (lambda value: value == "all" or value >= 1, "at least 1, or all"),
    "hardware.nodes": (lambda value: value >= 1, "at least 1"),
    "hardware.micro_batch": (lambda value: value >= 1, "at least 1"),
    "hardware.workers": (lambda value: value >= 0, "at least 0"),
    "hardware.timeout": (lambda value: value >= 1, "at least 1 (seconds)"),
    "hardware.grace": (lambda value: value >= 0, "at least 0 (seconds)"),
    "hardware.threads": (lambda value: value >= 1, "at least 1"),
}

FILLED = {  # text that must not be empty, and what it is
    "init_from": "auto, scratch, a hub id or a folder",
    "model.tokenizer": "auto, a file, a folder or a hub id",
    "paths.outputs": "a folder",
    "paths.cache": "a folder",
}


def _some(value: int | float) -> bool:
    """Batches: a whole number of them, or a share of an epoch."""
    return 0 < value <= 1 if isinstance(value, float) else value >= 1


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with values converted to their types and the schema's defaults filled in.

    Raises ConfigurationError, in one line, for an unknown key, a missing or ill-fitting value, or parts that do not go
    together.
    """
    choices = config.get("choices", {})
    checked = _node("", {key: value for key, value in config.items() if key != "choices"}, keys_of(schema.Run))
    for path in BUILT:
        node, _, name = path.partition(".")
        if "_target_" not in (checked[node][name] if name else checked[node]):
            raise KeyedError(path, f"{path} has no _target_, so nothing builds it; name its class")
    _ranges(checked)
    _together(checked, choices)
    return {**checked, "choices": dict(choices)}


@cache
def keys_of(kind: type) -> Keys:
    """The fields of a dataclass of the schema, as parameters."""
    hints = get_type_hints(kind)
    keys: Keys = {}
    for item in fields(kind):
        required = item.default is NO_DEFAULT and item.default_factory is NO_DEFAULT
        default = item.default
        if item.default_factory is not NO_DEFAULT:
            default = item.default_factory()
        keys[item.name] = Parameter(item.name, hints[item.name], required, None if required else default)
    return keys


def target_keys(path: str, target: str) -> Keys:
    """What a node with a `_target_` may hold: its arguments, and for `model` the schema's keys beside them."""
    keys = dict(signature(target).parameters)
    return {**keys, **keys_of(schema.Model)} if path == "model" else keys


def _node(path: str, node: Mapping[str, Any], keys: Keys, whole: bool = True, spare: bool = False) -> dict[str, Any]:
    """Check one mapping; `whole` asks for every required key, `spare` takes keys that are not listed."""
    _known(path, node, keys, spare)
    out: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{path}.{name}" if path else str(name)
        if name == "_target_":
            out[name] = value
        elif isinstance(value, str) and value == MISSING:
            wanted = described(keys[name].annotation) if name in keys else "a value"
            raise KeyedError(key, f"{key} is not set; add {key}=<{wanted}>")
        else:
            out[name] = _value(key, value, keys[name].annotation if name in keys else Any)
    for name, parameter in keys.items():
        if name in out:
            continue
        key = f"{path}.{name}" if path else name
        if is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            out[name] = _node(key, {}, keys_of(parameter.annotation))
        elif parameter.required and whole and parameter.annotation is not Opaque:
            raise KeyedError(key, f"{key} is not set; add {key}=<{described(parameter.annotation)}>")
        elif not parameter.required and "_target_" not in node:
            out[name] = list(parameter.default) if isinstance(parameter.default, list | tuple) else parameter.default
    return out


def _value(key: str, value: Any, annotation: Any) -> Any:
    if isinstance(annotation, type) and is_dataclass(annotation):
        if not isinstance(value, Mapping):
            known = ", ".join(keys_of(annotation))
            raise KeyedError(key, f"{key}={value} does not fit; set its keys, as in {key}.key=value: {known}")
        if key != "model":
            return _node(key, value, keys_of(annotation))
        if "_target_" not in value:
            raise ConfigurationError("model has no _target_, so nothing builds it; add it to the model's yaml")
    if isinstance(value, Mapping) and "_target_" in value:
        return _target(key, value)
    fit = fitted(value, annotation, key)
    if isinstance(fit, dict):
        return {name: _value(f"{key}.{name}", inner, Any) for name, inner in fit.items()}
    if isinstance(fit, list):
        return [_value(f"{key}[{number}]", inner, Any) for number, inner in enumerate(fit)]
    if isinstance(fit, str) and fit == MISSING:
        raise KeyedError(key, f"{key} is not set; add {key}=<a value>")
    return fit


def _target(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    target = node["_target_"]
    if not isinstance(target, str) or "." not in target:
        raise ConfigurationError(f"{path}._target_={target} is no dotted path of a class or function")
    keys = target_keys(path, target)
    checked = _node(path, node, keys, whole=path in WHOLE, spare=signature(target).open)
    if path == "model":
        beside = {name: parameter for name, parameter in keys_of(schema.Model).items() if not parameter.required}
        checked = {**{name: parameter.default for name, parameter in beside.items()}, **checked}
    return checked


def _known(path: str, node: Mapping[str, Any], keys: Keys, spare: bool) -> None:
    """Every key of a node is one that is taken, and one that yaml may give."""
    late = LATE.get(path, {})
    offered = [name for name, parameter in keys.items() if parameter.annotation is not Opaque and name not in late]
    for name, value in node.items():
        if name in offered or name == "_target_" or (spare and name not in keys):
            continue
        key = f"{path}.{name}" if path else str(name)
        if name in late:
            raise KeyedError(key, f"{key} is given by the program; the key for it is {late[name]}")
        if name in keys and isinstance(value, Mapping) and "_target_" in value:
            continue  # a part that is built where it stands
        if name in keys:
            raise KeyedError(key, f"{key} is given by the program, not by the config")
        where = f"{path} has no key {name!r}" if path else f"there is no group or key {name!r}"
        raise KeyedError(key, f"{key}: {where}; {key_advice(path, str(name), offered)}")


def stated_keys(path: str) -> list[str]:
    """The keys that the schema has for a node; none for one whose `_target_` alone knows them."""
    kind = get_type_hints(schema.Run).get(path)
    return list(keys_of(kind)) if isinstance(kind, type) and is_dataclass(kind) else []


def key_advice(path: str, name: str, offered: Sequence[str]) -> str:
    """What an unknown key was probably meant to be: the same name in another node, or the nearest one in its own."""
    prefix = f"{path}." if path else ""
    homes = [f"{node}.{name}" for node in keys_of(schema.Run) if node != path and name in stated_keys(node)]
    if homes and name not in offered:
        return f"did you mean {homes[0]}? Keys{f' of {path}' if path else ''}: {', '.join(offered) or 'none'}"
    if not offered:
        return f"{path} takes no keys"
    return advice(name, offered, f"keys of {path}" if path else "groups and keys", prefix)


def _ranges(config: Mapping[str, Any]) -> None:
    for key, (holds, allowed) in RANGES.items():
        node, _, name = key.rpartition(".")
        value = (config[node] if node else config).get(name)
        if value is not None and not holds(value):
            raise KeyedError(key, f"{key}={value} is out of range; it wants a value {allowed}")
    for key, wants in FILLED.items():
        node, _, name = key.rpartition(".")
        if not (config[node] if node else config)[name].strip():
            raise KeyedError(key, f"{key} is empty; it wants {wants}")


def _together(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Parts that each are right and do not go together."""
    hardware, recipe, trainer, task = (config[node] for node in ("hardware", "recipe", "trainer", "task"))
    if hardware["precision"] == "fp16" and hardware["accelerator"] == "cpu":
        raise ConfigurationError(
            "hardware.precision=fp16 is refused on hardware.accelerator=cpu, where it is 100 times slower than fp32; "
            "choose hardware.precision=bf16 (or fp32)"
        )
    limits = (recipe["epochs"], trainer["max_epochs"], *(node["max_steps"] for node in (recipe, trainer)))
    if task["splits"]["train"] is not None and limits == (None, None, -1, -1):
        raise ConfigurationError("how long to train is not set; add recipe.epochs=<n> or recipe.max_steps=<n>")
    if config["init_from"] in ("auto", "scratch"):  # a folder's own sizes may replace these
        _sizes(config["model"], task)
    summary = config["model"]["format"].get("summary", "first")
    if config["model"].get("attention") == "causal" and summary == "first":
        raise ConfigurationError(
            "model.attention=causal reads from left to right, where the first token has seen nothing; add "
            "+model.format.summary=last"
        )
    if not writes(config["model"]["format"]["_target_"], task["data"]["_target_"]):
        able = models_for(task["data"]["_target_"], search_path())
        raise ConfigurationError(
            f"task={choices.get('task')} needs a format with {wanted(task['data']['_target_'])}(), which the format of "
            f"model={choices.get('model')} has not; models that can: {', '.join(able) or 'none yet'}"
        )


def _sizes(model: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    known = signature(model["_target_"]).parameters
    size = {name: parameter.default for name, parameter in known.items()} | dict(model)
    width, heads, longest = size.get("d_model"), size.get("n_heads"), size.get("max_seq_len")
    if width and heads and not size.get("d_head") and width % heads:
        raise ConfigurationError(f"model.d_model={width} is no multiple of model.n_heads={heads}")
    if longest and task["max_len"] > longest:
        raise ConfigurationError(f"task.max_len={task['max_len']} is longer than model.max_seq_len={longest}")
