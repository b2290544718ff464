"""The keys of a config, node by node, with their types, ranges and defaults.

A node with a `_target_` is held against that target's own signature instead (of `model` only these keys are stated here).
Imports nothing heavy: a misspelt key is answered before anything is built. Ranges are types, see `protoformer.ranges`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from protoformer.config.resolvers.ladder import Depth
from protoformer.optim.optimization import Optimization
from protoformer.ranges import Duration, NonNegative, Positive

# nodes that must have a `_target_`
TARGETS = ("model", "model.template", "task.rows", "task.data", "task.module", "task.vocabulary", "source")
COMPLETE = ("model", "source", "task.rows")  # nodes whose target gets all its required arguments from the config
DATA_CONTEXT = {  # fields of a data module's context, each with the key that decides it
    "reader": "task.rows",
    "splits": "task.splits",
    "source": "source",
    "tokenizer": "model.tokenizer",
    "template": "model.template",
    "max_len": "task.max_len",
    "batch_config": "recipe.batching",
    "cache": "paths.cache",
}
SUPPLIED = {  # arguments that `assembly` passes to a node's target, each with the key that decides it
    "model": {"packing": "hardware.packing"},
    "model.template": {"tokenizer": "model.tokenizer"},
    "task.data": {"context": "task.rows, task.splits, source, model, recipe or paths", **DATA_CONTEXT},
    "task.module": {"backbone": "model", "splits": "task.splits", "optimization": "recipe"},
}
Folder = Annotated[str, "a folder"]
Limit = Annotated[float, "above 0 and at most 1.0 (a fraction of an epoch), or a whole number of batches"] | Positive


@dataclass(frozen=True)
class Model:
    """Keys of `model` besides the builder's own arguments."""

    template: dict[str, Any]  # the input template: how a text, or a pair, is written as token ids
    tokenizer: Annotated[str, "auto, a file, a folder or a hub id"] = "auto"  # auto: the one of the initial weights
    normalization: Literal["original", "bert"] | None = None  # of texts for GPT's tokenizer; null: as its file says
    pretraining: dict[str, Any] | None = None  # values for this size that the family's pretraining recipe reads
    depth: Depth | None = None  # of a ladder of sizes: layers, from which width, heads, learning rate and batch follow
    hf: dict[str, Any] | None = None  # the family's Hugging Face layout, and the repository of its weights


@dataclass(frozen=True)
class Splits:
    """The data set's split of each role; a mapping names several dev or test sets, which are reported apart."""

    validation: str | dict[str, str] | None  # the best checkpoint has its best score; null: none
    test: str | dict[str, str] | None  # evaluated once, at the end; its labels may be hidden
    train: str | None = None  # null: the task only tests


@dataclass(frozen=True)
class Task:
    """A data set and how it is read, batched, trained on and scored."""

    kind: str  # classification, span, ...: the kind of task that result files name
    max_len: Annotated[int, "at least 4: special tokens and one of each text"]  # longest sequence, in tokens
    rows: dict[str, Any]  # the data set, and the reader of its columns
    splits: Splits
    data: dict[str, Any]  # the LightningDataModule
    module: dict[str, Any]  # the LightningModule
    starts_from: Literal["published", "scratch"] = "published"  # the initial weights that init_from=auto means
    train_examples: int | None = None  # size of the training split, for `protoformer plan`
    vocabulary: dict[str, Any] | None = None  # how one is learnt from the training text where the model has none
    needs_head: bool = True  # false: a run that only tests needs no trained head
    folds: Annotated[int, "at least 2"] | None = (
        None  # k-fold cross-validation: task.fold is validated on, the others train
    )
    fold: NonNegative | None = None  # which of task.folds, from 0
    # the fraction of the training rows that splits.validation=auto holds out where there is no validation file
    held_out: Annotated[float, "above 0 and at most 0.5"] = 0.1
    shots: NonNegative | None = None  # of an in-context task: solved examples in front of each prompt
    draws: Positive | None = None  # of an in-context task: draws of shots, whose mean and spread are the result
    shots_seed: NonNegative | None = None  # of an in-context task: draws its shots, apart from every other seed
    on_overflow: Literal["drop_shots", "error"] | None = None  # of a prompt that is longer than the model reads
    strides: list[Positive] | None = None  # of a perplexity: tokens between the windows, each a result of its own
    # evaluation tasks that a model is scored on while it is trained, each with overrides behind it: [lm/lambada, glue/sst2]
    probes: Sequence[str] = ()
    probe_every: Positive = 1000  # optimizer steps between two such scores
    probe_rows: Positive = 200  # rows of each split that are scored, the first ones
    probe_train_rows: Positive = 1000  # rows that the head of a classifying probe is fitted to
    split_seed: NonNegative = 0  # draws folds and held-out rows; another seed of the run does not change them


