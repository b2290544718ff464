"""TaskModule: the LightningModule that all task kinds share, and what a kind is.

A kind of task is a task module, a datamodule and an evaluation. No other part of the package knows kinds by name: what a
command needs to know of one is a member of these three classes.

    question                                    member
    the kind's name in files and messages       `task.kind` in the task's yaml
    which rows a data set has                   `task.rows`, a reader with `dataset`, `subset` and `revision`
    how an example is encoded, and kept         `TableDataModule.template_method`, `.encode`, `.table_class`,
                                                `.cache_settings`, `.log_lines`
    what a batch holds                          `TableDataModule.collate`, and `TaskModule.dummy_batch` for estimates of cost
    what is trained                             `TaskModule.loss`, `.term_weights`, `.prepare_training`, `.flops`
    how one example is scored                   `TaskModule.eval_step`, `.evaluate`; `Evaluation.scores`
    texts and answers that a score needs        `TableDataModule.references`
    rows and files of predictions               `Evaluation.rows`, `.files`
    metrics that are means over examples        `Evaluation.example_scores`: what `protoformer compare` draws from
    how reports print and judge                 `Evaluation.percent_metrics`, `.headline`, `.free_text`, `.notes`,
                                                `.samples`, `.class_scores`,
                                                `TableDataModule.incomplete_data`
    wrong predictions, for a tracker            `Evaluation.lists_misclassified`, `.misclassified`, `TableDataModule.texts`
    what `protoformer predict` asks             `TaskModule.predict_queries` (or `.predict_query`), `.prediction_row`,
                                                `.takes_choices`, `.restore`; `.other_command` where another verb answers
    what `protoformer attention` shows          `TaskModule.is_causal_lm`; of a batch `ids`, `padding_mask` and `segment_ids`
                                                (and `decoder_ids`, `decoder_mask` of an encoder-decoder)
    which logit it attributes to the tokens     `TaskModule.logit_target`
    what `protoformer export` calls the head    `TaskModule.hf_head`, where the family's layout does not know the kind
    which parts of a head may be missing        `TaskModule.optional_head_prefixes`

A batch is a dict of tensors whose first axis is the example. It has at least `ids`, `padding_mask` (True on real tokens), both
`(batch, ..., seq)`, and `example_ids` `(batch)`, negative where an example only fills the batch and counts nowhere.

A kind returns the *sum* of its losses and the number of targets (`loss`); gradients are normalised once a step over all
micro-batches and ranks (see `gradient_normalizer`). A loss of several terms, each a mean over targets of its own (masked
tokens and sentence pairs), is brought to the first term's targets by `term_weights`: the loader precomputes the counts of the
whole step (`step_targets`).

Evaluation goes by example id: each example counts once under any number of ranks (see `evaluation`).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Generic, TypeVar, cast

import lightning.pytorch as pl
from jaxtyping import Float
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from protoformer.batches import BatchT, HostCounts, TermCounts
from protoformer.distributed.sharding.units import full_weights
from protoformer.distributed.signals import StopRequest
from protoformer.models.backbone import Backbone
from protoformer.models.cost import backbone_flops, row_lengths
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf.layout import HeadLayout
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage, gather_examples
from protoformer.modules.evaluation_journal import EvaluationJournal
from protoformer.modules.layerwise import lr_factors
from protoformer.modules.objective.gradient_normalizer import GradientNormalizer, StepMetrics
from protoformer.modules.objective.loss import Loss
from protoformer.modules.predictor import Predictor
from protoformer.optim.build import build_lr_scheduler, build_optimizer
from protoformer.optim.clock import TrainingClock
from protoformer.optim.optimization import Optimization
from protoformer.scoring.main_score import main_score

ReferencesT = TypeVar("ReferencesT")  # what an evaluation needs beside batches; None: nothing


class TaskModule(Predictor, pl.LightningModule, Generic[BatchT, ReferencesT]):
    """Training by `loss`, evaluation by `eval_step` and `evaluate`, which a kind implements.

    What a run supplies comes through `connect`. Read from outside are `step_metrics`, of the last optimizer step, and
    `evaluations[stage][split]`, of the last validation or test.
    """

    needs_training_split: ClassVar[str] = ""
    """Where it cannot be evaluated alone: why, and the command that can, for RUN."""

    is_causal_lm: ClassVar[bool] = False
    """Whether texts are read as they are, without the special tokens of the model's template."""

    hf_head: ClassVar[HeadLayout | None] = None
    """The head's names in `transformers`, used where a family's layout does not know the kind."""

    resumes_evaluation: ClassVar[bool] = False
    """Whether evaluated batches are kept on disk until the run ends, since the evaluation is all of its work."""

    decodes: ClassVar[bool] = False
    """Whether an evaluation generates texts: ranks then take different numbers of steps, each with all weights at hand."""

    optional_head_prefixes: ClassVar[tuple[str, ...]] = ()
    """Prefixes of parts of the head that initial weights may lack, or have beyond what the task needs."""

    splits: Mapping[Stage, Sequence[str]]
    backbone: Backbone | EncoderDecoder  # a kind says which
    head: nn.Module  # its own weights alone; those of the model below are the backbone's

    def __init__(self, optimization: Optimization | None) -> None:
        super().__init__()
        self.optimization = optimization
        self.total_steps: int | None = None
        self.clock: TrainingClock | None = None
        self.references: Mapping[Stage, Mapping[str, ReferencesT]] = {}
        self.stop = StopRequest()
        self.step_metrics: StepMetrics | None = None
        self.evaluations: dict[Stage, dict[str, Evaluation]] = {}
        self.journal: EvaluationJournal | None = None
        self._connected = False
        self._gradient_normalizer = GradientNormalizer(None if optimization is None else optimization.clip)
        self._whole_weights = ExitStack()  # of an evaluation under way that decodes
        self._eval_outputs: dict[str, list[EvalOutputs]] = {}  # split -> outputs of this rank's batches
        self._step_targets: Tensor | None = None  # targets of this optimizer step over all ranks, one count a loss term

    def connect(
        self,
        *,
        total_steps: int | None,
        clock: TrainingClock | None = None,
        splits: Mapping[Stage, Sequence[str]] | None = None,
        references: Mapping[Stage, Mapping[str, ReferencesT]] | None = None,
        stop: StopRequest | None = None,
        loss_divisor: int = 1,
    ) -> None:
        """Connect the module to a run, once and before fit.

        `total_steps` are the optimizer steps of the whole run, for the schedule (None: only `clock`, that of a run with
        `recipe.max_time`, ends it). (Lightning's own estimate would open the loaders before a checkpoint's loader state is
        read: a continued run would see its epoch's first batches again.)
        `splits` names the loaders of each stage, in order (default: those of the constructor); `references[stage][split]`
        is what an evaluation needs beside batches (texts, gold answers); `stop` is the run's request to stop; `loss_divisor` is
        for gradients in fp16 (see `gradient_normalizer`).

        Raises RuntimeError when called again.
        """
        if self._connected:
            raise RuntimeError("this module is already connected to a run")
        self._connected, self.total_steps, self.clock = True, total_steps, clock
        if splits is not None:
            self.splits = splits
        if references is not None:
            self.references = references
        if stop is not None:
            self.stop = stop
        self._gradient_normalizer.loss_divisor = loss_divisor

    def is_over(self, step: int) -> bool:
        """Whether the training ends with optimizer step `step`, the last that was taken."""
        has_all_steps = self.total_steps is not None and step >= self.total_steps
        return has_all_steps or (self.clock is not None and self.clock.is_over)

    def prepare_training(self, table: object) -> None:
        """What the loss needs to know of all training rows, an encoded table, before the first step. Every rank calls it."""

    def loss(self, batch: BatchT) -> Loss:
        """Sum of the losses of a batch, and its number of targets."""
        raise NotImplementedError

    def dummy_batch(self, batch: int, seq: int) -> BatchT:
        """`batch` rows of `seq` real tokens, all of id 0, on the default device: for estimates of cost."""
        raise NotImplementedError

    def flops(self, batch: BatchT) -> Float[Tensor, ""]:
        """Estimated floating-point operations of a training step on this batch; a small head counts as nothing.

        On the host where it knows the batch's lengths, else on the batch's device.
        """
        assert isinstance(self.backbone, Backbone)  # kinds with an encoder-decoder have their own estimate
        lengths = cast(HostCounts, batch).get("lengths")
        return backbone_flops(self.backbone, row_lengths(lengths, batch["padding_mask"]))

    def eval_step(self, batch: BatchT) -> EvalOutputs:
        """What of a batch its evaluation is computed from: tensors `(examples, ...)`, the ids of real examples first."""
        raise NotImplementedError

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> Evaluation:
        """Scores of a split, from the outputs of all ranks, each example once and in order of id."""
        raise NotImplementedError

    @property
    def evaluation_details(self) -> Sequence[str]:
        """What a progress line says of the evaluation that is under way, beside examples a second."""
        return ()

    def term_weights(self, batch: TermCounts) -> Float[Tensor, "terms"]:
        """Factors for the sums of the loss terms: all become means once divided by the first term's number of targets."""
        targets = batch["targets"] if self._step_targets is None else self._step_targets
        return targets[0].clamp(min=1) / targets.clamp(min=1).float()

    def training_step(self, batch: BatchT, batch_idx: int) -> Float[Tensor, ""]:
        step_targets = cast(Mapping[str, Tensor], batch).get("step_targets")  # added by the loader
        if self._gradient_normalizer.is_empty and step_targets is not None:  # the first micro-batch of a step
            self._step_targets = self.trainer.strategy.reduce(step_targets.double(), reduce_op="sum")
        loss = self.loss(batch)
        self._gradient_normalizer.add(loss)
        return self._gradient_normalizer.scaled(loss.total)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        trainer, clock = self.trainer, self.clock
        self.step_metrics, agreed_to_stop = self._gradient_normalizer.apply(
            optimizer,
            reduce=lambda sums: trainer.strategy.reduce(sums, reduce_op="sum"),
            # DDP averages gradients over ranks, Lightning over micro-batches
            divided_by=trainer.world_size * trainer.accumulate_grad_batches,
            step=trainer.global_step,
            stop_requested=self.stop.requested,
            seconds=None if clock is None else clock.seconds if trainer.is_global_zero else 0.0,
            overflow_is_skipped=trainer.precision == "16-mixed",
        )
        self.stop.agree(agreed_to_stop)
        if clock is not None:
            clock.agree(self._gradient_normalizer.seconds or 0.0)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options, clock = self.optimization, self.clock
        if options is None or (self.total_steps is None and clock is None):
            raise RuntimeError("this module has no Optimization or no total_steps: it can be evaluated, not trained")
        factors = None
        if options.layerwise_lr_decay < 1:
            factors = lr_factors(self.backbone, self.parameters(), options.layerwise_lr_decay)
        optimizer = build_optimizer(self.parameters(), options, factors)
        scheduler = build_lr_scheduler(
            optimizer, options, total_steps=self.total_steps, d_model=self.backbone.d_model, clock=clock
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: object | None) -> None:
        """The schedule stands still where a gradient scaler has skipped the optimizer's step."""
        if not self._gradient_normalizer.skipped_in_a_row:
            super().lr_scheduler_step(scheduler, metric)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        if self.skipped_steps:
            checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._gradient_normalizer.skipped_steps = checkpoint.get("skipped_steps", 0)

    @property
    def skipped_steps(self) -> int:
        """Steps of the run that a gradient scaler has skipped, since their gradients overflowed fp16."""
        return self._gradient_normalizer.skipped_steps

    def expected_targets(self, rows: int, seq: int) -> int:
        """Targets of a batch of `rows` rows of `seq` tokens, about: those of its `target_ids`, or one a row."""
        try:
            targets = cast(Mapping[str, Tensor], self.dummy_batch(1, seq)).get("target_ids")
        except NotImplementedError:  # a kind without estimates of cost
            targets = None
        return rows if targets is None else rows * targets.numel()

    def validation_step(self, batch: BatchT, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._add_eval_outputs(self.splits["val"][dataloader_idx], batch)

    def test_step(self, batch: BatchT, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._add_eval_outputs(self.splits["test"][dataloader_idx], batch)

    def _add_eval_outputs(self, split: str, batch: BatchT) -> None:
        example_ids = cast(Mapping[str, Tensor], batch)["example_ids"].tolist() if self.journal is not None else []
        outputs = None if self.journal is None else self.journal.recorded(split, example_ids)
        if outputs is None:
            outputs = tuple(tensor.cpu() for tensor in self.eval_step(batch))
            if self.journal is not None:
                self.journal.record(split, example_ids, outputs)
        self._eval_outputs.setdefault(split, []).append(outputs)

    def on_validation_start(self) -> None:
        self._gather_weights()

    def on_test_start(self) -> None:
        self._gather_weights()

    def _gather_weights(self) -> None:
        if self.decodes:
            self._whole_weights.enter_context(full_weights(self))

    def discard_evaluation(self) -> None:
        """Forget an evaluation that is not to be ended. Every rank must call it."""
        self._eval_outputs = {}
        self._whole_weights.close()

    def on_validation_epoch_end(self) -> None:
        self._evaluate_splits("val")

    def on_test_epoch_end(self) -> None:
        self._evaluate_splits("test")

    def _evaluate_splits(self, stage: Stage) -> None:
        """Evaluate every split and log `<stage>/<split>/<metric>` and `<stage>/score`."""
        self.evaluations[stage] = {}
        scores: dict[str, float] = {}
        other_metrics: dict[str, float] = {}
        for split in self.splits[stage]:
            prefix = f"{stage}/{split}/" if split else f"{stage}/"
            outputs = gather_examples(self._eval_outputs.get(split, []), self.trainer.world_size)
            evaluation = self.evaluations[stage][split] = self.evaluate(stage, split, outputs)
            other_metrics |= {prefix + name: value for name, value in evaluation.other_metrics.items()}
            scores |= {prefix + name: value for name, value in evaluation.scores.items()}
        self._eval_outputs = {}
        self._whole_weights.close()
        metrics = scores | other_metrics
        if scores:
            metrics[f"{stage}/score"] = main_score(scores)
        # the evaluation of the best checkpoint is no point of a learning curve
        fitting = self.trainer.state.fn == "fit"
        counters = {"step": float(self.trainer.global_step), "epoch": float(self.trainer.current_epoch)}
        # every rank has computed the same numbers; without sync_dist Lightning would warn
        self.log_dict({**metrics, **counters}, batch_size=1, logger=fitting, sync_dist=True)
