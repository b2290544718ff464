"""Initial weights of a run: from the hub, a folder, an earlier run, or drawn."""

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
from protoformer.modules.task_module import TaskModule
from protoformer.runs.digests import folder_digest

log = logging.getLogger(__name__)


EMBEDDING = "embeddings.token.weight"  # gets rows for tokens that a task adds


FRESH = ("top.",)  # parts of an encoder that may be added to one trained without them


SPARE = ("next.",)  # parts of a head that a task may do without


@dataclass(frozen=True)
class Initial:
    """Where a run's first weights come from: nothing (scratch), a Hugging Face folder, or an earlier run."""

    origin: str
    folder: Path | None = None
    is_run: bool = False
    digest: str = "scratch"


def initial(config: Mapping[str, Any]) -> Initial:
    """What `init_from` means for this model and task. Raises UserError when it means nothing that is there."""
    wanted, published = config["init_from"], config["model"].get("hf") or {}
    test_only = not config["task"]["splits"].get("train")
    if test_only and (wanted == "scratch" or (wanted == "auto" and config["task"]["needs_head"])):
        raise UserError(
            f"task={config['choices']['task']} has no training split: name a trained run by init_from=<run folder>"
        )
    if test_only and wanted == "auto" and not published.get("repo"):
        raise UserError(
            f"task={config['choices']['task']} has no training split and {config['choices']['model']} no published weights: "
            "name some by init_from=<run folder, folder or hub id>"
        )
    if wanted == "auto":
        if config["task"]["starts_from"] == "scratch":
            return Initial("scratch")
        if not published.get("repo"):
            log.info("%s has no published weights: starting from scratch", config["choices"]["model"])
            return Initial("scratch")
        return _from_hub(published["repo"], published.get("revision"))
    if wanted == "scratch":
        return Initial("scratch")
    folder = Path(wanted).expanduser()
    if (folder / "checkpoints").is_dir():
        return Initial(str(wanted), folder, is_run=True, digest=folder_digest(folder / "checkpoints"))
    if folder.is_dir():
        return Initial(str(wanted), folder, digest=folder_digest(folder))
    if hub.is_path(wanted):
        raise WeightsError(f"init_from={wanted}: no such folder")
    revision = published.get("revision") if wanted == published.get("repo") else None
    return _from_hub(wanted, revision)


def _from_hub(repo: str, revision: str | None) -> Initial:
    folder, commit = hub.fetch(repo, revision)
    return Initial(f"{repo}@{commit}", folder, digest=commit)


@dataclass(frozen=True)
class Head:
    """A head's tensors, and what it is for: the kind of task and, for a classifier, the words of its labels."""

    state: weights.State
    kind: str
    labels: list[str] | None

    def fits(self, task: Mapping[str, Any]) -> bool:
        return bool(self.state) and (self.kind, self.labels) == (task["kind"], labels_of(task))


def labels_of(task: Mapping[str, Any]) -> list[str] | None:
    """The words of a classifier's labels; None for a number, and for kinds that have none."""
    return task["rows"].get("labels")


def put_initial(module: TaskModule, config: Mapping[str, Any], start: Initial) -> None:
    """The first weights; heads that the task does not share stay as they are and are listed in the log."""
    folder, task = start.folder, config["task"]
    if folder is None:
        return
    layout: WeightsLayout = instantiate(config, "model.hf")
    tested_only = task["splits"].get("train") is None
    body, head = read_run(folder) if start.is_run else read_folder(folder, layout, task["kind"], module.hf_head)
    fresh = () if tested_only else FRESH if start.is_run else (*FRESH, *layout.optional_prefixes)
    weights.load_into(
        module.backbone, weights.pad_embedding_rows(module.backbone, body, EMBEDDING), start.origin, fresh
    )
    if head.fits(task):
        own = module.head.state_dict()
        spare = [name for name in head.state if name.startswith(SPARE) and name not in own]
        weights.load_into(module.head, {k: v for k, v in head.state.items() if k not in spare}, start.origin, SPARE)
        return
    whose = head.labels or ("one number" if head.kind == "classification" else head.kind)
    if tested_only and task["needs_head"]:
        wanted = labels_of(task) or task["kind"]
        raise WeightsError(f"{start.origin} has no head for {wanted}; it has {whose if head.state else 'none'}")
    if head.state:
        log.info("%s: its head for %s is not used; the task's own starts fresh", start.origin, whose)


def read_folder(
    folder: Path, layout: WeightsLayout, kind: str, module_head: HeadLayout | None = None
) -> tuple[weights.State, Head]:
    """Encoder and head of published weights; a head of another kind than the task's is none."""
    body, heads = layout.from_hf(weights.read_state(folder))
    hf_config = weights.read_config(folder)
    state = layout.head_from_hf(kind, heads, hf_config, module_head)
    return body, Head(state, kind, layout.labels(kind, hf_config, module_head) if state else None)


def read_run(folder: Path) -> tuple[weights.State, Head]:
    """Encoder and head of a run: of its best checkpoint, or its last where there was nothing to choose by."""
    from protoformer.runs.folder import RunFolder

    run = RunFolder(folder, folder.name)
    state = weights.read_pickle(run.chosen_checkpoint)["state_dict"]
    earlier = run.read_config()
    body, head = split_state(state)
    return body, Head(head, earlier["task"]["kind"], labels_of(earlier["task"]))


def split_state(state: Mapping[str, torch.Tensor]) -> tuple[weights.State, weights.State]:
    """A module's tensors -> (encoder's, head's), without their prefixes."""
    body = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    head = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
    return body, head
