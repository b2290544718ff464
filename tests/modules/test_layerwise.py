"""Learning rates that fall from the head down, and top layers that are drawn anew."""

import copy

import pytest
import torch
from torch import nn

from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.layerwise import lr_factors, top_layers
from protoformer.optim.build import build_lr_scheduler, build_optimizer
from protoformer.optim.optimization import Optimization

SIZES = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "max_seq_len": 16, "dropout": 0.0}


def classifier(optimization: Optimization) -> ClassificationModule:
    torch.manual_seed(0)
    return ClassificationModule(
        backbone=bert(**SIZES), labels=["a", "b"], metrics=["accuracy"], splits={}, optimization=optimization
    )


def named_factors(module: nn.Module, backbone: nn.Module, decay: float) -> dict[str, float]:
    factors = lr_factors(backbone, module.parameters(), decay)
    return {name: factors[p] for name, p in module.named_parameters()}


def test_each_part_has_the_rate_of_its_depth() -> None:
    module = classifier(Optimization(lr=1.0))
    factors = named_factors(module, module.backbone, 0.5)
    expected = {
        "head.": 1.0,
        "backbone.pooler.": 1.0,
        "backbone.stack.layers.1.": 0.5,
        "backbone.stack.layers.0.": 0.25,
        "backbone.embeddings.": 0.125,
    }
    for name, factor in factors.items():
        (of_part,) = (value for prefix, value in expected.items() if name.startswith(prefix))
        assert factor == of_part, name


def test_an_output_matrix_that_is_the_embedding_has_its_rate_and_a_final_normalisation_the_heads() -> None:
    tied, untied = gpt(**SIZES, norm="pre"), gpt(**SIZES, norm="pre", tie_word_embeddings=False)
    assert named_factors(tied, tied, 0.5)["embeddings.token.weight"] == 0.125
    assert named_factors(tied, tied, 0.5)["stack.final_norm.weight"] == 1.0
    assert named_factors(untied, untied, 0.5)["output.weight"] == 1.0


def test_each_stack_counts_from_its_own_top() -> None:
    sizes = {name: value for name, value in SIZES.items() if name != "n_layers"}
    model = transformer(**sizes, n_layers=3, n_decoder_layers=2)
    factors = named_factors(model, model, 0.5)
    assert {name: factors[f"{name}.layers.0.feed_forward.inner.weight"] for name in ("encoder", "decoder")} == {
        "encoder": 0.125,
        "decoder": 0.25,
    }
    assert factors["embeddings.token.weight"] == 0.0625


def test_a_step_moves_each_part_by_its_rate_and_the_schedule_keeps_the_ratio() -> None:
    """Plain gradient descent: the update is the gradient times the rate."""
    options = Optimization(lr=0.1, optimizer="sgd", weight_decay=0.0, layerwise_lr_decay=0.5, schedule="linear")
    module = classifier(options)
    before = copy.deepcopy(module)
    factors = named_factors(module, module.backbone, 0.5)
    optimizer = build_optimizer(module.parameters(), options, lr_factors(module.backbone, module.parameters(), 0.5))
    scheduler = build_lr_scheduler(optimizer, options, total_steps=4, d_model=16)
    assert optimizer.param_groups[0]["lr"] == 0.1  # what is logged
    for step in range(2):
        module.loss(module.dummy_batch(2, 4)).total.backward()
        for (name, parameter), old in zip(module.named_parameters(), before.parameters(), strict=True):
            assert parameter.grad is not None
            old.data = parameter.detach() - 0.1 * (1 - step / 4) * factors[name] * parameter.grad
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        for (name, parameter), expected in zip(module.named_parameters(), before.parameters(), strict=True):
            torch.testing.assert_close(parameter, expected, msg=name)


def test_of_a_factor_of_1_nothing_changes() -> None:
    module = classifier(Optimization(lr=0.1))
    plain = build_optimizer(module.parameters(), Optimization(lr=0.1))
    assert [len(group["params"]) for group in plain.param_groups] == [
        sum(p.ndim >= 2 for p in module.parameters()),
        sum(p.ndim < 2 for p in module.parameters()),
    ]


def test_the_last_layers_by_name() -> None:
    assert top_layers(bert(**SIZES), 1) == ["stack.layers.1.", "pooler."]
    assert top_layers(bert(**SIZES), 2) == ["stack.layers.0.", "stack.layers.1.", "pooler."]
    with pytest.raises(ConfigurationError, match=r"recipe\.reinit_layers=3: the model has fewer layers \(stack: 2\)"):
        top_layers(bert(**SIZES), 3)
