"""Heads left out, their importance and their means, against definitions by hand."""

import pytest
import torch
from torch import nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.errors import ConfigurationError
from protoformer.interventions.heads import Head, HeadOutputs, ablated, attention_of, heads_of, parse_heads
from protoformer.interventions.importance import head_importance, mean_outputs
from protoformer.models.bert import bert
from protoformer.models.rnn import rnn
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.classification import ClassificationModule

SIZES = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 32, "max_seq_len": 16, "dropout": 0.0}
MASK = torch.ones(2, 6, dtype=torch.bool)


@pytest.fixture
def module() -> ClassificationModule:
    torch.manual_seed(0)
    made = ClassificationModule(backbone=bert(**SIZES), labels=["a", "b"], metrics=["accuracy"], splits={}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def ids() -> torch.Tensor:
    return torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(1))


def test_names() -> None:
    encoder_decoder = transformer(**SIZES)
    assert [str(head) for head in heads_of(bert(**SIZES))[:5]] == ["1-1", "1-2", "1-3", "1-4", "2-1"]
    names = [str(head) for head in heads_of(encoder_decoder)]
    assert names[::8] == ["encoder:1-1", "decoder:1-1", "cross:1-1"]
    assert parse_heads(["cross:2-4", "encoder 1-2"], encoder_decoder) == [Head("cross", 2, 4), Head("encoder", 1, 2)]
    for name in ("3-1", "1-5", "0-1", "head", "encoder:1-1"):
        with pytest.raises(ConfigurationError, match=f"--heads {name}: the model has no such head .* 1-1 to 2-4"):
            parse_heads([name], bert(**SIZES))
    sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 1, "max_seq_len": 16, "dropout": 0.0}
    assert heads_of(rnn(**sizes)) == []


@pytest.mark.parametrize("with_means", [False, True])
@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_head_that_is_left_out_gives_zeros_or_its_mean(
    module: ClassificationModule, packing: str, with_means: bool
) -> None:
    """By the definition: what the head gives to W^O is overwritten."""
    model, chosen = module.backbone, [Head("", 1, 2), Head("", 2, 4)]
    model.packing = packing  # type: ignore[assignment]
    means = {head: torch.randn(4) for head in chosen}
    hooks = []
    for head in chosen:

        def overwrite(_: nn.Module, arguments: tuple[torch.Tensor], head: Head = head) -> tuple[torch.Tensor]:
            context = arguments[0].clone()
            context[..., 4 * (head.number - 1) : 4 * head.number] = means[head] if with_means else 0.0
            return (context,)

        hooks.append(attention_of(model)["", head.layer].output.register_forward_pre_hook(overwrite))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = model(ids(), MASK).to_padded()
        for hook in hooks:
            hook.remove()
        whole = model(ids(), MASK).to_padded()
        with ablated(model, chosen, means if with_means else None):
            actual = model(ids(), MASK).to_padded()
    torch.testing.assert_close(actual, expected)
    assert (actual - whole).abs().max() > 0.01
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_weights_are_put_back_after_an_error(module: ClassificationModule) -> None:
    before = module.backbone.state_dict()["stack.layers.0.attention.output.weight"].clone()
    with pytest.raises(RuntimeError, match="in the block"), ablated(module.backbone, heads_of(module.backbone)):
        raise RuntimeError("in the block")
    assert torch.equal(module.backbone.state_dict()["stack.layers.0.attention.output.weight"], before)


def examples(module: ClassificationModule, number: int) -> list[dict[str, torch.Tensor]]:
    made = []
    for index in range(number):
        batch = dict(module.dummy_batch(1, 3 + index))
        batch["ids"] = torch.randint(50, (1, 1, 3 + index), generator=torch.Generator().manual_seed(index))
        made.append(batch)
    return made


def test_importance_is_the_slope_of_the_loss_along_a_heads_scale(module: ClassificationModule) -> None:
    """Against a difference quotient: the loss where a head's output is multiplied by 1 + e and 1 - e."""
    batches, step = examples(module, 3), 1e-2  # the loss is in float32: a smaller step is lost in its rounding
    slopes: dict[Head, float] = {}
    for head in heads_of(module.backbone):
        attention: MultiHeadAttention = attention_of(module.backbone)["", head.layer]
        columns = slice(4 * (head.number - 1), 4 * head.number)
        total = 0.0
        for batch in batches:
            losses = []
            for factor in (1 + step, 1 - step):
                with torch.no_grad():
                    saved = attention.output.weight[:, columns].clone()
                    attention.output.weight[:, columns] *= factor
                    losses.append(module.double().loss(batch).total.item())  # type: ignore[arg-type]
                    module.float()
                    attention.output.weight[:, columns] = saved
            total += abs(losses[0] - losses[1]) / (2 * step)
        slopes[head] = total
    for layer in (1, 2):
        norm = sum(slope**2 for head, slope in slopes.items() if head.layer == layer) ** 0.5
        slopes |= {head: slope / norm for head, slope in slopes.items() if head.layer == layer}
    actual = head_importance(module, batches)  # type: ignore[arg-type]
    assert actual.keys() == slopes.keys()
    for head, slope in slopes.items():
        assert actual[head] == pytest.approx(slope, rel=2e-2, abs=2e-3), head
    assert all(parameter.grad is None for parameter in module.parameters())


def test_means_are_over_tokens_and_not_over_padding(module: ClassificationModule) -> None:
    batches = examples(module, 3)
    gathered: dict[Head, list[torch.Tensor]] = {}
    with HeadOutputs(module.backbone) as outputs, torch.no_grad():
        for batch in batches:
            module.loss(batch)  # type: ignore[arg-type]
            for head, context, grad in outputs.of_heads():
                assert grad is None
                gathered.setdefault(head, []).append(context)
    padded = dict(batches[0])
    padded["ids"] = torch.cat([padded["ids"], torch.zeros(1, 1, 2, dtype=torch.long)], dim=2)
    padded["padding_mask"] = torch.tensor([[[True] * 3 + [False] * 2]])
    padded.pop("lengths", None)
    padded["segment_ids"] = torch.zeros(1, 1, 5, dtype=torch.long)
    means = mean_outputs(module, [padded, *batches[1:]])  # type: ignore[list-item]
    for head, contexts in gathered.items():
        torch.testing.assert_close(means[head], torch.cat(contexts).mean(0), atol=1e-5, rtol=1e-4)
