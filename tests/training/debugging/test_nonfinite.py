"""The first non-finite value is named: in every direction, with and without compilation, on the rank that has it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protoformer.blocks.stacks import layers_of
from protoformer.config.compose import compose
from protoformer.errors import DivergedError
from protoformer.modules.task_module import TaskModule
from protoformer.runs.identity import run_id
from protoformer.training import session
from protoformer.training.debugging.watch import Watch, describe
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=48", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=8", "recipe.max_steps=4", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "task.max_len=24", "hardware.threads=1", "trainer.checkpoint_every=1"),
]  # fmt: skip


class Poison(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * torch.inf


def config(folder: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={folder}/out", f"paths.cache={folder}/cache", *overrides])


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, change: Any, step: int = 2) -> None:
    """From this step on, `change` is applied to what the module of this name reads and writes."""
    on_train_start = TaskModule.on_train_start

    def begin(self: TaskModule) -> None:
        on_train_start(self)
        part = self.get_submodule(name)
        forward = part.forward

        def changed(*args: Any, **kwargs: Any) -> Any:
            return change(forward, *args, **kwargs) if self.trainer.global_step >= step else forward(*args, **kwargs)

        part.forward = changed  # type: ignore[method-assign]

    monkeypatch.setattr(TaskModule, "on_train_start", begin)


def diverged(folder: Path, *overrides: str) -> str:
    with forked_ranks(), pytest.raises(DivergedError) as caught:
        train(config(folder, *overrides), "")
    assert caught.value.exit_code == 4
    return str(caught.value)


def call_without_hooks(model: nn.Module) -> None:
    """As a compiled layer is called. (Inductor cannot read functions whose shapes are checked, as they are in tests.)"""
    for layer in layers_of(model):
        layer._compiled_call_impl = layer.forward


OUTER, NORM = "backbone.stack.layers.1.feed_forward.outer", "backbone.stack.layers.0.attention_norm"


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (OUTER, []),
        (NORM, ["hardware.micro_batch=3"]),
        (OUTER, ["hardware.checkpoint_activations=true"]),
        (OUTER, ["hardware.compile=true"]),
    ],
    ids=["plain", "accumulated", "recomputed", "compiled"],
)
def test_a_forward_pass_is_named_with_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, overrides: list[str]
) -> None:
    monkeypatch.setattr(session, "compile_layers", call_without_hooks)
    spoil(monkeypatch, name, lambda forward, *args: forward(*args) * torch.nan)
    error = diverged(tmp_path, "debug=nan", *overrides)
    assert error.startswith("the loss is nan at step 2; stopped before the weights were touched")
    assert "debug=nan: first " in error
    assert "nan of " in error
    assert f"in the forward pass of {name}, which read " in error
    assert "finite values (float32, " in error
    assert "; examples " in error
    (file,) = tmp_path.rglob("nan.txt")
    assert file.read_text().startswith("step 2\nfirst ")
    assert len(error.splitlines()) == 1


def test_the_run_goes_on_with_it_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, found = config(tmp_path), config(tmp_path, "debug=nan")
    assert run_id(found) == run_id(plain)
    assert found["tracking"] == plain["tracking"]
    with monkeypatch.context() as patched:
        spoil(patched, OUTER, lambda forward, *args: forward(*args) * torch.nan, step=3)
        assert "debug=nan:" not in diverged(tmp_path)
        error = diverged(tmp_path, "debug=nan")
    assert "at step 3" in error
    assert f"in the forward pass of {OUTER}" in error
    train(found, "")  # and to its end, where nothing is wrong any more


def test_a_backward_pass_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, OUTER, lambda forward, x: forward(Poison.apply(x)))
    error = diverged(tmp_path, "debug=nan")
    assert "the gradient's norm is nan at step 2" in error or "the gradient's norm is inf at step 2" in error
    assert f"in the backward pass of {OUTER}, which read " in error


def test_the_rank_that_has_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_the_second_rank(forward: Any, *args: Any) -> Any:
        return forward(*args) * (torch.nan if torch.distributed.get_rank() else 1.0)

    spoil(monkeypatch, NORM, on_the_second_rank)
    error = diverged(tmp_path, "debug=nan", "hardware=ddp_cpu")
    assert f"in the forward pass of {NORM}" in error
    assert error.endswith("(rank 1)")


def test_rows_are_named_where_the_first_axis_is_the_batch() -> None:
    model = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 2)})
    nn.init.ones_(model["first"].weight)  # type: ignore[arg-type]
    x = torch.randn(5, 4)
    x[3] = 3e38
    watch = Watch(model, rows=5)
    with watch.watching():
        model["second"](model["first"](x))
    assert watch.first is not None
    assert watch.first.where == "the forward pass of first"
    assert watch.first.rows == [3]


def test_the_code_between_modules_and_a_mask_of_minus_infinity() -> None:
    class Masked(nn.Module):
        def __init__(self, fill: float) -> None:
            super().__init__()
            self.first, self.second, self.fill = nn.Linear(3, 3), nn.Linear(3, 3), fill

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x) * self.fill)

    class Whole(nn.Module):
        def __init__(self, fill: float) -> None:
            super().__init__()
            self.inner = Masked(fill)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).masked_fill(x > 0, -torch.inf)

    for fill, where in ((torch.nan, "inner, before it calls inner.second"), (1.0, None)):
        root = nn.ModuleDict({"whole": Whole(fill)})
        watch = Watch(root["whole"], rows=2)
        with watch.watching():
            root["whole"](torch.randn(2, 3)).softmax(-1)
        assert (watch.first.where if watch.first else None) == where


def test_values_in_words() -> None:
    assert describe(torch.tensor([[1.0, torch.nan], [-2.0, torch.inf]])) == (
        "1 nan and 1 inf of 4 values (float32, 2 x 2; the others -2 to 1, mean -0.5)"
    )
