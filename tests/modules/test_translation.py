"""The translation loss against torch's own smoothed cross-entropy, its means over tokens, and what an evaluation leaves."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from protoformer.batches import TranslationBatch
from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert
from protoformer.models.cost import cost
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.translation import TranslationModule

START, END, VOCAB = 28, 29, 30
LENGTHS = torch.tensor([[7, 5], [3, 4], [2, 1], [6, 6]])  # of sources and targets


class Words:
    """Each id is a word, `w7`."""

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"w{number}" for number in ids)


def module(smoothing: float = 0.1, **options: Any) -> TranslationModule:
    model = transformer(
        vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=24, dropout=0.0, output_bias=True
    )
    nn.init.normal_(model.bias)  # type: ignore[arg-type]
    splits: Any = {"val": [""], "test": [""]}
    task_module = TranslationModule(backbone=model, splits=splits, label_smoothing=smoothing, **options)
    task_module._trainer = SimpleNamespace(testing=False)  # type: ignore[assignment]
    return task_module.eval()


def batch() -> TranslationBatch:
    masks = [torch.arange(int(side.max()))[None] < side[:, None] for side in LENGTHS.T]
    ids, targets = (torch.randint(1, 28, mask.shape) for mask in masks)
    targets[torch.arange(4), LENGTHS[:, 1] - 1] = END
    return TranslationBatch(
        ids=ids,
        padding_mask=masks[0],
        decoder_ids=torch.cat([torch.full((4, 1), START), targets[:, :-1]], dim=1),
        decoder_mask=masks[1],
        target_ids=targets.masked_fill(~masks[1], -1),
        example_ids=torch.arange(4),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_losses_and_their_gradients_are_torchs_own(smoothing: float) -> None:
    task_module, inputs = module(smoothing), batch()
    loss = task_module.loss(inputs)
    loss.total.backward()
    grads = {name: p.grad.clone() for name, p in task_module.named_parameters() if p.grad is not None}
    task_module.zero_grad()
    hidden = task_module.backbone(inputs["ids"], inputs["padding_mask"], inputs["decoder_ids"], inputs["decoder_mask"])
    logits, targets = task_module.backbone.logits(hidden.to_padded()).flatten(0, 1), inputs["target_ids"].flatten()
    expected = functional.cross_entropy(logits, targets, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    plain = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
    expected.backward()
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.running_metrics["plain_loss"][0], plain)
    assert loss.targets == LENGTHS[:, 1].sum()
    for name, parameter in task_module.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_parts_of_a_batch_sum_up_and_fillers_count_nothing() -> None:
    task_module, inputs = module(), batch()
    whole = task_module.loss(inputs)
    parts = [
        task_module.loss({name: value[rows] for name, value in inputs.items()}) for rows in (slice(0, 1), slice(1, 4))
    ]  # type: ignore[index, typeddict-item]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total)
    assert sum(part.targets for part in parts) == whole.targets
    inputs["target_ids"][1] = -1
    partial = task_module.loss(inputs)
    assert partial.targets == whole.targets - 4
    inputs["target_ids"][:] = -1
    assert task_module.loss(inputs).total == 0


def evaluated(task_module: TranslationModule, inputs: TranslationBatch, language: str = "de") -> Any:
    texts = SimpleNamespace(
        tokenizer=Words(),
        row=list(range(9)),
        template=SimpleNamespace(bos_id=START, eos_id=END, never_generated=lambda rows: {START}),
        language=language,
        sources=["a", "b", "c", "d"],
        targets=[Words().decode(row[(row >= 0) & (row != END)].tolist()) for row in inputs["target_ids"]],
    )
    task_module.references = {"val": {"": texts}}
    with torch.no_grad():
        return task_module.evaluate("val", "", task_module.eval_step(inputs))


def test_an_evaluation_holds_losses_bleu_signatures_and_what_was_written() -> None:
    task_module, inputs = module(), batch()
    evaluation = evaluated(task_module, inputs)
    with torch.no_grad():
        loss = task_module.loss(inputs)
    assert evaluation.other_metrics["smoothed_loss"] == pytest.approx(float(loss.total / loss.targets), rel=1e-5)
    plain = float(loss.running_metrics["plain_loss"][0] / loss.targets)
    assert evaluation.other_metrics["loss"] == pytest.approx(plain, rel=1e-5)
    assert evaluation.other_metrics["perplexity"] == pytest.approx(float(torch.tensor(plain).exp()), rel=1e-4)
    sums = evaluation.example_sums()
    assert -sum(sums["log_likelihood"]) / sum(sums["tokens"]) == pytest.approx(plain, rel=1e-5)
    assert [len(each) for each in sums.values()] == [4, 4]
    assert evaluation.scores["bleu"] < 0.5
    assert "tok:13a" in evaluation.notes["bleu"]
    assert "moses:de" in evaluation.notes["compound_bleu"]
    rows = list(evaluation.rows())
    assert [(row["id"], row["source"]) for row in rows] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert rows[0]["label"].startswith("w")


def test_a_model_that_knows_its_targets_gets_a_hundred_by_any_beam() -> None:
    """One pair learnt by heart."""
    for beams in (1, 4):
        task_module = module(0.0, dev_beams=beams)
        inputs: Any = {name: value[:1] for name, value in batch().items()}
        optimizer = torch.optim.Adam(task_module.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            task_module.loss(inputs).total.backward()
            optimizer.step()
        evaluation = evaluated(task_module, inputs)
        assert evaluation.scores["bleu"] == pytest.approx(1.0)
        assert evaluation.other_metrics["compound_bleu"] == pytest.approx(1.0)


def test_operations_are_about_what_is_counted() -> None:
    with torch.device("meta"):
        task_module = module()
        task_module.backbone.packing = "off"
        blank = task_module.dummy_batch(2, 12)
        counted = cost(task_module, lambda: task_module.loss(blank).total)
    estimated = float(task_module.flops({name: torch.ones_like(value, device="cpu") for name, value in blank.items()}))  # type: ignore[arg-type]
    assert estimated == pytest.approx(counted.training_flops, rel=0.15)


def test_invalid_model_or_label_smoothing_is_refused() -> None:
    splits: Any = {"val": [""], "test": [""]}
    encoder: Any = bert(vocab_size=9, d_model=4, n_layers=1, n_heads=1, d_ff=4)
    with pytest.raises(ConfigurationError, match="needs an encoder-decoder"):
        TranslationModule(backbone=encoder, splits=splits)
    with pytest.raises(ConfigurationError, match="label_smoothing=1"):
        module(1.0)
    with pytest.raises(ConfigurationError, match="beams=0"):
        module(beams=0)
