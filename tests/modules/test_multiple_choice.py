"""Choices against `transformers`; their order, their number, and rows that only fill a batch up."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from protoformer.batches import ChoiceBatch
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.multiple_choice import MultipleChoiceCollate
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.evaluation import gather_examples
from protoformer.modules.kinds.multiple_choice import MultipleChoiceModule

NAMES = ("ids", "padding_mask", "segment_ids")


def table(examples: int = 7, choices: int = 4) -> TokenTable:
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 14, size=examples * choices)
    return TokenTable(
        ids=draw.integers(1, 50, size=lengths.sum()).astype(np.int32),
        segment_ids=draw.integers(0, 2, size=lengths.sum()).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        pooler_position=np.zeros(examples * choices, dtype=np.int32),
        labels=draw.integers(0, choices, size=examples),
        row=np.arange(examples),
    )


def from_transformers(folder: Path, choices: int, packing: Any = "auto") -> tuple[Any, MultipleChoiceModule]:
    """A random model of theirs, and ours with its weights, by way of a folder."""
    config = transformers.BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=50,
        max_position_embeddings=24,
    )  # fmt: skip
    theirs = transformers.BertForMultipleChoice(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(folder)
    layout, described = BertWeights(), weights.read_config(folder)
    body, heads = layout.from_hf(weights.read_state(folder))
    ours = MultipleChoiceModule(
        backbone=bert(**layout.sizes(described), packing=packing),
        choices=[f"ending{i}" for i in range(choices)],
        metrics=["accuracy"],
        splits={"val": [""], "test": [""]},
    )
    weights.load_into(ours.backbone, body, "here")
    weights.load_into(ours.head, layout.head_from_hf("multiple_choice", heads, described), "here")
    return theirs, ours.eval()


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("choices", [2, 4])
def test_logits_and_loss_equal_transformers(choices: int, packing: str, tmp_path: Path) -> None:
    theirs, ours = from_transformers(tmp_path, choices, packing)
    batch = MultipleChoiceCollate(table(choices=choices), 0)([0, 1, 2, 5])
    assert batch["ids"].shape[:2] == (4, choices)
    assert not batch["padding_mask"].all()
    with torch.no_grad():
        ids, mask, segments = (batch[name] for name in NAMES)
        expected = theirs(ids, mask.long(), segments, labels=batch["labels"])
        logits, loss = ours(batch), ours.loss(batch)
    assert logits.shape == (4, choices)
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss.total / loss.targets, expected.loss, atol=1e-5, rtol=0)
    assert loss.targets == 4


def test_permuted_choices_have_permuted_scores(tmp_path: Path) -> None:
    _, ours = from_transformers(tmp_path, 4)
    batch = MultipleChoiceCollate(table(), 0)([0, 1, 2])
    order = torch.tensor([2, 0, 3, 1])
    permuted: Any = {name: tensor[:, order] for name, tensor in batch.items() if tensor.dim() > 1}
    permuted |= {"example_ids": batch["example_ids"], "labels": order.argsort()[batch["labels"]]}
    with torch.no_grad():
        logits, again = ours(batch), ours(permuted)
        torch.testing.assert_close(again, logits[:, order], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ours.loss(permuted).total, ours.loss(batch).total, atol=1e-6, rtol=1e-5)
    assert (logits.max(1).values - logits.min(1).values > 0.01).all()


def test_fillers_count_nowhere(tmp_path: Path) -> None:
    _, ours = from_transformers(tmp_path, 4)
    collate = MultipleChoiceCollate(table(), 0)
    with torch.no_grad():
        plain, filled = (ours.loss(collate(rows)) for rows in ([0, 1, 2], [0, 1, 2, -1 - 4, -1 - 0]))
        columns = gather_examples(
            [ours.eval_step(collate(rows)) for rows in ([3, 4, 5], [0, -1 - 6], [6, 1, 2], [3])], 1
        )
        logits = ours(collate(list(range(7))))
    torch.testing.assert_close(plain.total, filled.total)
    assert plain.targets == filled.targets == 3
    assert columns[0].tolist() == list(range(7))
    torch.testing.assert_close(columns[1], logits, atol=1e-6, rtol=1e-5)
    evaluation = ours.evaluate("val", "", columns)
    labels = torch.from_numpy(table().labels)
    assert evaluation.scores == {"accuracy": pytest.approx(float((logits.argmax(1) == labels).float().mean()))}
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert evaluation.other_metrics["loss"] == pytest.approx(loss, rel=1e-5)
    rows = list(evaluation.rows())
    assert [row["prediction"] for row in rows] == [f"ending{n}" for n in logits.argmax(1).tolist()]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_hidden_choices_have_predictions_and_no_scores(tmp_path: Path) -> None:
    _, ours = from_transformers(tmp_path, 4)
    hidden = TokenTable(**{**vars(table()), "labels": np.full(7, -1)})
    with torch.no_grad():
        evaluation = ours.evaluate("test", "", ours.eval_step(MultipleChoiceCollate(hidden, 0)(list(range(7)))))
    assert evaluation.scores == evaluation.other_metrics == {}
    assert {row["label"] for row in evaluation.rows()} == {None}


def test_a_blank_batch_goes_through(tmp_path: Path) -> None:
    _, ours = from_transformers(tmp_path, 2)
    batch: ChoiceBatch = ours.dummy_batch(3, 10)
    assert batch["ids"].shape == (3, 2, 10)
    assert ours(batch).shape == (3, 2)
    assert ours.flops(batch) > 0


def test_a_choice_that_an_example_lacks_has_no_probability_and_moves_nothing(tmp_path: Path) -> None:
    _, ours = from_transformers(tmp_path, 3)
    full = table(2, 3)
    lacking = dataclasses.replace(full, pooler_position=np.array([0, 0, -1, 0, 0, 0]), labels=np.array([1, 2]))
    batch = MultipleChoiceCollate(lacking, 0)([0, 1])
    logits, complete = ours(batch), ours(MultipleChoiceCollate(full, 0)([0, 1]))
    assert logits[0, 2] == -torch.inf
    torch.testing.assert_close(logits[0, :2], complete[0, :2])
    torch.testing.assert_close(logits[1], complete[1])
    loss = ours.loss(batch)
    expected = nn.functional.cross_entropy(complete[:1, :2], torch.tensor([1])) + nn.functional.cross_entropy(
        complete[1:], torch.tensor([2])
    )
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in ours.parameters() if parameter.grad is not None)
