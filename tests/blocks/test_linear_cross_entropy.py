"""The chunked loss against the plain one: values, both gradients, and what is never in memory."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from protoformer.blocks.kernels.linear_cross_entropy import LinearCrossEntropy, linear_cross_entropy

TOKENS, D_MODEL, VOCAB = 23, 8, 37


def random_inputs(**settings: object) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(TOKENS, D_MODEL, requires_grad=True, **settings)
    weight = torch.randn(VOCAB, D_MODEL, requires_grad=True, **settings)
    return hidden, weight, torch.randint(VOCAB, (TOKENS,))


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(hidden, weight).float(), targets, reduction="none")


@pytest.mark.parametrize("chunk", [1, 5, 23, 512])
@pytest.mark.parametrize("scales", ["sum", "mean", "different"])
def test_values_and_gradients_equal_the_plain_form(chunk: int, scales: str) -> None:
    hidden, weight, targets = random_inputs()
    upstream = {"sum": torch.ones(TOKENS), "mean": torch.full((TOKENS,), 1 / TOKENS), "different": torch.randn(TOKENS)}
    expected, losses = plain(hidden, weight, targets), linear_cross_entropy(hidden, weight, targets, chunk)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    expected_gradients = torch.autograd.grad(expected @ upstream[scales], (hidden, weight))
    for ours, theirs in zip(
        torch.autograd.grad(losses @ upstream[scales], (hidden, weight)), expected_gradients, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scales", ["same", "different"])
@pytest.mark.parametrize("trained", ["hidden", "weight"])
def test_only_what_is_trained_gets_a_gradient(trained: str, scales: str) -> None:
    hidden, weight, targets = random_inputs()
    upstream = torch.full((TOKENS,), 3.0) if scales == "same" else torch.randn(TOKENS)
    named = {"hidden": hidden, "weight": weight}
    for name, tensor in named.items():
        tensor.requires_grad_(name == trained)
    (expected,) = torch.autograd.grad(plain(hidden, weight, targets) @ upstream, named[trained])
    (linear_cross_entropy(hidden, weight, targets, 5) @ upstream).backward()
    torch.testing.assert_close(named[trained].grad, expected, atol=1e-5, rtol=1e-5)
    assert all(tensor.grad is None for name, tensor in named.items() if name != trained)


def test_derivative_by_finite_differences() -> None:
    hidden, weight, targets = random_inputs(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets, 7), (hidden, weight))


@pytest.mark.parametrize("trained", ["hidden", "weight", "both"])
@pytest.mark.parametrize("scales", ["same", "different"])
def test_a_kept_graph_gives_the_same_gradients_twice(trained: str, scales: str) -> None:
    hidden, weight, targets = random_inputs()
    hidden.requires_grad_(trained != "weight")
    weight.requires_grad_(trained != "hidden")
    upstream = torch.full((TOKENS,), 3.0) if scales == "same" else torch.randn(TOKENS)
    total = linear_cross_entropy(hidden, weight, targets, 5) @ upstream
    total.backward(retain_graph=True)
    once = {name: x.grad.clone() for name, x in (("hidden", hidden), ("weight", weight)) if x.requires_grad}
    total.backward()
    for name, first in once.items():
        torch.testing.assert_close({"hidden": hidden, "weight": weight}[name].grad, 2 * first)


def test_very_large_loss_is_exact() -> None:
    """A target whose probability underflows to 0 in float32."""
    hidden, weight = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[300.0], [0.0]])
    losses = linear_cross_entropy(hidden, weight, torch.tensor([1]))
    losses.sum().backward()
    assert losses.item() == 300.0
    assert hidden.grad.item() == 300.0


def test_bfloat16_autocast() -> None:
    """Products in bfloat16, the softmax in float32, gradients in the parameters' own type."""
    hidden, weight, targets = random_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plain(hidden, weight, targets)
        losses = linear_cross_entropy(hidden, weight, targets, 5)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    expected_gradients = torch.autograd.grad(plain(hidden, weight, targets).sum(), (hidden, weight))
    for ours, theirs in zip(torch.autograd.grad(losses.sum(), (hidden, weight)), expected_gradients, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.02)


