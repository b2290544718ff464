"""Recipes: the settings of runs that can change a result, and short names by which those of a table are told apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from protoformer.config.schema import IGNORED_IN_RUN_ID
from protoformer.reporting.paper_results import as_yaml

ALWAYS_SHOWN = (
    "recipe.lr",
    "recipe.batch_size",
    "recipe.epochs",
    "recipe.max_steps",
)  # keys in the name of every recipe
DERIVED = {  # keys that repeat others, and those
    "trainer.max_epochs": "recipe.epochs",
    "trainer.max_steps": "recipe.max_steps",
    "task.module.labels": "task.rows.labels",
    "task.module.choices": "task.rows.choices",
    "task.module.aux_lm_weight": "recipe.aux_lm_weight",
    "task.module.label_smoothing": "recipe.label_smoothing",
}
FOLD_KEYS = ("task.fold", "task.splits.train", "task.splits.validation")
MAX_KEYS = 6  # further differing keys in a recipe's name that nobody typed


def settings(config: Mapping[str, object]) -> dict[str, object]:
    """A config as dotted keys, without the seed and the keys that cannot change a result."""
    flat: dict[str, object] = {}

    def descend(node: Mapping[str, object], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key == "seed" or key in IGNORED_IN_RUN_ID:
                continue
            if isinstance(value, Mapping) and value:
                descend(value, f"{key}.")
            elif value is not None:
                flat[key] = value

    descend(config, "")
    return flat


def recipe_names(variants: Sequence[Mapping[str, object]], typed: Sequence[str] = ()) -> list[str]:
    """Names of learning rate, batch size, length and the differing settings, `lr=5e-05 batch_size=32 epochs=3`; different
    settings get different names, folds of one cross-validation the same. Keys that were `typed` come first, and none of them
    is left out."""
    variants = [_of_any_fold(variant) for variant in variants]
    differ = differing(variants)
    differ = [key for key in differ if key not in ALWAYS_SHOWN and DERIVED.get(key) not in differ]
    # typed ones first; sizes that follow from other weights last
    differ.sort(key=lambda key: (key not in typed, key.startswith("model.")))
    shown = differ[: max(MAX_KEYS, sum(key in typed for key in differ))]
    hidden: dict[str, int] = {}  # settings that differ only in left-out keys are numbered
    names = []
    for variant in variants:
        keys = [key for key in _length_keys(variant) if key in variant] + [key for key in shown if key in variant]
        text = " ".join(f"{_short(key, shown)}={as_yaml(variant[key])}" for key in keys)
        if len(differ) > len(shown):
            rest = repr([variant.get(key) for key in differ[len(shown) :]])
            text += f" (+{len(differ) - len(shown)} keys, variant {hidden.setdefault(rest, len(hidden) + 1)})"
        names.append(text or "(default)")
    return names


def _of_any_fold(variant: Mapping[str, object]) -> dict[str, object]:
    """Settings without those that say which fold of a cross-validation is held out, and without the epochs' second name."""
    left_out = FOLD_KEYS if variant.get("task.folds") else ()
    if variant.get("trainer.max_epochs") == variant.get("recipe.epochs"):
        left_out = (*left_out, "trainer.max_epochs")
    return {key: value for key, value in variant.items() if key not in left_out}


def _length_keys(variant: Mapping[str, Any]) -> list[str]:
    """The keys of ALWAYS_SHOWN: `max_steps` in the place of the epochs where it is set."""
    without = "recipe.epochs" if variant.get("recipe.max_steps", -1) > 0 else "recipe.max_steps"
    return [key for key in ALWAYS_SHOWN if key != without]


def _short(key: str, shown: Sequence[str]) -> str:
    """The last part of a key, with as many before it as tell it from the others."""
    parts = key.split(".")
    for number in range(1, len(parts)):
        ending = ".".join(parts[-number:])
        if not any(other != key and f".{other}".endswith(f".{ending}") for other in (*shown, *ALWAYS_SHOWN)):
            return ending
    return key


def differing(variants: Sequence[Mapping[str, object]]) -> list[str]:
    """The keys whose values are not the same in all variants."""
    keys = dict.fromkeys(key for variant in variants for key in variant)
    return [key for key in keys if len({repr(variant.get(key)) for variant in variants}) > 1]
