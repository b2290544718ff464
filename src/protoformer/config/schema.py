"""What the composed config may hold, node by node, where the node is not the signature of a `_target_`.

Light on purpose (dataclasses alone): it is imported before anything is built, so that a misspelt key costs no start-up.
A node with a `_target_` is held against that target's own signature instead.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from protoformer.optim.optimization import Optimization

NEUTRAL = (  # what cannot change a result, and so is no part of a run's name (DESIGN: runs are idempotent)
    "paths",
    "tracking",
    "views",
    "row",  # only in what it changes
    "force",
    "reuse",
    "choices",
    "model.pretraining",
    "task.train_examples",
    "hardware.accelerator",
    "hardware.devices",
    "hardware.nodes",
    "hardware.micro_batch",
    "hardware.workers",
    "hardware.compile",
    "hardware.threads",
    "hardware.grace",
    "hardware.timeout",
    "hardware.rendezvous",
    "trainer.checkpoint_every",
    "trainer.log_every",
)


@dataclass(frozen=True)
class Model:
    """Keys of `model` besides the builder's own arguments."""

    format: dict[str, Any]
    tokenizer: str = "auto"
    cleanup: Literal["original", "bert"] | None = None  # of texts for GPT's vocabulary; null: as its file says
    pretraining: dict[str, Any] | None = None  # what the family's pretraining recipe takes of this size
    published: dict[str, Any] | None = None  # how Hugging Face lays this family out, and where its weights lie


@dataclass(frozen=True)
class Splits:
    """Names of a data set's splits; a mapping gives several dev or test sets, reported apart."""

    validation: str | dict[str, str] | None
    test: str | dict[str, str] | None
    train: str | None = None


@dataclass(frozen=True)
class Task:
    """A data set and the kind that reads it."""

    kind: str
    max_len: int
    rows: dict[str, Any]
    splits: Splits
    data: dict[str, Any]
    module: dict[str, Any]
    starts_from: Literal["published", "scratch"] = "published"  # what init_from=auto means
    train_examples: int | None = None  # of the published training split, for `protoformer plan`
    vocabulary: dict[str, Any] | None = None  # learnt from the training text, where the model brings none
    needs_head: bool = True  # whether a test without training needs a trained head


@dataclass(frozen=True, kw_only=True)
class Recipe(Optimization):
    """How a model is fitted. `batch_size` is global: over ranks and accumulated micro-batches."""

    batch_size: int
    epochs: int | None = None
    max_steps: int = -1
    aux_lm_weight: float = 0.0  # fine-tuning of a decoder: lambda of its language model's loss
    label_smoothing: float = 0.0  # translation: epsilon
    batching: Literal["random", "length_grouped", "tokens"] = (
        "random"  # tokens: batch_size and micro_batch count tokens
    )
    average: int = 1  # of how many of its last checkpoints the run takes the mean
    average_every: int | None = None  # optimizer steps between those; null: one at each validation


@dataclass(frozen=True)
class Trainer:
    """Limits and intervals, handed to Lightning's Trainer; null leaves its own default."""

    max_epochs: int | None = None
    max_steps: int = -1
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    val_check_interval: int | float | None = None
    check_val_every_n_epoch: int | None = None
    deterministic: bool = False
    checkpoint_every: int = 500  # optimizer steps between checkpoints to continue from
    log_every: int = 10  # optimizer steps between lines of metrics.jsonl


@dataclass(frozen=True)
class Hardware:
    """What changes speed and, but for precision and packing, nothing else."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["all"] = 1
    nodes: int = 1
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    packing: Literal["auto", "on", "off"] = "auto"
    micro_batch: int | None = None  # rows a rank holds at once; null: the whole share
    workers: int = 0
    threads: int | None = None
    compile: bool = False
    grace: int = 300  # seconds that ranks get to save after TERM
    timeout: int = 1800  # seconds before a silent rank is given up
    rendezvous: str | None = None  # host:port of the first node, with nodes > 1


@dataclass(frozen=True)
class Tracking:
    """Where a run is logged besides its own folder."""

    mode: Literal["auto", "wandb", "wandb_offline", "tensorboard", "none"] = "auto"
    project: str = "protoformer"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Paths:
    """Folders; also by environment variable."""

    outputs: str
    cache: str


@dataclass(frozen=True)
class Views:
    """Pictures that a run leaves at its end."""

    attention: bool = False  # heads over a dev example: a page in the run folder, pictures in the tracker


@dataclass(frozen=True)
class Run:
    """The whole."""

    model: Model
    task: Task
    recipe: Recipe
    trainer: Trainer
    hardware: Hardware
    source: dict[str, Any]
    tracking: Tracking
    paths: Paths
    views: Views
    row: dict[str, Any] | None = None  # of a table that is a sweep: what this run changes, read by ${row.key}
    seed: int = 42
    init_from: str = "auto"
    force: bool = False
    reuse: bool = False
