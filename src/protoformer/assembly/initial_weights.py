"""Initial weights of a run: published ones, those of an earlier run, or random ones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protoformer import hub
from protoformer.assembly.head_weights import HeadWeights, labels_of
from protoformer.assembly.instantiate import instantiate
from protoformer.config.validate import check_names_weights
from protoformer.errors import ConfigurationError, UserError, WeightsError
from protoformer.models import weights
from protoformer.models.hf.labels import fitted
from protoformer.models.hf.layout import HeadLayout, WeightsLayout
from protoformer.models.hf.sizes import read_tensors
from protoformer.modules.layerwise import top_layers
from protoformer.modules.task_module import TaskModule
from protoformer.runs.digests import checkpoints_digest, folder_digest
from protoformer.runs.folder import RunFolder

log = logging.getLogger(__name__)


ROWS_OF_TOKENS = ("embeddings.token.weight", "output.weight")  # get rows for tokens that a task adds


@dataclass(frozen=True)
class InitialWeights:
    """Where the first weights of a run come from: drawn ("scratch"), a Hugging Face folder, or an earlier run."""

    source_name: str
    folder: Path | None = None
    is_run: bool = False
    digest: str = "scratch"

    @property
    def run(self) -> RunFolder | None:
        """The earlier run, where it is one."""
        return RunFolder(self.folder, self.folder.name) if self.is_run and self.folder is not None else None


def find_initial_weights(config: Mapping[str, Any]) -> InitialWeights:
    """What `init_from` means for this model and task, fetched from the hub where it lies there. Of a run that only tested it
    is the weights that it tested.

    Raises UserError for a task without a training split whose weights nothing names, WeightsError for a missing folder.
    """
    check_names_weights(config)
    init_from, published = config["init_from"], config["model"].get("hf") or {}
    task, repo = config["task"], published.get("repo")
    test_only = not task["splits"].get("train")
    if init_from == "scratch" or (init_from == "auto" and task["starts_from"] == "scratch"):
        if test_only:
            log.info("nothing is trained: the model of random weights is a baseline")
        return InitialWeights("scratch")
    if init_from == "auto":
        if repo:
            return _from_hub(repo, published.get("revision"), test_only=test_only)
        log.info("%s has no published weights: starting from scratch", config["choices"]["model"])
        return InitialWeights("scratch")
    folder = Path(init_from).expanduser()
    if (folder / "config.yaml").is_file() and not (folder / "config.json").is_file():
        earlier = RunFolder(folder, folder.name).read_whole_config()
        if not (folder / "checkpoints").is_dir():
            if earlier["task"]["splits"].get("train"):
                raise WeightsError(
                    f"init_from={init_from}: a run without checkpoints; there are no weights in it, or not yet (or it is a "
                    "copy without them)"
                )
            return find_initial_weights({**config, "init_from": earlier["init_from"]})  # those that it tested
    if (folder / "checkpoints").is_dir():
        return InitialWeights(str(init_from), folder, is_run=True, digest=checkpoints_digest(folder / "checkpoints"))
    if folder.is_dir():
        return InitialWeights(str(init_from), folder, digest=folder_digest(folder))
    if hub.is_path(init_from):
        raise WeightsError(f"init_from={init_from}: no such folder")
    revision = published.get("revision") if init_from == repo else None
    return _from_hub(init_from, revision, test_only=test_only)


def _from_hub(repo: str, revision: str | None, *, test_only: bool) -> InitialWeights:
    try:
        folder, commit = hub.fetch(repo, revision)
    except WeightsError as error:
        if not test_only:
            raise
        raise WeightsError(str(error).replace(hub.OR_SCRATCH, "")) from None
    return InitialWeights(f"{repo}@{commit}", folder, digest=commit)


def load_initial_weights(module: TaskModule, config: Mapping[str, Any], initial: InitialWeights) -> None:
    """Load the first weights into a module. A head for another purpose than the task's is left out, and the log says so."""
    reinitialised = config["recipe"].get("reinit_layers", 0)
    if initial.folder is None:
        if reinitialised:
            raise ConfigurationError(
                f"recipe.reinit_layers={reinitialised} draws layers of initial weights anew, and init_from=scratch has none"
            )
        return
    task, name = config["task"], initial.source_name
    test_only = task["splits"].get("train") is None
    if initial.run is not None:
        backbone, head = read_run(initial.folder)
        optional = module.backbone.optional_prefixes
    else:  # a model whose weights were never published (an RNN) has no layout
        layout: WeightsLayout = instantiate(config, "model.hf")
        backbone, head = read_folder(initial.folder, layout, task["kind"], module.hf_head)
        optional = (*module.backbone.optional_prefixes, *layout.optional_prefixes)
    for matrix in ROWS_OF_TOKENS:
        backbone = weights.pad_embedding_rows(module.backbone, backbone, matrix)
    prefixes = tuple(top_layers(module.backbone, reinitialised)) if reinitialised else ()
    drawn = {key: tensor.clone() for key, tensor in module.backbone.state_dict().items() if key.startswith(prefixes)}
    weights.load_into(module.backbone, backbone, name, () if test_only else optional)
    if reinitialised:
        module.backbone.load_state_dict(drawn, strict=False)
        anew = [prefix[:-1] for prefix in prefixes if any(key.startswith(prefix) for key in drawn)]
        log.info("drawn anew (recipe.reinit_layers=%d): %s", reinitialised, ", ".join(anew))
    head = head.arranged(task, name)
    _log_typed_labels(config, head)
    if head.fits(task):
        names = module.head.state_dict().keys()
        state = {k: v for k, v in head.state.items() if k in names or not k.startswith(module.optional_head_prefixes)}
        weights.load_into(module.head, state, name, module.optional_head_prefixes)
        return
    purpose = head.labels or ("one number" if head.has_labels else head.kind)
    if test_only and module.needs_training_split:
        advice = module.needs_training_split.replace("RUN", name)
        raise UserError(f"task={config['choices']['task']} has no training split, {advice}")
    if test_only and task["needs_head"]:
        needed = labels_of(task) or task["kind"]  # both lists, where the words differ
        raise WeightsError(f"{name} has no head for {needed}; it has {purpose if head.state else 'none'}")
    if head.state:
        log.info("%s: its head for %s is not used; the task's head is randomly initialised", name, purpose)


