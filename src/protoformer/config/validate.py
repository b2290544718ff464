"""A composed config held against what the program takes, key by key, before anything is imported.

Nodes without a `_target_` are held against the dataclasses of `schema`, nodes with one against that target's signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from protoformer.config import schema
from protoformer.config.annotations.coerce import MISSING, KeyedError, coerce, described
from protoformer.config.annotations.signatures import Opaque, Parameter, Signature, signature
from protoformer.config.groups import models_for, required_template_method, search_path, supports
from protoformer.config.names.foreign_names import foreign_key
from protoformer.config.names.suggest import advice
from protoformer.config.old_keys import renamed
from protoformer.errors import ConfigurationError, UserError

Keys = dict[str, Parameter]
KEYS_OF_DATA = {  # keys of task that a kind's data module may take: what they are of, and which tasks have it
    **dict.fromkeys(("shots", "draws", "shots_seed", "on_overflow"), ("shots", "incontext")),
    "strides": ("windows", "lm"),
}
OWN_DATA = "."  # task.rows.dataset: the folder, or the file, that source.root names


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with values converted to their types and the schema's defaults filled in.

    Raises ConfigurationError, in one line, for an unknown key, a missing or ill-fitting value, or parts that do not go
    together.
    """
    choices = config.get("choices", {})
    checked = _node("", {key: value for key, value in config.items() if key != "choices"}, keys_of(schema.Run))
    _check_together(checked, choices)
    return {**checked, "choices": dict(choices)}


@cache
def keys_of(kind: type) -> Keys:
    """The fields of a dataclass of the schema, as parameters."""
    hints, keys = get_type_hints(kind, include_extras=True), {}
    for item in fields(kind):
        default = item.default if item.default_factory is NO_DEFAULT else item.default_factory()
        required = default is NO_DEFAULT
        keys[item.name] = Parameter(item.name, hints[item.name], required, None if required else default)
    return keys


def _node(path: str, node: Mapping[str, object], stated: Keys) -> dict[str, object]:
    """One mapping of the config: its keys are known, its values fit, and a key that the schema states has its default."""
    target = node.get("_target_")
    if target is not None and (not isinstance(target, str) or "." not in target):
        raise ConfigurationError(f"{path}._target_={target} is not the dotted path of a class or function")
    called = Signature({}) if target is None else signature(target)
    keys = {**called.parameters, **stated}
    _check_names(path, node, keys, called.open)
    checked: dict[str, Any] = {}
    for name, value in node.items():
        annotation = keys[name].annotation if name in keys else Any
        checked[name] = value if name == "_target_" else _value(_join(path, name), value, annotation)
    for name, (_, annotation, required, default) in keys.items():
        if name in checked:
            continue
        if _is_node(annotation):
            checked[name] = _node(_join(path, name), {}, keys_of(annotation))
        elif required and annotation is not Opaque and (target is None or path in schema.COMPLETE):
            raise _not_set(_join(path, name), annotation)
        elif not required and name in stated:  # a target has its own defaults
            checked[name] = list(default) if isinstance(default, list | tuple) else default
    return checked


def _value(key: str, value: object, annotation: object) -> Any:
    if isinstance(value, str) and value == MISSING:
        raise _not_set(key, annotation)
    if isinstance(value, Mapping) and value.get("_target_") is None and key in schema.TARGETS:
        raise KeyedError(key, f"{key} has no _target_; its yaml must name its class or function")
    if _is_node(annotation):
        if not isinstance(value, Mapping):
            names = ", ".join(keys_of(annotation))
            raise KeyedError(key, f"{key}={value} does not fit; set its keys, as in {key}.key=value: {names}")
        return _node(key, value, keys_of(annotation))
    if isinstance(value, Mapping) and "_target_" in value:
        return _node(key, value, {})
    fit = coerce(value, annotation, key)
    if isinstance(fit, dict):
        return {name: _value(f"{key}.{name}", inner, Any) for name, inner in fit.items()}
    return [_value(f"{key}[{i}]", inner, Any) for i, inner in enumerate(fit)] if isinstance(fit, list) else fit


def _is_node(annotation: object) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


def _not_set(key: str, annotation: object) -> KeyedError:
    return KeyedError(key, f"{key} is not set; add {key}=<{'a value' if annotation is Any else described(annotation)}>")


def _check_names(path: str, node: Mapping[str, object], keys: Keys, open_ended: bool) -> None:
    """Every key of a node is one that is taken, and one that yaml may give."""
    supplied = schema.SUPPLIED.get(path, {})
    offered = [name for name, parameter in keys.items() if parameter.annotation is not Opaque and name not in supplied]
    for name, value in node.items():
        key = _join(path, name)
        if name in supplied:
            raise KeyedError(key, f"{key} is set by the program; use the key {supplied[name]}")
        if name in offered or name == "_target_" or (open_ended and name not in keys):
            continue
        if name not in keys:
            where = f"{path} has no key {name!r}" if path else f"there is no group or key {name!r}"
            raise KeyedError(key, f"{key}: {where}; {key_advice(path, str(name), offered)}")
        if not isinstance(value, Mapping) or "_target_" not in value:  # one that is built where it stands may be given
            raise KeyedError(key, f"{key} is set by the program, not in the config")


def stated_keys(path: str) -> list[str]:
    """The keys that the schema has for a node; none for one whose `_target_` alone knows them."""
    kind = get_type_hints(schema.Run).get(path)
    return list(keys_of(kind)) if kind is not None and _is_node(kind) else []


