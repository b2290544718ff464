"""Operations against the formula."""

import pytest
import torch

from protoformer.batches import ClassificationBatch
from protoformer.models.bert import bert
from protoformer.models.cost import cost


def loss(model: torch.nn.Module, batch: int, seq: int) -> torch.Tensor:
    ids = torch.zeros(batch, seq, dtype=torch.long)
    return model(ids, torch.ones(batch, seq, dtype=torch.bool), ids).to_padded().sum()


@pytest.mark.parametrize(("d_model", "n_layers", "seq"), [(64, 2, 16), (1024, 24, 128)])
def test_operations_are_those_of_the_formula(d_model: int, n_layers: int, seq: int) -> None:
    with torch.device("meta"):
        model = bert(
            vocab_size=100, d_model=d_model, n_layers=n_layers, n_heads=d_model // 32, d_ff=4 * d_model, packing="off"
        )
        measured = cost(model, lambda: loss(model, 3, seq))
    linear, attention = (
        2 * 12 * d_model**2,
        4 * seq * d_model,
    )  # a token and layer: four projections and d_ff = 4 d_model
    assert measured.forward_flops == 3 * seq * n_layers * (linear + attention)
    assert measured.training_flops == 3 * measured.forward_flops
    assert measured.parameters == sum(p.numel() for p in model.parameters())
    assert measured.parameter_bytes == 4 * measured.parameters


def test_a_real_module_is_refused() -> None:
    with pytest.raises(ValueError, match="meta"):
        cost(bert(vocab_size=100, d_model=64, n_layers=1, n_heads=2, d_ff=256), lambda: torch.zeros(()))


def test_a_blank_batch_is_a_batch() -> None:
    from protoformer.modules.kinds.classification import ClassificationModule

    backbone = bert(vocab_size=9, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    for labels, metric in ((["a", "b"], "accuracy"), (None, "pearson")):
        model = ClassificationModule(backbone=backbone, labels=labels, metrics=[metric], splits={})
        batch = model.dummy_batch(2, 5)
        assert set(batch) == set(ClassificationBatch.__required_keys__)
        assert torch.isfinite(model.loss(batch).total)


def test_a_language_models_softmax_counts_once_forward_and_thrice_in_training() -> None:
    """Though its gradients are made on the way forward."""
    from protoformer.models.gpt import gpt
    from protoformer.modules.kinds.language_modeling import LanguageModule

    rows, seq, d_model, vocab = 3, 16, 64, 500
    with torch.device("meta"):
        backbone = gpt(vocab_size=vocab, d_model=d_model, n_layers=2, n_heads=2, d_ff=256, packing="off")
        module = LanguageModule(backbone=backbone, splits={}, sample_tokens=0)
        alone = cost(backbone, lambda: loss(backbone, rows, seq))
        measured = cost(module, lambda: module.loss(module.dummy_batch(rows, seq)).total)
    softmax = 2 * rows * seq * d_model * vocab
    assert measured.forward_flops - alone.forward_flops == softmax
    assert measured.training_flops - alone.training_flops == 3 * softmax