@dataclass(frozen=True)
class EarlyStopping:
    """Training ends after `patience` validations in a row whose dev score is not better than the best one by `min_delta`."""

    patience: Positive | None = None  # validations; null: train to the end
    min_delta: Annotated[float, "at least 0"] = 0.0  # in the points that scores are printed in, 0 to 100


@dataclass(frozen=True, kw_only=True)
class Recipe(Optimization):
    """How a model is trained: the optimisation, and its batches."""

    batch_size: Positive  # over all ranks and accumulated micro-batches
    epochs: Positive | None = None  # passes over the training split
    max_steps: Annotated[int, "at least 1, or -1 for no limit"] = -1  # optimizer steps
    # time of training at most, which the schedule then follows: 30s, 10m, 2h, 1h30m; the first limit that is reached ends it
    max_time: Duration | None = None
    aux_lm_weight: Annotated[float, "at least 0 (0: no language model beside the task)"] = 0.0  # of a decoder's LM loss
    label_smoothing: Annotated[float, "at least 0 (none) and below 1"] = 0.0  # of a translation's targets
    # random rows, rows of similar length, or batches of a number of tokens, as batch_size and micro_batch then count
    batching: Literal["random", "length_grouped", "tokens"] = "random"
    average: Annotated[int, "at least 1 (the one checkpoint)"] = 1  # last checkpoints whose mean is the result
    # optimizer steps between the checkpoints that are averaged
    average_every: Annotated[int, "at least 1, or null for each validation"] | None = None
    # backbone (all but the head), a number of layers beside the embeddings, or names of parts of the model
    freeze: NonNegative | str | list[str] | None = None
    # last layers of initial weights, with the pooler, that are drawn anew
    reinit_layers: NonNegative = 0
    # decay of an exponential moving average of the weights, which is evaluated and kept in their place; null: none
    ema: Annotated[float, "above 0 and below 1, or null"] | None = None
    early_stopping: EarlyStopping = EarlyStopping()


@dataclass(frozen=True)
class Trainer:
    """Limits and intervals, passed to Lightning's Trainer; null leaves Lightning's default."""

    max_epochs: Annotated[int, "at least 1, or -1 for no limit"] | None = None  # yaml takes it from recipe.epochs
    max_steps: Annotated[int, "at least 1, or -1 for no limit"] = -1  # yaml takes it from recipe.max_steps
    limit_train_batches: Limit | None = None  # global batches of an epoch
    limit_val_batches: Limit | None = None  # batches of each dev split
    limit_test_batches: Limit | None = None  # batches of each test split
    val_check_interval: Limit | None = None  # global batches between validations
    check_val_every_n_epoch: Positive | None = None  # epochs between validations
    deterministic: bool = False  # torch's deterministic algorithms alone; slower on a GPU
    checkpoint_every: Positive = 500  # optimizer steps between checkpoints
    # minutes between checkpoints at most, beside checkpoint_every; looked at every log_every steps
    checkpoint_minutes: Annotated[float, "above 0, or null"] | None = None
    keep_checkpoints: Positive = (
        2  # last ones that an unfinished run keeps: one that is damaged is skipped for the one before
    )
    log_every: Positive = 10  # optimizer steps between lines of metrics.jsonl
    watch: Literal["none", "layers"] = (
        "none"  # layers: norms of each layer's gradient and update, every log_every steps
    )
    keep_optimizer: bool = False  # whether a finished run keeps last.ckpt, with the optimizer's state
    # of debug=nan: where the loss or a gradient is not finite, the error names the module that made the first such value
    find_nonfinite: bool = False
    # of debug=overfit: the first batch alone is trained on, without dropout, until its loss is at most this
    overfit: Annotated[float, "above 0, or null"] | None = None
    # of debug=profile: so many steps are profiled, after five others; profile.txt and trace.json.gz in the run folder
    profile: Positive | None = None
    callbacks: Sequence[dict[str, Any]] = ()  # Lightning callbacks of your own, each a mapping with a `_target_`