def key_advice(path: str, name: str, offered: Sequence[str]) -> str:
    """What an unknown key was probably meant to be: its new name, the same name in another node, or the nearest one."""
    if (new := renamed(f"{path}.{name}" if path else name)) is not None:
        return f"it has a new name; did you mean {new}?"
    if name not in offered and (meant := foreign_key(f"{path}.{name}" if path else name)) is not None:
        return meant
    homes = [f"{node}.{name}" for node in keys_of(schema.Run) if node != path and name in stated_keys(node)]
    if homes and name not in offered:
        return f"did you mean {homes[0]}? Keys{f' of {path}' if path else ''}: {', '.join(offered) or 'none'}"
    if not offered:
        return f"{path} takes no keys"
    return advice(name, offered, f"keys of {path}" if path else "groups and keys", f"{path}." if path else "")


def _check_together(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Parts that each are right and do not go together."""
    hardware, recipe, trainer, task, model = (config[n] for n in ("hardware", "recipe", "trainer", "task", "model"))
    if hardware["precision"] == "fp16" and hardware["accelerator"] == "cpu":
        raise ConfigurationError(
            "hardware.precision=fp16 is not supported on hardware.accelerator=cpu, where it is 100 times slower than fp32; "
            "choose hardware.precision=bf16 (or fp32)"
        )
    limits = (recipe["epochs"], trainer["max_epochs"], recipe["max_steps"], trainer["max_steps"])
    if task["splits"]["train"] is not None and limits == (None, None, -1, -1) and recipe["max_time"] is None:
        raise ConfigurationError(
            "how long to train is not set; add recipe.epochs=<n>, recipe.max_steps=<n> or recipe.max_time=<duration>"
        )
    holds_out = "held_out" in signature(task["data"]["_target_"]).parameters  # documents of a corpus
    if recipe["early_stopping"]["patience"] is not None and not (task["splits"]["validation"] or holds_out):
        raise ConfigurationError("recipe.early_stopping.patience needs a dev split: task.splits.validation=<split>")
    if recipe["ema"] is not None and recipe["average"] > 1:
        raise ConfigurationError(
            f"recipe.ema={recipe['ema']} and recipe.average={recipe['average']}: two averages of the weights; leave one out"
        )
    if recipe["ema"] is not None and hardware["fully_shard"]:
        raise ConfigurationError(
            f"recipe.ema={recipe['ema']} keeps whole weights, which hardware.fully_shard divides: hardware=ddp"
        )
    for i, callback in enumerate(trainer["callbacks"]):
        if "_target_" not in callback:
            raise ConfigurationError(f"trainer.callbacks[{i}] has no _target_; it must name the class of the callback")
    if (task["fold"] is None) != (task["folds"] is None) or (task["folds"] or 1) <= (task["fold"] or 0):
        raise ConfigurationError(
            f"task.folds={task['folds'] or 'null'} and task.fold={'null' if task['fold'] is None else task['fold']}: name "
            "both, with fold below folds, as in task.folds=5 task.fold=0 (in a sweep: -m task.fold=0,1,2,3,4)"
        )
    for name, (what, tasks) in KEYS_OF_DATA.items():
        if task[name] is not None and name not in signature(task["data"]["_target_"]).parameters:
            raise ConfigurationError(
                f"task.{name}={task[name]}: task={choices.get('task')} has no {what}; tasks named {tasks}/... have"
            )
    if task["rows"].get("dataset") == OWN_DATA and not any(config["source"].get(key) for key in ("root", "files")):
        if "strides" in signature(task["data"]["_target_"]).parameters:
            raise ConfigurationError(
                f"task={choices.get('task')} reads text of your own; add source=files 'source.files=[held_out.txt]'"
            )
        raise ConfigurationError(
            f"task={choices.get('task')} reads data of your own; add source=local source.root=<a file, or a folder with "
            "train.csv and the like>, or task.rows.dataset=<a data set of the hub>"
        )
    sizes = {name: parameter.default for name, parameter in signature(model["_target_"]).parameters.items()} | model
    longest = sizes.get("max_seq_len") if config["init_from"] in ("auto", "scratch") else None  # a folder has its own
    if longest and task["max_len"] > longest:
        raise ConfigurationError(f"task.max_len={task['max_len']} is longer than model.max_seq_len={longest}")
    template = model["template"]
    if model.get("attention") == "causal" and template.get("pooled_token", "first") == "first":
        raise ConfigurationError(
            "with model.attention=causal the first token attends only to itself; add +model.template.pooled_token=last"
        )
    check_supported(config, choices)


def check_names_weights(config: Mapping[str, Any]) -> None:
    """Raise UserError for a task without a training split whose weights nothing names; a plan needs none."""
    task, choices, init_from = config["task"], config["choices"], config["init_from"]
    if task["splits"].get("train"):
        return
    # random weights of a language model are a baseline; a random head would only look like a result
    if task["needs_head"] and init_from in ("scratch", "auto"):
        raise UserError(f"task={choices['task']} has no training split: give a trained run as init_from=<run folder>")
    if init_from == "auto" and not (config["model"].get("hf") or {}).get("repo"):
        raise UserError(
            f"task={choices['task']} has no training split and {choices['model']} no published weights: "
            "name some by init_from=<run folder, folder or hub id>"
        )


def check_supported(config: Mapping[Any, Any], choices: Mapping[str, str]) -> None:
    """Raise ConfigurationError where the model's template cannot write the task's examples; values may be unresolved."""
    template, data = _target(config, "model", "template"), _target(config, "task", "data")
    if template is None or data is None or supports(template, data):
        return
    models = ", ".join(models_for(data, search_path())) or "none yet"
    raise ConfigurationError(
        f"model={choices.get('model')} does not support task={choices.get('task')} (its template lacks "
        f"{required_template_method(data)}); supported models: {models}"
    )


def _target(config: Mapping[object, object], *path: str) -> str | None:
    node: Any = config
    for name in (*path, "_target_"):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, str) and "." in node else None
