"""Normalisation by the global number of targets, clipping, the stop on NaN, and scores that count every example once."""

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.classification import ClassificationCollate
from protoformer.errors import DivergedError
from protoformer.models.bert import bert
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.optim.optimization import Optimization
from protoformer.training.lightning_internals import is_accumulating


def table(examples: int = 21, regression: bool = False) -> TokenTable:
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 12, size=examples)
    labels = draw.random(examples).astype(np.float32) * 5 if regression else draw.integers(0, 3, size=examples)
    return TokenTable(
        ids=draw.integers(1, 50, size=lengths.sum()).astype(np.int32),
        segment_ids=np.zeros(lengths.sum(), dtype=np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        pooler_position=np.zeros(examples, dtype=np.int32),
        labels=labels,
        row=np.arange(examples),
    )


def module(optimization: Optimization | None = None, regression: bool = False) -> ClassificationModule:
    torch.manual_seed(0)
    task_module = ClassificationModule(
        backbone=bert(vocab_size=50, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16, dropout=0.0),
        labels=None if regression else ["a", "b", "c"],
        metrics=["pearson", "spearman"] if regression else ["accuracy"],
        splits={"val": [""], "test": [""]},
        optimization=optimization or Optimization(1e-2),
    )
    task_module.connect(total_steps=6)
    return task_module


def loader(micro: int | None = None, shuffle: bool = True, data: TokenTable | None = None) -> BatchLoader:
    data = data or table()
    sampler = MicroBatchSampler(data.lengths, BatchConfig(8, micro, seed=1), shuffle=shuffle)
    return BatchLoader(sampler, ClassificationCollate(data, 0))


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if not is_accumulating(trainer):
            self.steps.append((pl_module.step_metrics.loss, pl_module.step_metrics.grad_norm))


def trainer(**settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **settings,
    )


def fitted(micro: int | None) -> tuple[list[tuple[float, float]], torch.Tensor]:
    model, losses = module(), Losses()
    steps = BatchConfig(8, micro).accumulation
    trainer(max_epochs=2, accumulate_grad_batches=steps, callbacks=[losses]).fit(model, loader(micro))
    return losses.steps, model.head.linear.weight.detach()


@pytest.mark.parametrize("micro", [1, 3, 4])
def test_accumulation_equals_one_batch_the_last_of_an_epoch_included(micro: int) -> None:
    """21 rows in batches of 8: the last one holds 5, which 3 micro-batches of 3 do not divide."""
    whole, weight = fitted(None)
    parts, part_weight = fitted(micro)
    assert len(whole) == len(parts)
    np.testing.assert_allclose(np.array(parts), np.array(whole), rtol=1e-4)
    torch.testing.assert_close(part_weight, weight, atol=1e-5, rtol=1e-4)


def test_gradients_are_the_mean_and_clipped() -> None:
    data = table(8)
    model = module(Optimization(0.0, clip=0.01, schedule="constant"))
    captured: dict[str, torch.Tensor] = {}

    class Capture(pl.Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, *args: Any) -> None:
            captured.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    trainer(max_steps=2, callbacks=[Capture()]).fit(model, loader(data=data))
    other = module()
    batch = ClassificationCollate(data, 0)(list(range(8)))
    torch.nn.functional.cross_entropy(other(batch), batch["labels"]).backward()
    norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 0.01)
    assert norm > 0.01
    for name, p in other.named_parameters():
        if p.grad is not None and name in captured:
            torch.testing.assert_close(captured[name], p.grad, atol=1e-7, rtol=1e-3)
    assert captured


def test_nan_stops_before_the_weights_are_touched() -> None:
    model = module()
    with torch.no_grad():
        model.head.linear.bias[0] = math.nan
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(DivergedError, match="loss is nan at step 0"):
        trainer(max_steps=3).fit(model, loader())
    for name, p in model.named_parameters():
        assert torch.equal(p.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


@pytest.mark.parametrize("regression", [False, True])
def test_scores_are_those_of_all_examples_once(regression: bool) -> None:
    data = table(regression=regression)
    model = module(regression=regression)
    batches = BatchLoader(
        MicroBatchSampler(data.lengths, BatchConfig(4), shuffle=False), ClassificationCollate(data, 0)
    )
    trainer().validate(model, batches, verbose=False)
    outputs = model.evaluations["val"][""]
    assert outputs.ids.tolist() == list(range(21))
    everything = ClassificationCollate(data, 0)(list(range(21)))
    with torch.no_grad():
        logits = model.eval()(everything)
    torch.testing.assert_close(outputs.logits, logits, atol=1e-5, rtol=1e-4)
    metrics = model.trainer.callback_metrics
    labels = everything["labels"]
    if regression:
        pair = torch.stack([logits[:, 0], labels])
        assert float(metrics["val/pearson"]) == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=1e-5)
        assert float(metrics["val/score"]) == pytest.approx(float(metrics["val/pearson"] + metrics["val/spearman"]) / 2)
    else:
        accuracy = float((logits.argmax(-1) == labels).float().mean())
        assert float(metrics["val/accuracy"]) == pytest.approx(accuracy)
        loss = float(torch.nn.functional.cross_entropy(logits, labels))
        assert float(metrics["val/loss"]) == pytest.approx(loss, rel=1e-5)


def test_fillers_count_nowhere() -> None:
    model = module().eval()
    data = table(3)
    with torch.no_grad():
        plain, filled = (
            model.loss(ClassificationCollate(data, 0)(rows)) for rows in ([0, 1, 2], [0, 1, 2, -1 - 0, -1 - 1])
        )
    torch.testing.assert_close(plain.total, filled.total)
    assert plain.targets == filled.targets == 3


def test_hidden_labels_turn_the_metrics_off_and_keep_the_predictions() -> None:
    data = table()
    hidden = TokenTable(**{**vars(data), "labels": np.full(21, -1)})
    model = module()
    trainer().test(model, loader(shuffle=False, data=hidden), verbose=False)
    assert not [name for name in model.trainer.callback_metrics if name.startswith("test/")]
    assert len(model.evaluations["test"][""].ids) == 21


def test_a_gradient_that_is_no_number_stops_too() -> None:
    model = module()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    class Spoil(pl.Callback):
        def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            next(iter(pl_module.parameters())).grad.view(-1)[0] = math.inf  # type: ignore[union-attr]

    with pytest.raises(DivergedError, match="the gradient's norm is inf at step 0; stopped before the weights"):
        trainer(max_steps=3, callbacks=[Spoil()]).fit(model, loader())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_module_is_connected_to_one_run() -> None:
    model = module()
    with pytest.raises(RuntimeError, match="already connected to a run"):
        model.connect(total_steps=7)
    assert model.total_steps == 6
