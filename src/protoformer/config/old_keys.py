"""Keys and classes by the names that earlier versions gave them: for errors, and for the config.yaml of earlier runs.

`OLD_KEYS` is the one table of renamed keys, by dotted path; entries are applied in order, each to what the ones before left.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from protoformer.config import schema
from protoformer.config.annotations.signatures import signature
from protoformer.errors import ConfigurationError

OLD_KEYS = {
    "row": "variant",
    "model.published": "model.hf",
    "model.role": "model.architecture",
    "model.looks": "model.attention",
    "model.cleanup": "model.normalization",
    "model.format": "model.template",
    "model.template.summary": "model.template.pooled_token",
    "model.template.start": "model.template.bos_token",
    "model.template.end": "model.template.eos_token",
    "model.template.never": "model.template.suppressed_tokens",
    "task.module.extra": "task.module.max_extra_tokens",
}
OLD_CLASSES = {  # of `_target_`s
    "BertFormat": "BertTemplate",
    "BlocksDataModule": "LanguageModelingDataModule",
    "Choices": "MultipleChoiceReader",
    "GptFormat": "GptTemplate",
    "LabelledTexts": "LabelledTextReader",
    "LearntVocabulary": "LearnedVocabulary",
    "Pairs": "ParallelTextReader",
    "Questions": "ExtractiveQAReader",
    "SeparatedFormat": "SeparatedTemplate",
    "TranslationFormat": "TranslationTemplate",
}
OLD_BUILDERS = {
    "protoformer.models.transformer_encoder.transformer_encoder": "protoformer.models.transformer.transformer_encoder"
}
ADDED_TO_RECIPE = ("layerwise_lr_decay", "reinit_layers", "ema")  # keys that earlier runs lack, with today's defaults
DEFAULTS = {"labels": None, "choices": None, "unanswerable": False, "aux_lm_weight": 0.0, "label_smoothing": 0.0}
FORMERLY_IMPLIED = {  # arguments of `task.module` that earlier configs did not state, and the key that they came from
    "labels": "task.rows.labels",
    "choices": "task.rows.choices",
    "unanswerable": "task.rows.unanswerable",
    "aux_lm_weight": "recipe.aux_lm_weight",
    "label_smoothing": "recipe.label_smoothing",
}


def renamed(key: str) -> str | None:
    """Today's name of a dotted key that had another one; None for a key that was not renamed."""
    name = key
    for old, new in OLD_KEYS.items():
        if name == old or name.startswith(f"{old}."):
            name = new + name.removeprefix(old)
    return None if name == key else name


def upgraded(config: Mapping[str, object]) -> dict[str, object]:
    """The config of a run, whichever version wrote it, in today's keys and `_target_`s."""
    today: dict[str, object] = _with_targets(config)
    for model in _nodes(today, ["model"]):
        if model.get("_target_") == "protoformer.models.rnn.rnn" and ("looks" in model or "role" in model):
            _upgrade_attention_of_rnn(model)
    for old, new in OLD_KEYS.items():
        *parents, name = old.split(".")
        for node in _nodes(today, parents):
            if name in node:
                node[new.rpartition(".")[2]] = node.pop(name)
    for recipe in _nodes(today, ["recipe"]):
        for field in fields(schema.Recipe):
            if field.name in ADDED_TO_RECIPE:
                recipe.setdefault(field.name, field.default)
    for module in _nodes(today, ["task", "module"]):
        for name in _arguments(str(module.get("_target_"))) & (FORMERLY_IMPLIED.keys() - module.keys()):
            *parents, key = FORMERLY_IMPLIED[name].split(".")
            module[name] = next((node[key] for node in _nodes(today, parents) if key in node), DEFAULTS[name])
    return today


def _upgrade_attention_of_rnn(model: dict[str, Any]) -> None:
    """`attention` was the score alone, and `looks` whether it came before the recurrence (Bahdanau) or after it (Luong)."""
    if "attention" in model:
        model["attention_score"] = model.pop("attention")
    if "looks" in model:
        model["attention"] = {"before": "bahdanau", "after": "luong"}[model.pop("looks")]


def _arguments(target: str) -> set[str]:
    try:
        return set(signature(target).parameters)
    except ConfigurationError:  # a class that is not here any more
        return set()


def _with_targets(value: object) -> Any:
    """A copy whose `_target_`s are today's: classes are named by the package that makes them public."""
    if isinstance(value, Mapping):
        return {key: _target(inner) if key == "_target_" else _with_targets(inner) for key, inner in value.items()}
    return [_with_targets(item) for item in value] if isinstance(value, list) else value


def _target(target: str) -> str:
    top, *inner, name = target.replace("protoformer.models.published.", "protoformer.models.hf.").split(".")
    if top != "protoformer" or not name[:1].isupper():  # a user's own, or a builder
        return OLD_BUILDERS.get(target, target)
    package = "models.hf" if inner[:2] == ["models", "hf"] else inner[0]
    return f"{top}.{package}.{OLD_CLASSES.get(name, name)}"


def _nodes(config: Any, path: list[str]) -> list[dict[str, Any]]:
    """The mappings at a path; through a list, those of each of its items."""
    nodes = [config]
    for name in path:
        inner = [node.get(name) for node in nodes]
        nodes = [item for value in inner for item in (value if isinstance(value, list) else [value])]
        nodes = [item for item in nodes if isinstance(item, dict)]
    return nodes
