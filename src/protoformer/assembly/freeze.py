"""Frozen parameters (`recipe.freeze`): they get no gradient, no update and no decay."""

from collections.abc import Sequence

from torch import nn

from protoformer.config.names.suggest import advice
from protoformer.errors import ConfigurationError
from protoformer.modules.task_module import TaskModule

BACKBONE = "backbone"  # all but the task's head
KEY = "recipe.freeze"


def freeze(module: TaskModule, choice: int | str | Sequence[str] | None) -> None:
    """Freeze what `choice` names: "backbone"; a number n of layers (of each stack) beside the embeddings; or parts of the
    model by their names, such as `embeddings` or `layers.3`.

    Raises ConfigurationError for a name or a number that the model does not have, and where nothing is left to train.
    """
    if choice is None:
        return
    backbone: nn.Module = module.backbone
    if choice == BACKBONE:
        backbone.requires_grad_(False)
    else:
        names = _first_layers(backbone, choice) if isinstance(choice, int) else choice
        for name in [names] if isinstance(names, str) else names:
            _part(backbone, name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigurationError(f"{KEY}={choice} leaves nothing to train: this task has no head beside the model")


def _first_layers(backbone: nn.Module, number: int) -> list[str]:
    """The embeddings and the first layers of each stack."""
    stacks = [name for name, part in backbone.named_children() if hasattr(part, "layers")]
    layers = {name: len(getattr(backbone, name).layers) for name in stacks}
    if not layers or number > max(layers.values()):
        described = ", ".join(f"{name}: {count}" for name, count in layers.items()) or "none"
        raise ConfigurationError(f"{KEY}={number}: the model has fewer layers ({described})")
    embeddings = [name for name, _ in backbone.named_children() if name in ("embeddings", "target_embeddings")]
    return [*embeddings, *(f"{name}.layers.{i}" for name in stacks for i in range(min(number, layers[name])))]


def _part(backbone: nn.Module, name: str) -> nn.Module | nn.Parameter:
    """A module or a parameter of the model by its name; `layers.3` is that of the only stack."""
    parts: dict[str, nn.Module | nn.Parameter] = {
        each: part for each, part in backbone.named_modules() if each and any(True for _ in part.parameters())
    }
    parts |= dict(backbone.named_parameters())
    for spelling in (name, f"stack.{name}"):
        if spelling in parts:
            return parts[spelling]
    names = [each for each in parts if each.count(".") < 3 and not each.endswith((".weight", ".bias"))]
    raise ConfigurationError(
        f"{KEY}: the model has no part {name!r}; {advice(name, names, 'parts')}, or {BACKBONE} for all"
    )
