"""The two-way LSTM against torch's own, packed and padded; an encoder that gets one on top of what it has learned."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from protoformer.assembly.initial_weights import InitialWeights, load_initial_weights
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.blocks.baselines.recurrent import BiLSTM, Cell, UnidirectionalRNN
from protoformer.blocks.kernels.packing import PackedLayout, PaddedLayout
from protoformer.config.compose import compose
from protoformer.errors import WeightsError
from protoformer.runs.folder import RunFolder

LENGTHS = torch.tensor([7, 2, 5, 1])
MASK = torch.arange(7)[None] < LENGTHS[:, None]


def torchs(ours: BiLSTM, d_model: int) -> nn.LSTM:
    """torch's bidirectional LSTM with the same weights."""
    result = nn.LSTM(d_model, d_model // 2, batch_first=True, bidirectional=True)
    state = {name: tensor.clone() for name, tensor in ours.forwards.state_dict().items()}
    state |= {f"{name}_reverse": tensor.clone() for name, tensor in ours.backwards.state_dict().items()}
    result.load_state_dict(state)
    return result


def test_packed_and_padded_equal_torchs_own() -> None:
    ours = BiLSTM(12)
    theirs = torchs(ours, 12)
    x = torch.randn(4, 7, 12)
    x[~MASK] = 1e3  # what stands in padding must not matter
    gradients: dict[str, list[Tensor]] = {}
    results: dict[str, Tensor] = {}
    for name, layout in {"packed": PackedLayout(MASK), "padded": PaddedLayout(4, 7, MASK)}.items():
        ours.zero_grad()
        inputs = x.clone().requires_grad_()
        out = layout.unpack(ours(layout.pack(inputs), layout))
        (out[MASK] ** 2).sum().backward()
        results[name] = out.detach()[MASK]
        assert inputs.grad is not None
        gradients[name] = [inputs.grad[MASK], *(p.grad.clone() for p in ours.parameters() if p.grad is not None)]
        assert (inputs.grad[~MASK] == 0).all()
    inputs = x.clone().requires_grad_()
    packed = pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    (expected[MASK] ** 2).sum().backward()
    names = [f"{name}{end}" for end in ("", "_reverse") for name, _ in ours.forwards.named_parameters()]
    parameters = dict(theirs.named_parameters())
    assert inputs.grad is not None
    expected_gradients = [inputs.grad[MASK], *(parameters[name].grad for name in names)]
    for name in results:
        torch.testing.assert_close(results[name], expected.detach()[MASK], atol=1e-6, rtol=1e-5)
        assert len(gradients[name]) == len(expected_gradients) == 9
        for actual, gradient in zip(gradients[name], expected_gradients, strict=True):
            assert torch.isfinite(actual).all()
            torch.testing.assert_close(actual, gradient, atol=1e-5, rtol=1e-4)


def test_without_a_mask_there_is_no_padding() -> None:
    ours, x = BiLSTM(6), torch.randn(3, 5, 6)
    torch.testing.assert_close(ours(x, PaddedLayout(3, 5)), torchs(ours, 6)(x)[0], atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="must be even for two directions"):
        BiLSTM(7)


# --- on top of an encoder


def config(folder: Path, *overrides: str) -> dict[str, Any]:
    result = compose(["model=bert", "task=glue/mrpc", "source=sample", f"paths.outputs={folder}", *overrides])
    result["model"] |= {"vocab_size": 30, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16, "max_seq_len": 16}
    return result


def module(of: dict[str, Any], seed: int) -> Any:
    torch.manual_seed(seed)
    return build_module(of, builder_arguments(of["model"]))


def run_of(root: Path, *overrides: str) -> tuple[Any, InitialWeights]:
    """A run folder with a best checkpoint."""
    settings = config(root, *overrides)
    trained = module(settings, 1)
    folder = RunFolder(root / "run", "run")
    folder.write_config(settings)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": trained.state_dict(), "global_step": 1, "epoch": 0}, folder.best_checkpoint)
    return trained, InitialWeights(str(folder.path), folder.path, is_run=True)


def test_an_encoder_gives_its_weights_to_one_with_more_on_top(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained, start = run_of(tmp_path)
    settings = config(tmp_path, "model.top=bilstm")
    ours = module(settings, 2)
    fresh = {name: tensor.clone() for name, tensor in ours.state_dict().items() if ".top." in name}
    assert len(fresh) == 8
    with caplog.at_level(logging.INFO):
        load_initial_weights(ours, settings, start)
    state = ours.state_dict()
    assert state.keys() == trained.state_dict().keys() | fresh.keys()
    for name, tensor in {**trained.state_dict(), **fresh}.items():
        assert torch.equal(state[name], tensor), name
    assert any("top." in message and "randomly initialised" in message for message in caplog.messages)
    ids = torch.randint(30, (4, 7))
    out = ours.eval().backbone(ids, MASK).to_padded()
    without = trained.eval().backbone(ids, MASK).to_padded()
    assert out.shape == without.shape
    torch.testing.assert_close(
        ours.backbone.top(without, PaddedLayout(4, 7, MASK))[MASK], out[MASK], atol=1e-5, rtol=1e-4
    )
    out[MASK].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ours.parameters() if p.grad is not None)
    assert ours.backbone.embeddings.token.weight.grad.abs().sum() > 0


def test_what_was_trained_on_top_is_not_dropped_unsaid(tmp_path: Path) -> None:
    _, start = run_of(tmp_path, "model.top=bilstm")
    settings = config(tmp_path)
    with pytest.raises(WeightsError, match=r"unexpected: top\."):
        load_initial_weights(module(settings, 2), settings, start)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("padding_mask", [None, MASK])
def test_under_autocast_a_recurrence_keeps_its_own_precision(cell: Cell, padding_mask: Tensor | None) -> None:
    """On CUDA autocast would run it in fp16 whatever its dtype is, in a run in bf16 without a gradient scaler."""
    torch.manual_seed(0)
    layer, x = UnidirectionalRNN(6, cell), torch.randn(4, 7, 6)
    state = tuple(torch.randn(4, 6) for _ in range(2 if cell == "lstm" else 1))
    expected, _ = layer.run_padded(x, padding_mask, state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_state = tuple(part.bfloat16().float() for part in state)
        actual, last = layer.run_padded(x, padding_mask, state)
        from_half, _ = layer.run_padded(x.bfloat16(), padding_mask, tuple(part.bfloat16() for part in state))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert {part.dtype for part in (actual, from_half, *last)} == {torch.float32}
    rounded, _ = layer.run_padded(x.bfloat16().float(), padding_mask, half_state)
    torch.testing.assert_close(from_half, rounded, rtol=0, atol=0)