def test_no_tokens() -> None:
    hidden, weight = torch.randn(0, D_MODEL, requires_grad=True), torch.randn(VOCAB, D_MODEL, requires_grad=True)
    losses = linear_cross_entropy(hidden, weight, torch.zeros(0, dtype=torch.long))
    losses.sum().backward()
    assert losses.shape == (0,)
    assert (weight.grad == 0).all()


def test_operations_on_the_meta_device() -> None:
    with torch.device("meta"):
        hidden, weight, targets = random_inputs()
    counts = []
    for graph in (False, True):
        with torch.set_grad_enabled(graph), FlopCounterMode(display=False) as counter:
            losses = linear_cross_entropy(hidden, weight, targets, 5)
            if graph:
                losses.sum().backward()
        counts.append(counter.get_total_flops())
    product = 2 * TOKENS * D_MODEL * VOCAB
    assert counts == [product, 3 * product]


class Largest(TorchDispatchMode):
    """The most values that any tensor had."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        losses = function(*args, **(kwargs or {}))
        for tensor in losses if isinstance(losses, tuple) else (losses,):
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.numel())
        return losses


@pytest.mark.parametrize("same", [True, False])
def test_logits_are_never_whole_in_memory(same: bool) -> None:
    hidden, weight, targets = random_inputs()
    with Largest() as plainly:
        plain(hidden, weight, targets).sum().backward()
    with Largest() as chunked:
        losses = linear_cross_entropy(hidden, weight, targets, 4)
        (losses.sum() if same else losses @ torch.randn(TOKENS)).backward()
    assert plainly.values == TOKENS * VOCAB
    assert chunked.values == max(4 * VOCAB, VOCAB * D_MODEL)


def test_without_a_graph_no_gradient_is_made() -> None:
    hidden, weight, targets = random_inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        losses = linear_cross_entropy(hidden, weight, targets)
    assert losses.grad_fn is None
    assert counter.get_total_flops() == 2 * TOKENS * D_MODEL * VOCAB


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk 0"):
        linear_cross_entropy(*random_inputs(), chunk=0)


@pytest.mark.parametrize(
    ("scales", "trained", "products"),
    [("same", (True, True), 3), ("different", (True, True), 5), ("different", (True, False), 2)],
)
def test_nothing_is_computed_twice_but_what_has_to_be(scales: str, trained: tuple[bool, bool], products: int) -> None:
    """One product for the values, one for each gradient; where tokens count differently two more for the weight's."""
    hidden, weight, targets = random_inputs()
    upstream = torch.ones(TOKENS) if scales == "same" else torch.randn(TOKENS)
    with FlopCounterMode(display=False) as counter:
        LinearCrossEntropy.apply(hidden, weight, targets, 5, torch.float32, trained).backward(upstream)
    assert counter.get_total_flops() == products * 2 * TOKENS * D_MODEL * VOCAB


@pytest.mark.parametrize("upstream", ["sum", "scaled", "different"])
def test_in_fp16_the_shares_of_a_large_vocabulary_do_not_vanish(upstream: str) -> None:
    """p of most tokens is below 6e-8, the least number of fp16; a gradient scaler's factor must not overflow either."""
    torch.manual_seed(0)
    logits = torch.full((64,), -18.0)
    logits[0] = 0.0
    hidden, weight = torch.ones(3, 1), logits[:, None].clone()
    hidden.requires_grad_()
    weight.requires_grad_()
    targets = torch.zeros(3, dtype=torch.long)
    factors = {
        "sum": torch.ones(3),
        "scaled": torch.full((3,), 65536.0),
        "different": torch.tensor([65536.0, 4.0, 1.0]),
    }
    losses = LinearCrossEntropy.apply(hidden, weight, targets, 512, torch.float16, (True, True))
    actual = torch.autograd.grad(losses @ factors[upstream], (hidden, weight))
    expected = torch.autograd.grad(plain(hidden, weight, targets) @ factors[upstream], (hidden, weight))
    assert float(expected[1][1]) > 0
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-8)
