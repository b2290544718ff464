"""Initial weights of a run: published ones, those of an earlier run, or random ones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protoformer import hub
from protoformer.assembly.instantiate import instantiate
from protoformer.errors import UserError, WeightsError
from protoformer.models import weights
from protoformer.models.hf.layout import HeadLayout, WeightsLayout
from protoformer.models.hf.sizes import read_tensors
from protoformer.modules.task_module import TaskModule
from protoformer.runs.digests import folder_digest
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
    """What `init_from` means for this model and task, fetched from the hub where it lies there.

    Raises UserError for a task without a training split whose weights nothing names, WeightsError for a missing folder.
    """
    init_from, published = config["init_from"], config["model"].get("hf") or {}
    task, repo = config["task"], published.get("repo")
    test_only = not task["splits"].get("train")
    if test_only and (init_from == "scratch" or (init_from == "auto" and task["needs_head"])):
        raise UserError(
            f"task={config['choices']['task']} has no training split: give a trained run as init_from=<run folder>"
        )
    if test_only and init_from == "auto" and not repo:
        raise UserError(
            f"task={config['choices']['task']} has no training split and {config['choices']['model']} no published weights: "
            "name some by init_from=<run folder, folder or hub id>"
        )
    if init_from == "scratch" or (init_from == "auto" and task["starts_from"] == "scratch"):
        return InitialWeights("scratch")
    if init_from == "auto":
        if repo:
            return _from_hub(repo, published.get("revision"))
        log.info("%s has no published weights: starting from scratch", config["choices"]["model"])
        return InitialWeights("scratch")
    folder = Path(init_from).expanduser()
    if (folder / "checkpoints").is_dir():
        return InitialWeights(str(init_from), folder, is_run=True, digest=folder_digest(folder / "checkpoints"))
    if folder.is_dir():
        return InitialWeights(str(init_from), folder, digest=folder_digest(folder))
    if hub.is_path(init_from):
        raise WeightsError(f"init_from={init_from}: no such folder")
    return _from_hub(init_from, published.get("revision") if init_from == repo else None)


def _from_hub(repo: str, revision: str | None) -> InitialWeights:
    folder, commit = hub.fetch(repo, revision)
    return InitialWeights(f"{repo}@{commit}", folder, digest=commit)


@dataclass(frozen=True)
class HeadWeights:
    """A head's tensors and its purpose: the kind of task and, for a classifier, the names of its labels.

    `labels` None with `has_labels` is a regression.
    """

    state: weights.StateDict
    kind: str
    labels: list[str] | None
    has_labels: bool

    def fits(self, task: Mapping[str, Any]) -> bool:
        return bool(self.state) and (self.kind, self.labels) == (task["kind"], labels_of(task))


def labels_of(task: Mapping[str, Any]) -> list[str] | None:
    """The names of a classifier's labels; None for a regression, and for kinds that have no labels."""
    return task["rows"].get("labels")


def load_initial_weights(module: TaskModule, config: Mapping[str, Any], initial: InitialWeights) -> None:
    """Load the first weights into a module. A head for another purpose than the task's is left out, and the log says so."""
    if initial.folder is None:
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
    weights.load_into(module.backbone, backbone, name, () if test_only else optional)
    if head.fits(task):
        names = module.head.state_dict().keys()
        state = {k: v for k, v in head.state.items() if k in names or not k.startswith(module.optional_head_prefixes)}
        weights.load_into(module.head, state, name, module.optional_head_prefixes)
        return
    purpose = head.labels or ("one number" if head.has_labels else head.kind)
    if test_only and task["needs_head"]:
        needed = labels_of(task) or task["kind"]
        raise WeightsError(f"{name} has no head for {needed}; it has {purpose if head.state else 'none'}")
    if head.state:
        log.info("%s: its head for %s is not used; the task's head is randomly initialised", name, purpose)


def read_folder(
    folder: Path, layout: WeightsLayout, kind: str, module_head: HeadLayout | None = None
) -> tuple[weights.StateDict, HeadWeights]:
    """Backbone and head of published weights; the head is empty where theirs is for another kind of task."""
    backbone, heads = read_tensors(folder, layout)
    hf_config = weights.read_config(folder)
    state = layout.head_from_hf(kind, heads, hf_config, module_head)
    labels = layout.labels(kind, hf_config, module_head) if state else None
    head_layout = layout.heads.get(kind, module_head)
    return backbone, HeadWeights(state, kind, labels, head_layout is not None and head_layout.labelled)


def read_run(folder: Path) -> tuple[weights.StateDict, HeadWeights]:
    """Backbone and head of a run: of its best checkpoint, or of its last one where it has no dev split."""
    run = RunFolder(folder, folder.name)
    state, earlier = weights.read_pickle(run.chosen_checkpoint)["state_dict"], run.read_config()
    backbone, head = split_state(state)
    task = earlier["task"]
    return backbone, HeadWeights(head, task["kind"], labels_of(task), "labels" in task["rows"])


def split_state(state: Mapping[str, torch.Tensor]) -> tuple[weights.StateDict, weights.StateDict]:
    """The tensors of a task module as (backbone's, head's), without their prefixes."""
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    head = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
    return backbone, head
