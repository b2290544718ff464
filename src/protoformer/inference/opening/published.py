"""A folder of published weights, or such a repository of the hub, with its head, opened as a run is."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from protoformer.assembly.head_weights import HeadWeights
from protoformer.assembly.initial_weights import read_folder
from protoformer.assembly.instantiate import instantiate, instantiate_node
from protoformer.assembly.model import builder_arguments
from protoformer.errors import WeightsError
from protoformer.inference.opening.backbone import PublishedFolder, read_published
from protoformer.inference.opening.opened import OpenedModel
from protoformer.json_files import Values
from protoformer.models import weights
from protoformer.models.hf import WeightsLayout
from protoformer.models.hf.sizes import read_tensors
from protoformer.modules.published_tasks import task_of_head
from protoformer.modules.task_module import TaskModule

NO_KIND = "none"
FOR_A_TASK = re.compile("For[A-Z]|LMHead")  # in the name of a class with a head
DEFAULT_LENGTH = 512  # tokens, where a model has no largest length


def open_published(folder: Path, name: str) -> OpenedModel:
    """The model of a folder, with its head. Raises WeightsError, in one line, where it cannot be opened.

    One without a head (or with one of an unknown kind) has no task: its hidden states can be read, and it predicts nothing.
    """
    published = read_published(folder)
    layout = published.layout
    kind = _kind(layout, published.config, read_tensors(folder, layout)[1])
    body, head = read_folder(folder, layout, kind or NO_KIND)
    config = _config(published, folder, name, kind, head.labels)
    backbone = instantiate_node(builder_arguments(config["model"]), "model", packing="auto")
    if config["task"]["kind"] == NO_KIND:
        module: TaskModule[Any, Any] = TaskModule(None)
        module.backbone = backbone
    else:
        module = instantiate(
            config, "task.module", backbone=backbone, splits={"val": [], "test": []}, optimization=None
        )
    weights.load_into(backbone, body, name, _unused_prefixes(module, layout))
    _load_head(module, head, name, layout)
    return OpenedModel(module.eval(), published.tokenizer, config, name, of_run=False)


def _kind(layout: WeightsLayout, hf_config: weights.HfConfig, heads: Mapping[str, Tensor]) -> str | None:
    """The kind that `architectures` in `config.json` names; where it names none of the classes with a head, that of the tensors
    of the head.

    A language model whose output layer is its embedding needs no head. None: a model without a head, or with one that this
    layout does not know.
    """
    architectures = Values(hf_config).texts("architectures")
    for kind, head in layout.heads.items():
        classes = tuple(name for name in (head.model_class, head.partial) if name)
        if any(name.endswith(classes) for name in architectures):
            return kind
    headless = next((kind for kind, head in layout.heads.items() if not head.parts), None)
    if headless is not None or any(FOR_A_TASK.search(name) for name in architectures):
        return headless
    return next((kind for kind in layout.heads if layout.head_from_hf(kind, heads, hf_config)), None)


def _config(
    published: PublishedFolder, folder: Path, name: str, kind: str | None, labels: list[str] | None
) -> dict[str, Any]:
    """The nodes `model` and `task` of a run that would have this model."""
    positions = published.sizes.get("max_seq_len") or DEFAULT_LENGTH
    max_len = min(positions, published.tokenizer.model_max_length or positions)
    task = None if kind is None else task_of_head(kind, name, labels, max_len)
    return {
        "choices": {"model": name, "task": name, "family": str(published.config.get("model_type"))},
        "model": {
            **_node(published.family.builder),
            **published.sizes,
            "template": _node(published.family.template),
            "hf": {**_node(type(published.layout)), "repo": None, "revision": None},
        },
        "task": task or {"kind": NO_KIND, "max_len": max_len, "rows": {}, "splits": {}},
        "init_from": str(folder),
    }


def _node(target: Callable[..., object]) -> dict[str, object]:
    """A class or function as a node of a config, with the arguments of a partial one."""
    function = target.func if isinstance(target, partial) else target
    arguments = dict(target.keywords) if isinstance(target, partial) else {}
    return {"_target_": f"{function.__module__}.{function.__qualname__}", **arguments}


def _unused_prefixes(module: TaskModule, layout: WeightsLayout) -> tuple[str, ...]:
    """Parts of the model that a folder may lack, since this kind of task does not train them (a masked LM has no pooler)."""
    pooler = getattr(module.backbone, "pooler", None)
    trained = pooler is not None and any(parameter.requires_grad for parameter in pooler.parameters())
    return () if trained and hasattr(module, "head") else layout.optional_prefixes


def _load_head(module: TaskModule, head: HeadWeights, name: str, layout: WeightsLayout) -> None:
    if head.state:
        names = module.head.state_dict().keys()
        optional = module.optional_head_prefixes
        state = {key: tensor for key, tensor in head.state.items() if key in names or not key.startswith(optional)}
        weights.load_into(module.head, state, name, optional)
    elif head.kind in layout.heads and layout.heads[head.kind].parts:
        raise WeightsError(f"{name}: config.json names a head for {head.kind}, and the weights hold none")
