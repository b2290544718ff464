"""Pretraining against `transformers` and plain formulas: both heads, the two-term loss, its parts, weights there and back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.data.corpus.masking import NextTokens
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.evaluation import gather_examples
from protoformer.modules.kinds.pretraining import PretrainingModule

from .pretraining_cases import SIZES, VAL, Rows, assert_same, full_loss, gradients, labels, module


def from_transformers(folder: Path, **settings: Any) -> tuple[Any, PretrainingModule]:
    """A random model of theirs, and ours with its weights, by way of a folder."""
    config = transformers.BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=50,
        max_position_embeddings=24, **settings.pop("config", {}),
    )  # fmt: skip
    theirs = transformers.BertForPreTraining(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert theirs.cls.predictions.decoder.weight is theirs.bert.embeddings.word_embeddings.weight
    theirs.save_pretrained(folder)
    return theirs, read(folder, **settings)


def read(folder: Path, **settings: Any) -> PretrainingModule:
    layout, described = BertWeights(), weights.read_config(folder)
    body, heads = layout.from_hf(weights.read_state(folder))
    ours = PretrainingModule(backbone=bert(**layout.sizes(described), **settings), splits=VAL)
    weights.load_into(ours.backbone, body, "here")
    weights.load_into(ours.head, layout.head_from_hf("pretraining", heads, described), "here")
    return ours.eval()


def same_as_transformers(theirs: Any, ours: PretrainingModule) -> None:
    batch = Rows()([1, 2, 4, 8])  # all with a pair but one
    batch["next_sentence"][:] = torch.tensor([0, 1, 0, 1])
    batch["targets"][1] = 4
    token_labels = labels(batch)
    with torch.no_grad():
        expected = theirs(
            batch["ids"], batch["padding_mask"].long(), batch["segment_ids"],
            labels=token_labels, next_sentence_label=batch["next_sentence"],
        )  # fmt: skip
        output, loss = ours(batch), ours.loss(batch)
    row, number = (batch["target_ids"] >= 0).nonzero(as_tuple=True)
    position = batch["target_position"][row, number]
    assert torch.equal(output.target_ids, token_labels[row, position])
    torch.testing.assert_close(output.mlm_logits, expected.prediction_logits[row, position], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.nsp_logits, expected.seq_relationship_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss.total / loss.targets, expected.loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_both_heads_and_the_loss_equal_transformers(packing: str, activation: str, tmp_path: Path) -> None:
    theirs, ours = from_transformers(tmp_path, packing=packing, config={"hidden_act": activation})
    same_as_transformers(theirs, ours)


@pytest.mark.parametrize("copies", ["decoder", "decoder.bias alone"])
def test_copies_of_tied_tensors_in_a_file_are_left_out(copies: str, tmp_path: Path) -> None:
    theirs, _ = from_transformers(tmp_path)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    assert "cls.predictions.decoder.weight" in state
    if copies != "decoder":
        del state["cls.predictions.decoder.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    same_as_transformers(theirs, read(tmp_path))


def test_a_written_folder_opens_in_transformers(tmp_path: Path) -> None:
    ours, layout = module().eval(), BertWeights()
    state = layout.to_hf("pretraining", ours.backbone.state_dict(), ours.head.state_dict())
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    full = {**SIZES, "n_segments": 2, "norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(layout.hf_config("pretraining", full)))
    theirs, info = transformers.BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    same_as_transformers(theirs.eval(), ours)
    again = read(tmp_path).state_dict()
    assert again.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize("nsp", [True, False])
def test_gathered_positions_equal_the_full_softmax(nsp: bool, packing: str) -> None:
    batch = Rows()(list(range(8)))
    assert batch["targets"].tolist() == [int((labels(batch) >= 0).sum()), 5]
    plain, ours = module(nsp, packing=packing), module(nsp, packing=packing)
    expected = full_loss(plain, batch)
    expected.backward()
    loss = ours.loss(batch)
    (loss.total / loss.targets).backward()
    torch.testing.assert_close(loss.total / loss.targets, expected, atol=1e-5, rtol=1e-5)
    assert_same(gradients(ours), gradients(plain))


def test_without_next_sentences_there_is_no_head_and_the_pooler_stands_still() -> None:
    ours = module(nsp=False)
    assert ours.head.next is None
    assert not [name for name in ours.state_dict() if "next" in name]
    assert not [p for p in ours.backbone.pooler.parameters() if p.requires_grad]
    batch = Rows()(list(range(4)))
    assert ours(batch).nsp_logits is None
    loss = ours.loss(batch)
    assert set(loss.running_metrics) == {"mlm_loss", "mlm_accuracy"}
    loss.total.backward()
    assert all((p.grad is not None) == p.requires_grad for p in ours.parameters())
    assert all(p.requires_grad for p in module().parameters())


def test_a_score_that_is_never_seen_is_refused() -> None:
    backbone = bert(**SIZES)
    with pytest.raises(ConfigurationError, match="there is no nsp_accuracy"):
        PretrainingModule(backbone=backbone, splits={"val": [""], "test": []}, metrics=["nsp_accuracy"], nsp=False)


def test_a_batch_without_pairs_or_with_nothing_to_tell() -> None:
    ours = module()
    alone = Rows()([0, 3, 6])  # none of them a pair
    assert alone["targets"][1] == 0
    loss = ours.loss(alone)
    torch.testing.assert_close(loss.total / loss.targets, full_loss(ours, alone), atol=1e-5, rtol=1e-5)
    empty = Rows()([-1 - 1, -1 - 2])
    assert empty["targets"].tolist() == [0, 0]
    loss = ours.loss(empty)
    assert loss.total == loss.targets == 0
    loss.total.backward()
    assert all((p.grad == 0).all() for p in ours.parameters() if p.grad is not None)


def test_next_tokens_are_a_shifted_cross_entropy() -> None:
    ours = module(nsp=False, attention="causal")
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 50, size=n) for n in (9, 16, 5)]
    batch = ours.dummy_batch(3, 16)
    ids, mask = torch.zeros(3, 16, dtype=torch.long), torch.zeros(3, 16, dtype=torch.bool)
    position, target = torch.zeros(3, 15, dtype=torch.long), torch.full((3, 15), -1)
    for row, text in enumerate(texts):
        special = np.isin(np.arange(len(text)), [0, len(text) - 1])
        example = NextTokens()(text, special, None, 50, -1, 20, draw)
        assert example.ids is text
        ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), True
        position[row, : len(text) - 1] = torch.from_numpy(example.positions)
        target[row, : len(text) - 1] = torch.from_numpy(example.target_ids)
    shaped: Any = {"ids": ids, "padding_mask": mask, "target_position": position, "target_ids": target}
    batch = PretrainingBatch(**{**batch, **shaped, "example_ids": torch.arange(3)})
    hidden = ours.backbone(ids, mask, batch["segment_ids"]).to_padded()
    logits = ours.head.masked(hidden, ours.backbone.embeddings.token.weight)
    shifted = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
    expected = functional.cross_entropy(logits[:, :-1].flatten(0, 1), shifted.flatten())
    loss = ours.loss(batch)
    assert loss.targets == 8 + 15 + 4
    torch.testing.assert_close(loss.total / loss.targets, expected, atol=1e-5, rtol=1e-5)
    changed: Any = {**batch, "ids": torch.where(torch.arange(16) > 3, (ids + 1) % 50, ids)}
    first = batch["target_position"][0] <= 3
    first &= batch["target_ids"][0] >= 0
    n_first = int(first.sum())  # what stands before a token decides, and nothing after it
    torch.testing.assert_close(
        ours(changed).mlm_logits[:n_first], ours(batch).mlm_logits[:n_first], atol=1e-5, rtol=1e-5
    )


def batches(rows: list[list[int]]) -> Iterator[PretrainingBatch]:
    return map(Rows(), rows)


def test_the_numbers_of_a_split_are_those_of_all_its_examples_once() -> None:
    ours = module().eval()
    with torch.no_grad():
        parts = [ours.eval_step(b) for b in batches([[3, 1], [0, 2, 4, -1 - 7], [5, 6, 1], [-1 - 0]])]
        columns = gather_examples(parts, 1)
        everything = Rows()(list(range(7)))
        output = ours(everything)
    assert columns[0].tolist() == list(range(7))
    evaluation = ours.evaluate("val", "", columns)
    mlm_loss = float(functional.cross_entropy(output.mlm_logits, output.target_ids))
    labelled = everything["next_sentence"] >= 0
    assert 0 < int(labelled.sum()) < 7
    nsp_loss = float(functional.cross_entropy(output.nsp_logits[labelled], everything["next_sentence"][labelled]))
    mlm_accuracy = float((output.mlm_logits.argmax(-1) == output.target_ids).float().mean())
    nsp_accuracy = float((output.nsp_logits.argmax(-1) == everything["next_sentence"])[labelled].float().mean())
    assert evaluation.scores == {"mlm_accuracy": pytest.approx(mlm_accuracy)}
    sums = {name: sum(column) for name, column in evaluation.example_sums().items()}
    assert -sums["mlm_log_likelihood"] / sums["mlm_tokens"] == pytest.approx(mlm_loss, rel=1e-5)
    assert sums["mlm_correct"] / sums["mlm_tokens"] == pytest.approx(mlm_accuracy)
    assert list(evaluation.example_ids()) == list(range(7))
    assert dict(evaluation.other_metrics) == pytest.approx(
        {
            "mlm_loss": mlm_loss, "mlm_perplexity": np.exp(mlm_loss), "nsp_loss": nsp_loss, "nsp_accuracy": nsp_accuracy,
            "loss": mlm_loss + nsp_loss,
        },
        rel=1e-5,
    )  # fmt: skip
    both = PretrainingModule(backbone=ours.backbone, splits=VAL, metrics=["mlm_accuracy", "nsp_accuracy"])
    assert set(both.evaluate("val", "", columns).scores) == {"mlm_accuracy", "nsp_accuracy"}
    alone = module(nsp=False).eval()
    with torch.no_grad():
        evaluation = alone.evaluate("val", "", gather_examples([alone.eval_step(everything)], 1))
    assert set(evaluation.other_metrics) == {"mlm_loss", "mlm_perplexity", "loss"}
    assert list(evaluation.rows()) == []


def test_fillers_count_nowhere() -> None:
    ours = module()
    plain, filled = (ours.loss(b) for b in batches([[1, 2, 3], [1, 2, 3, -1 - 4, -1 - 5]]))
    torch.testing.assert_close(plain.total, filled.total)
    assert plain.targets == filled.targets
    for name, (total, count) in plain.running_metrics.items():
        torch.testing.assert_close(filled.running_metrics[name][0], total)
        assert filled.running_metrics[name][1] == count