def _log_typed_labels(config: Mapping[str, Any], head: HeadWeights) -> None:
    """Labels of the data that were typed say what its numbers mean; a head has an order of its own."""
    if head.fits(config["task"]) and "task.rows.labels" in config["choices"].get("set", ()):
        log.info(
            "task.rows.labels=%s names the labels 0, 1, ... of the data; the order of a head's labels needs no setting",
            labels_of(config["task"]),
        )


def read_folder(
    folder: Path, layout: WeightsLayout, kind: str, module_head: HeadLayout | None = None
) -> tuple[weights.StateDict, HeadWeights]:
    """Backbone and head of published weights; the head is empty where theirs is for another kind of task."""
    backbone, heads = read_tensors(folder, layout)
    hf_config = weights.read_config(folder)
    state = layout.head_from_hf(kind, heads, hf_config, module_head)
    head_layout = layout.heads.get(kind, module_head)
    labelled = head_layout is not None and head_layout.labelled
    labels = layout.labels(kind, hf_config, module_head) if state else None
    if labelled and state:
        labels = fitted(labels, max((len(tensor) for tensor in state.values() if tensor.ndim), default=0))
    return backbone, HeadWeights(state, kind, labels, labelled)


def read_run(folder: Path) -> tuple[weights.StateDict, HeadWeights]:
    """Backbone and head of a run: of its best checkpoint, or of its last one where it has no dev split."""
    run = RunFolder(folder, folder.name)
    state, earlier = weights.read_checkpoint(run.chosen_checkpoint)["state_dict"], run.read_config()
    backbone, head = split_state(state)
    task = earlier["task"]
    return backbone, HeadWeights(head, task["kind"], labels_of(task), "labels" in task["rows"])


def split_state(state: Mapping[str, torch.Tensor]) -> tuple[weights.StateDict, weights.StateDict]:
    """The tensors of a task module as (backbone's, head's), without their prefixes."""
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    head = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
    return backbone, head
