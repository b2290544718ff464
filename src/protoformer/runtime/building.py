"""From the plain config to live parts: initial weights, tokenizer, model, data, task module."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from hydra import utils as hydra_utils
from hydra.errors import InstantiationException

from protoformer import hub
from protoformer.data.datamodule import TableDataModule, named_splits
from protoformer.data.rows import Role
from protoformer.data.samplers import Batching
from protoformer.errors import ConfigurationError, UserError, WeightsError
from protoformer.models import weights
from protoformer.modules.evaluation import Stage
from protoformer.modules.objective import ObjectiveModule, Optimization
from protoformer.runtime.digests import folder_digest
from protoformer.runtime.signatures import signature
from protoformer.text.tokenizers import TOKENIZER_FILES, Tokenizer, cleaned, read_tokenizer, whole_words

log = logging.getLogger(__name__)
OPTIMIZATION = tuple(field.name for field in fields(Optimization))
EVALUATION_ROWS = 64  # rows that a rank evaluates at once
# keys of `model` that its builder does not take
OF_THE_FAMILY = ("tokenizer", "cleanup", "format", "published", "pretraining")
FREE = (
    "dropout",
    "attention_dropout",
    "packing",
    "init_std",
    "top",
)  # may differ from those of the run that it starts from
EMBEDDING = "embeddings.token.weight"  # gets rows for tokens that a task adds
FRESH = ("top.",)  # parts of an encoder that may be added to one trained without them
SPARE = ("next.",)  # parts of a head that a task may do without
STAGES: dict[Stage, Role] = {"val": "validation", "test": "test"}  # our stages -> the roles that a task's splits play


def instantiate(node: Any, **more: Any) -> Any:
    """Hydra's, but a user error of what is built stays one."""
    try:
        return hydra_utils.instantiate(node, **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


@dataclass(frozen=True)
class Initial:
    """Where a run's first weights come from: nothing (scratch), a Hugging Face folder, or an earlier run."""

    origin: str
    folder: Path | None = None
    is_run: bool = False
    digest: str = "scratch"


def initial(config: Mapping[str, Any]) -> Initial:
    """What `init_from` means for this model and task. Raises UserError when it means nothing that is there."""
    wanted, published = config["init_from"], config["model"].get("published") or {}
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


def tokenizer(config: Mapping[str, Any], start: Initial, source: Any) -> Tokenizer:
    """The vocabulary of `model.tokenizer`, which cleans texts up as `model.cleanup` says."""
    found, cleanup = vocabulary(config, start, source), config["model"].get("cleanup")
    return found if cleanup is None else cleaned(found, cleanup)


def vocabulary(config: Mapping[str, Any], start: Initial, source: Any) -> Tokenizer:
    """`model.tokenizer=FILE`, or for `auto` the one that came with the weights, one learnt from the task's training text, the
    source's own, or the published one.

    Raises ConfigurationError for a file whose words are not those that the weights were trained with.
    """
    wanted = config["model"]["tokenizer"]
    own = start.folder and (start.folder / "tokenizer" if start.is_run else start.folder)
    if wanted != "auto":
        path = Path(wanted).expanduser()
        if not path.exists() and hub.is_path(wanted):
            raise ConfigurationError(f"model.tokenizer={wanted}: no such file or folder")
        given = read_tokenizer(path if path.exists() else hub.fetch(wanted, None, weights=False)[0])
        if own and any((own / name).exists() for name in TOKENIZER_FILES):
            theirs = read_tokenizer(own)
            if other := given.differing(theirs):
                raise ConfigurationError(
                    f"model.tokenizer={wanted}: {other} of its {given.vocab_size} tokens have another id, or none, in the "
                    f"vocabulary that {start.origin} was trained with; leave model.tokenizer out"
                )
        return given
    if own:
        return read_tokenizer(own)
    if config["task"].get("vocabulary") and config["task"]["splits"].get("train"):
        learner, rows = instantiate(config["task"]["vocabulary"]), instantiate(config["task"]["rows"])
        return learner.learn(rows, source, config["task"]["splits"]["train"], Path(config["paths"]["cache"]))
    texts = source.corpus()
    if texts is not None:
        return whole_words(texts, "the source's own words")
    published = config["model"].get("published") or {}
    if not published.get("repo"):
        raise ConfigurationError("this model has no published tokenizer: name one by model.tokenizer=FILE")
    return read_tokenizer(hub.fetch(published["repo"], published.get("revision"), weights=False)[0])


def real_sizes(config: dict[str, Any], start: Initial, words: Tokenizer) -> dict[str, Any]:
    """Builder arguments as they will be built: a folder's sizes replace what the user did not set; a clash is an error."""
    keys = builder_arguments(config["model"])
    explicit = set(config["choices"].get("set", ()))
    if start.is_run and start.folder is not None:
        given = run_sizes(start.folder, keys)
    elif start.folder is not None:
        given = instantiate(config["model"]["published"]).sizes(weights.read_config(start.folder))
    else:
        given = {} if "model.vocab_size" in explicit else {"vocab_size": words.vocab_size}
    for name, value in given.items():
        if f"model.{name}" in explicit and keys.get(name) != value:
            raise ConfigurationError(
                f"model.{name}={keys.get(name)} was asked for, but {start.origin} has {name}={value}; leave one of them out"
            )
    sizes = {**keys, **given}
    if words.vocab_size > sizes["vocab_size"]:
        raise ConfigurationError(
            f"the tokenizer ({words.origin}) has {words.vocab_size} words, the model's vocab_size is {sizes['vocab_size']}"
        )
    return sizes


def with_room(config: Mapping[str, Any], sizes: dict[str, Any], words: Tokenizer) -> dict[str, Any]:
    """Sizes with an embedding for each special token that the model's format puts into this task's texts."""
    from hydra.utils import get_class

    writes = get_class(config["task"]["data"]["_target_"]).writes  # type: ignore[attr-defined]
    format = instantiate(config["model"]["format"], _partial_=True)(words)
    needed = format.largest_id(writes) + 1
    if needed > sizes["vocab_size"]:
        log.info("%d new embeddings for the format's special tokens", needed - sizes["vocab_size"])
    return {**sizes, "vocab_size": max(sizes["vocab_size"], needed)}


def run_sizes(folder: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run's model was built with, and a model that takes its weights must be built with as well; `keys` are
    the arguments that this model's config states."""
    earlier = read_model(folder)
    return {
        name: earlier.get(name, parameter.default)
        for name, parameter in signature(earlier["_target_"]).parameters.items()
        if name not in FREE and (name in earlier or name in keys)
    }


def read_model(folder: Path) -> dict[str, Any]:
    """The model's part of a run's config."""
    import yaml

    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]


def adopted(config: dict[str, Any], start: Initial) -> dict[str, Any]:
    """The config with the format of the run that it starts from: what a model reads for the whole it has learnt there."""
    explicit = config["choices"].get("set", ())
    if not start.is_run or start.folder is None or any(key.startswith("model.format") for key in explicit):
        return config
    return {**config, "model": {**config["model"], "format": read_model(start.folder)["format"]}}


@dataclass
class Parts:
    """What a run is made of."""

    module: ObjectiveModule
    data: TableDataModule[Any]
    tokenizer: Tokenizer
    sizes: dict[str, Any]
    start: Initial
    source: Any
    format: dict[str, Any]


def build(config: dict[str, Any], *, rank: int = 0, ranks: int = 1, initialise: bool = True) -> Parts:
    """Everything but the trainer. `initialise=False` leaves the weights random (a checkpoint will replace them)."""
    source = instantiate(config["source"])
    start = initial(config)
    config = adopted(config, start)
    words = tokenizer(config, start, source)
    sizes = with_room(config, real_sizes(config, start, words), words)
    data = datamodule(config, source, words, sizes, rank=rank, ranks=ranks)
    module = task_module(config, sizes)
    if initialise and start.folder is not None:
        put_initial(module, config, start)
    return Parts(module, data, words, sizes, start, source, config["model"]["format"])


def builder_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `model` that its builder takes, `_target_` included."""
    return {k: v for k, v in model.items() if k not in OF_THE_FAMILY}


def task_module(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> ObjectiveModule:
    """The model under its task's loss and metrics, with fresh weights; `sizes` are the builder's arguments.

    What the module takes that is said of the rows (labels, choices, ...) is handed on.
    """
    task, splits = config["task"], config["task"]["splits"]
    return instantiate(task["module"], _partial_=True, _convert_="all")(
        backbone=instantiate({**sizes, "packing": config["hardware"]["packing"]}),
        splits={stage: list(named_splits(splits.get(role))) for stage, role in STAGES.items()},
        optimization=Optimization(**{key: config["recipe"][key] for key in OPTIMIZATION if key in config["recipe"]}),
        **said_of_rows(task),
        **said_of_recipe(task, config["recipe"]),
    )


def said_of_recipe(task: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a task's module that belong to the fit, and that some kinds alone know."""
    taken = signature(task["module"]["_target_"]).parameters
    return {name: recipe[name] for name in ("aux_lm_weight", "label_smoothing") if name in taken and name in recipe}


def said_of_rows(task: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a task's module shares with its rows."""
    taken = signature(task["module"]["_target_"]).parameters
    offered = signature(task["rows"]["_target_"]).parameters
    return {
        name: task["rows"].get(name, offered[name].default)
        for name in taken
        if name in offered and name not in task["module"]
    }


def datamodule(
    config: Mapping[str, Any],
    source: Any,
    words: Tokenizer,
    sizes: Mapping[str, Any],
    *,
    rank: int = 0,
    ranks: int = 1,
) -> TableDataModule[Any]:
    """The task's rows as batches for one rank; no sequence is longer than the model has positions."""
    task, recipe, hardware = config["task"], config["recipe"], config["hardware"]
    longest = min(task["max_len"], sizes.get("max_seq_len") or task["max_len"])
    if longest < task["max_len"]:
        log.info("task.max_len=%d, but the model has %d positions: truncating there", task["max_len"], longest)
    limited = any(config["trainer"][name] is not None for name in ("limit_val_batches", "limit_test_batches"))
    batching = Batching(
        batch_size=recipe["batch_size"],
        micro_batch=hardware["micro_batch"],
        rank=rank,
        ranks=ranks,
        seed=config["seed"],
        order=recipe["batching"],
        workers=hardware["workers"],
        steps=recipe["max_steps"] if recipe["max_steps"] > 0 else None,
        # a limit counts these batches, so under one they must be the same rows on any number of ranks
        evaluation_rows=EVALUATION_ROWS if limited else EVALUATION_ROWS * ranks,
    )
    return instantiate(task["data"], _partial_=True)(
        rows=instantiate(task["rows"]),
        splits=task["splits"],
        source=source,
        tokenizer=words,
        format=instantiate(config["model"]["format"], _partial_=True)(words),
        max_len=longest,
        batching=batching,
        cache=Path(config["paths"]["cache"]),
    )


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


def put_initial(module: ObjectiveModule, config: Mapping[str, Any], start: Initial) -> None:
    """The first weights; heads that the task does not share stay as they are and are listed in the log."""
    folder, task = start.folder, config["task"]
    if folder is None:
        return
    layout = instantiate(config["model"]["published"])
    tested_only = task["splits"].get("train") is None
    body, head = read_run(folder) if start.is_run else read_folder(folder, layout, task["kind"])
    fresh = () if tested_only else FRESH if start.is_run else (*FRESH, *layout.optional)
    weights.put(module.backbone, weights.widened(module.backbone, body, EMBEDDING), start.origin, fresh)
    if head.fits(task):
        own = module.head.state_dict()
        spare = [name for name in head.state if name.startswith(SPARE) and name not in own]
        weights.put(module.head, {k: v for k, v in head.state.items() if k not in spare}, start.origin, SPARE)
        return
    whose = head.labels or ("one number" if head.kind == "classification" else head.kind)
    if tested_only and task["needs_head"]:
        wanted = labels_of(task) or task["kind"]
        raise WeightsError(f"{start.origin} has no head for {wanted}; it has {whose if head.state else 'none'}")
    if head.state:
        log.info("%s: its head for %s is not used; the task's own starts fresh", start.origin, whose)


def read_folder(folder: Path, layout: Any, kind: str) -> tuple[weights.State, Head]:
    """Encoder and head of published weights; a head of another kind than the task's is none."""
    body, heads = layout.read(weights.read_state(folder))
    described = weights.read_config(folder)
    state = layout.head(kind, heads, described)
    return body, Head(state, kind, layout.labels(described) if state and kind == "classification" else None)


def read_run(folder: Path) -> tuple[weights.State, Head]:
    """Encoder and head of a run: of its best checkpoint, or its last where there was nothing to choose by."""
    import yaml

    from protoformer.runtime.run_folder import RunFolder

    state = weights.read_pickle(RunFolder(folder, folder.name).chosen_checkpoint)["state_dict"]
    earlier = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    body, head = split_state(state)
    return body, Head(head, earlier["task"]["kind"], labels_of(earlier["task"]))


def split_state(state: Mapping[str, torch.Tensor]) -> tuple[weights.State, weights.State]:
    """A module's tensors -> (encoder's, head's), without their prefixes."""
    body = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    head = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
    return body, head