@dataclass(frozen=True)
class Hardware:
    """Devices and speed; only precision and packing can change a result."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # auto: a GPU where there is one
    devices: Annotated[int, "at least 1, or all"] | Literal["all"] = 1  # of one machine
    nodes: Positive = 1  # machines
    # devices of this machine (of a CPU its cores) for trials of a sweep side by side: how many, a list, or all; null: none
    pool: Positive | Literal["all"] | list[NonNegative] | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"  # of the computation; weights are kept in fp32
    packing: Literal["auto", "on", "off"] = "auto"  # whether padding is left out of the computation
    micro_batch: Positive | None = None  # rows that a device holds at once; null: all of its part, on a GPU what fits
    workers: NonNegative | None = None  # processes that load data; null: none, for a GPU up to 4
    threads: Positive | None = None  # CPU threads of a rank; null: torch's choice
    compile: bool = False  # torch.compile, layer by layer
    grace: Annotated[int, "at least 0 (seconds)"] = 300  # seconds for ranks to save in after SIGTERM
    checkpoint_activations: bool = False  # whether layers are computed again in the backward pass, to save memory
    fully_shard: bool = False  # whether ranks divide weights, gradients and optimizer states among them (FSDP)
    timeout: Annotated[int, "at least 1 (seconds)"] = 1800  # seconds after which a silent rank is given up
    rendezvous: str | None = None  # host:port of the first machine, for nodes > 1
    requeue: bool = False  # whether a run that USR1 stops asks SLURM to start its job again, to continue it


@dataclass(frozen=True)
class Tracking:
    """Where a run is logged besides its own folder."""

    # auto: W&B, online where a key is set, else offline
    mode: Literal["auto", "wandb", "wandb_offline", "tensorboard", "none"] = "auto"
    project: str = "protoformer"  # of W&B; WANDB_PROJECT where it is not typed
    entity: str | None = None  # user or team of W&B; WANDB_ENTITY where it is not typed
    tags: list[str] = field(default_factory=list)  # of W&B, besides model and task; WANDB_TAGS where none are typed
    group: str | None = None  # of W&B; null: WANDB_RUN_GROUP, or the sweep's name, or model/task
    job_type: str | None = None  # of W&B; null: WANDB_JOB_TYPE, or trial in a sweep, or train
    sweep: str | None = None  # name of the sweep that the run is a trial of, set by `protoformer sweep` and by -m


@dataclass(frozen=True)
class Paths:
    """Folders; also by the variables PROTOFORMER_OUTPUTS and PROTOFORMER_CACHE."""

    outputs: Folder  # of all runs; each finds its own folder below it
    cache: Folder  # of token ids, vocabularies and digests


@dataclass(frozen=True)
class Views:
    """Pages and pictures made at the end of a run."""

    attention: bool = False  # the attention heads over one dev example, in the run folder and the tracker
    data_map: bool = False  # of a classification: easy, hard and ambiguous training examples, and likely label errors
    # what the card scores groups of evaluated examples by: length, overlap, negation, or a column of the data set
    slices: Sequence[str] = ("length", "overlap", "negation")


@dataclass(frozen=True)
class Run:
    """The whole config of a run."""

    model: Model
    task: Task
    recipe: Recipe
    trainer: Trainer
    hardware: Hardware
    source: dict[str, Any]  # where data sets come from
    tracking: Tracking
    paths: Paths
    views: Views
    variant: dict[str, Any] | None = None  # of an ablation: values that its sweep's yaml reads by ${variant.key}
    seed: Annotated[int, f"at least 0 and below {2**32}"] = 42  # draws weights, the order of examples and dropout
    init_from: Annotated[str, "auto, scratch, a hub id or a folder"] = "auto"  # the initial weights
    force: bool = False  # run anew, in a new attempt folder
    reuse: bool = False  # accept a recorded result although the code has changed since


IGNORED_IN_RUN_ID = (  # keys that cannot change a result: no part of a run's name
    *("paths", "tracking", "views", "variant", "force", "reuse", "choices"),
    *(
        "model.pretraining",
        "model.depth",
        "task.train_examples",
        "task.module.tokens_per_pass",
        "task.module.cached_tokens",
    ),
    *("trainer.checkpoint_every", "trainer.checkpoint_minutes", "trainer.keep_checkpoints"),
    *("trainer.log_every", "trainer.watch", "trainer.keep_optimizer", "trainer.find_nonfinite", "trainer.profile"),
    *(f"hardware.{key.name}" for key in fields(Hardware) if key.name not in ("precision", "packing")),
)
