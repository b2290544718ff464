"""Frozen parameters: which they are, and that they get no update and no decay."""

import pytest
import torch

from protoformer.assembly.freeze import freeze
from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.kinds.language_modeling import LanguageModule
from protoformer.modules.kinds.translation import TranslationModule
from protoformer.optim.build import build_optimizer
from protoformer.optim.optimization import Optimization


def classifier() -> ClassificationModule:
    backbone = bert(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=16, dropout=0.0)
    return ClassificationModule(backbone=backbone, labels=["a", "b"], metrics=["accuracy"], splits={})


def trained(module: torch.nn.Module) -> set[str]:
    """The parts of the model, and the head, that are trained."""
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    return {".".join(name.split(".")[: 4 if "layers" in name else 2]) for name in names}


@pytest.mark.parametrize(
    ("choice", "parts"),
    [
        (None, {"backbone.embeddings", "backbone.stack.layers.0", "backbone.stack.layers.1", "backbone.pooler", "head.linear"}),
        ("embeddings", {"backbone.stack.layers.0", "backbone.stack.layers.1", "backbone.pooler", "head.linear"}),
        (0, {"backbone.stack.layers.0", "backbone.stack.layers.1", "backbone.pooler", "head.linear"}),
        (1, {"backbone.stack.layers.1", "backbone.pooler", "head.linear"}),
        (["layers.1", "pooler"], {"backbone.embeddings", "backbone.stack.layers.0", "head.linear"}),
        ("backbone", {"head.linear"}),
    ],
)  # fmt: skip
def test_what_is_frozen(choice, parts: set[str]) -> None:
    module = classifier()
    freeze(module, choice)
    assert trained(module) == parts


def test_a_number_freezes_the_embeddings_of_the_targets_too() -> None:
    sizes = {
        "vocab_size": 50,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 32,
        "max_seq_len": 16,
        "dropout": 0.0,
    }
    apart = TranslationModule(backbone=transformer(**sizes, shared_embeddings=False), splits={})
    freeze(apart, 1)
    assert not any("embeddings" in part for part in trained(apart))
    assert trained(apart) >= {"backbone.encoder.layers.1", "backbone.decoder.layers.1"}
    assert not trained(apart) & {"backbone.encoder.layers.0", "backbone.decoder.layers.0"}


def test_the_frozen_are_neither_updated_nor_decayed() -> None:
    module = classifier()
    freeze(module, 1)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = build_optimizer(module.parameters(), Optimization(lr=0.1, weight_decay=0.5))
    module.loss(module.dummy_batch(2, 4)).total.backward()
    optimizer.step()
    unchanged = {name for name, parameter in module.named_parameters() if torch.equal(parameter, before[name])}
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert frozen <= unchanged
    assert len(frozen) > 10
    assert not any(name.startswith(("backbone.stack.layers.1.", "head")) and "weight" in name for name in unchanged)
    assert all(parameter.grad is None for parameter in module.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("embedding", "no part 'embedding'; did you mean embeddings?"),
        (["layers.7"], "no part 'layers.7'; did you mean stack.layers"),
        (3, "recipe.freeze=3: the model has fewer layers .stack: 2."),
    ],
)
def test_what_the_model_lacks_is_refused(choice, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        freeze(classifier(), choice)


def test_a_language_model_without_a_head_keeps_something_to_train() -> None:
    backbone = gpt(vocab_size=50, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16)
    with pytest.raises(ConfigurationError, match="leaves nothing to train"):
        freeze(LanguageModule(backbone=backbone, splits={}), "backbone")
