"""The auxiliary language model: against `transformers`, equation 5, micro-batches, fillers, and what it may not be."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.classification import ClassificationCollate
from protoformer.data.datamodules.multiple_choice import MultipleChoiceCollate
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.cost import Cost, cost
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.modules.evaluation import gather_examples
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.kinds.multiple_choice import MultipleChoiceModule
from protoformer.modules.kinds.span import SpanModule
from protoformer.modules.objective.targets import next_token_losses
from protoformer.optim.optimization import Optimization
from protoformer.training.lightning_internals import is_accumulating

VOCAB = 50
SPLITS = {"val": [""], "test": [""]}


def table(examples: int = 21, sequences: int = 1, labels: int = 3) -> TokenTable:
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 12, size=examples * sequences)
    return TokenTable(
        ids=draw.integers(1, VOCAB, size=lengths.sum()).astype(np.int32),
        segment_ids=np.zeros(lengths.sum(), dtype=np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        pooler_position=(lengths - 1).astype(np.int32),
        labels=draw.integers(0, labels, size=examples),
        row=np.arange(examples),
    )


def module(aux_lm_weight: float, kind: str = "text", packing: Any = "auto") -> Any:
    torch.manual_seed(0)
    decoder = gpt(
        vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16, dropout=0.0, init_std=0.1,
        packing=packing,
    )  # fmt: skip
    shared: Any = {
        "backbone": decoder, "metrics": ["accuracy"], "splits": SPLITS, "aux_lm_weight": aux_lm_weight,
        "optimization": Optimization(1e-2),
    }  # fmt: skip
    task_module: Any = (
        MultipleChoiceModule(choices=["a", "b", "c"], **shared)
        if kind == "choices"
        else ClassificationModule(labels=["a", "b", "c"], **shared)
    )
    task_module.connect(total_steps=6)
    return task_module


def data(kind: str) -> tuple[TokenTable, Any]:
    """A table of the kind, and what makes batches of it: single texts, both orders of pairs, or choices."""
    data_table = table(sequences={"text": 1, "orders": 2, "choices": 3}[kind])
    return data_table, (MultipleChoiceCollate if kind == "choices" else ClassificationCollate)(data_table, 0)


@pytest.mark.parametrize("packing", ["on", "off"])
def test_each_sequence_has_the_loss_that_transformers_gives_it(packing: str, tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=24, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=16)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(tmp_path)
    reader = Gpt2Weights()
    ours: Any = gpt(**reader.sizes(weights.read_config(tmp_path)), packing=packing).eval()
    weights.load_into(ours, reader.from_hf(weights.read_state(tmp_path))[0], "here")
    batch = ClassificationCollate(table(6), 0)(list(range(6)))
    ids, mask = batch["ids"].flatten(0, 1), batch["padding_mask"].flatten(0, 1)
    assert not mask.all()
    with torch.no_grad():
        losses = next_token_losses(ours(ids, mask), ids, ours.embeddings.token.weight)
        expected = [theirs(row[m][None], labels=row[m][None]).loss for row, m in zip(ids, mask, strict=True)]
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-5, rtol=0)


def lone_loss(model: Any, batch: Any) -> torch.Tensor:
    """Written anew: the mean over examples of the mean over their sequences of the mean over next tokens."""
    sequences = []
    for ids, mask in zip(batch["ids"].flatten(0, -2), batch["padding_mask"].flatten(0, -2), strict=True):
        real = ids[mask][None]
        hidden = model.backbone(real, torch.ones_like(real, dtype=torch.bool)).to_padded()[0]
        logits = hidden[:-1] @ model.backbone.embeddings.token.weight.T
        sequences.append(nn.functional.cross_entropy(logits, real[0, 1:]))
    return torch.stack(sequences).view(len(batch["labels"]), -1).mean(1).mean()


@pytest.mark.parametrize("kind", ["text", "orders", "choices"])
def test_the_loss_is_that_of_equation_5_and_so_are_its_gradients(kind: str) -> None:
    _, collate = data(kind)
    batch = collate([0, 1, 2, 5])
    plain, model = module(0.0, kind), module(0.7, kind)
    task, both = plain.loss(batch), model.loss(batch)
    assert not task.running_metrics
    assert task.targets == both.targets == 4
    expected = task.total / 4 + 0.7 * lone_loss(plain, batch)
    torch.testing.assert_close(both.total / 4, expected, atol=1e-6, rtol=1e-5)
    lm, count = both.running_metrics["lm_loss"]
    torch.testing.assert_close(lm / count, lone_loss(plain, batch), atol=1e-6, rtol=1e-5)
    expected.backward()
    (both.total / 4).backward()
    plain_parameters = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain_parameters[name].grad, atol=1e-6, rtol=1e-4, msg=name)


def test_a_window_counts_its_language_once() -> None:
    torch.manual_seed(0)
    decoder = gpt(vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16, init_std=0.1)
    model = SpanModule(backbone=decoder, splits=SPLITS, aux_lm_weight=0.5).eval()
    batch: Any = {**model.dummy_batch(4, 9), "ids": torch.randint(VOCAB, (4, 9)), "labels": torch.zeros(4)}
    batch["example_ids"] = torch.tensor([0, 1, 2, -1])
    start, end = model(batch)
    parts = [nn.functional.cross_entropy(logits[:3], torch.zeros(3, dtype=torch.long)) for logits in (start, end)]
    first = {name: tensor[:3] for name, tensor in batch.items()}
    expected = sum(parts) / 2 + 0.5 * lone_loss(model, first)
    loss = model.loss(batch)
    torch.testing.assert_close(loss.total / loss.targets, expected, atol=1e-6, rtol=1e-5)
    assert model.flops(batch) > SpanModule(backbone=decoder, splits=SPLITS).flops(batch)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.steps: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if not is_accumulating(trainer):
            named = ("train/loss", "train/lm_loss", "train/grad_norm")
            self.steps.append(tuple(pl_module.step_metrics.named()[name] for name in named))


def fitted(kind: str, micro: int | None) -> tuple[list[tuple[float, ...]], torch.Tensor]:
    rows, collate = data(kind)
    batching, losses, model = BatchConfig(8, micro, seed=1), Losses(), module(0.5, kind)
    pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, max_epochs=2,
        accumulate_grad_batches=batching.accumulation, callbacks=[losses],
    ).fit(model, BatchLoader(MicroBatchSampler(rows.lengths, batching, shuffle=True), collate))  # fmt: skip
    return losses.steps, model.backbone.embeddings.token.weight.detach()


@pytest.mark.parametrize("kind", ["text", "orders", "choices"])
def test_accumulation_equals_one_batch_the_last_of_an_epoch_included(kind: str) -> None:
    """21 examples in batches of 8, their sequences of unequal length; the last holds 5, which 3 micro-batches do not divide."""
    (whole, weight), (parts, part_weight) = fitted(kind, None), fitted(kind, 3)
    assert len(whole) == len(parts) == 6
    np.testing.assert_allclose(np.array(parts), np.array(whole), rtol=1e-4)
    torch.testing.assert_close(part_weight, weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["text", "orders", "choices"])
def test_fillers_count_nowhere(kind: str) -> None:
    model = module(0.5, kind).eval()
    _, collate = data(kind)
    with torch.no_grad():
        plain, filled = (model.loss(collate(rows)) for rows in ([0, 1, 2], [0, 1, 2, -1 - 4, -1 - 0]))
    torch.testing.assert_close(plain.total, filled.total)
    assert (
        plain.targets
        == filled.targets
        == plain.running_metrics["lm_loss"][1]
        == filled.running_metrics["lm_loss"][1]
        == 3
    )
    torch.testing.assert_close(plain.running_metrics["lm_loss"][0], filled.running_metrics["lm_loss"][0])


def test_what_is_validated_is_the_tasks_own_loss() -> None:
    _, collate = data("orders")
    batch = collate(list(range(21)))
    plain, model = module(0.0).eval(), module(0.5).eval()
    with torch.no_grad():
        evaluation = model.evaluate("val", "", gather_examples([model.eval_step(batch)], 1))
        expected = plain.loss(batch)
    assert evaluation.other_metrics == {"loss": pytest.approx(float(expected.total / 21), rel=1e-5)}


def test_both_orders_are_summed_before_the_head() -> None:
    """So that neither comes first; and a pair of which one order is written twice has its vector doubled."""
    _, collate = data("orders")
    batch, model = collate([0, 1, 2]), module(0.0).eval()
    assert batch["ids"].shape[:2] == (3, 2)
    flipped: Any = {name: tensor.flip(1) if tensor.dim() > 1 else tensor for name, tensor in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(flipped), model(batch), atol=1e-6, rtol=1e-5)
        single = [{n: t[:, o : o + 1] if t.dim() > 1 else t for n, t in batch.items()} for o in (0, 1)]
        bias = model.head.linear.bias
        torch.testing.assert_close(model(batch) + bias, model(single[0]) + model(single[1]), atol=1e-6, rtol=1e-5)
        assert (model(single[0]) - model(single[1])).abs().max() > 1e-3


def test_costs_are_foretold_without_memory() -> None:

    def foretold(weight: float) -> Cost:
        with torch.device("meta"):
            model: Any = module(weight, packing="off")
            return cost(model, lambda: model.loss(model.dummy_batch(2, 9)).total)

    plain, both = foretold(0.0), foretold(0.5)
    assert both.forward_flops - plain.forward_flops >= 2 * 2 * 8 * 16 * VOCAB
    assert both.parameters == plain.parameters
    blank = module(0.0).dummy_batch(2, 9)
    assert module(0.5).flops(blank) - module(0.0).flops(blank) == 6 * 16 * VOCAB * 2 * 8


@pytest.mark.parametrize("weight", [-0.5, math.inf, math.nan])
def test_a_lambda_that_is_no_weight_is_refused(weight: float) -> None:
    with pytest.raises(ConfigurationError, match=r"recipe\.aux_lm_weight=.* is out of range; expected a number from 0"):
        module(weight)


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_an_encoder_takes_no_language_model_along(attention: Any) -> None:
    encoder = bert(vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=32, attention=attention)
    with pytest.raises(ConfigurationError, match=r"recipe\.aux_lm_weight=0\.5 needs a decoder"):
        ClassificationModule(backbone=encoder, labels=["a"], metrics=["accuracy"], splits=SPLITS, aux_lm_weight=0.5)
