"""An exponential moving average of the weights: its rule, what is evaluated and kept, and that training does not notice it."""

import json
from pathlib import Path

import pytest
import torch

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.models.weights import read_checkpoint, read_pickle
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from ..forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=48", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "model.n_heads=2", "model.dropout=0", "model.attention_dropout=0"),
    *("recipe.batch_size=8", "recipe.epochs=1", "recipe.lr=1e-2", "task.max_len=24", "trainer.limit_test_batches=1"),
    *("trainer.log_every=1", "trainer.keep_optimizer=true", "hardware.threads=1", "hardware=cpu"),
]  # fmt: skip
STEPS = 6


def run(outputs: Path, *overrides: str) -> Path:
    with forked_ranks():
        train(compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides]), "")
    return next(outputs.rglob("result.json")).parent


def curve(folder: Path) -> list[tuple[int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A run without an average, and its weights before the first step and after each."""
    seen: list[dict[str, torch.Tensor]] = []

    def record(self: StepLogger, trainer: object, module: torch.nn.Module, *rest: object) -> None:
        seen.append({name: p.detach().clone() for name, p in module.named_parameters()})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", record)
        folder = run(tmp_path_factory.mktemp("plain") / "out", "task.splits.validation=null")
    last = weights(folder, "last")
    return folder, [*seen, {name: last[name] for name in seen[0]}]


def averaged(states: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    """By the definition, in double precision."""
    average = {name: tensor.double() for name, tensor in states[0].items()}
    for t, state in enumerate(states[1:], start=1):
        d = min(decay, (1 + t) / (10 + t))
        average = {name: d * average[name] + (1 - d) * tensor.double() for name, tensor in state.items()}
    return average


@pytest.mark.parametrize("hardware", [("hardware=cpu", "hardware.micro_batch=3"), ("hardware=ddp_cpu",)])
@pytest.mark.parametrize("decay", [0.3, 0.999])  # above and below what the number of steps allows
def test_the_average_is_that_of_the_rule_and_the_training_does_not_notice(
    tmp_path: Path,
    plain: tuple[Path, list[dict[str, torch.Tensor]]],
    decay: float,
    hardware: tuple[str, ...],
) -> None:
    folder, states = plain
    assert len(states) == STEPS + 1
    with_average = run(tmp_path / "out", f"recipe.ema={decay}", "task.splits.validation=null", *hardware)
    assert curve(with_average) == [pytest.approx(point, rel=1e-4) for point in curve(folder)]
    kept = weights(with_average, "best")  # of a run without a dev set too
    for name, tensor in averaged(states, decay).items():
        torch.testing.assert_close(kept[name], tensor.float(), rtol=1e-3, atol=1e-5, msg=name)
        torch.testing.assert_close(
            weights(with_average, "last")[name], states[-1][name], rtol=1e-3, atol=1e-5, msg=name
        )


def test_the_dev_scores_and_the_best_checkpoint_are_of_the_average(tmp_path: Path) -> None:
    words = ("recipe.epochs=2", "recipe.ema=0.5", "task.splits.test=null")
    folder = run(tmp_path / "out", *words)
    last = read_pickle(folder / "checkpoints" / "last.ckpt")
    (state,) = (each for key, each in last["callbacks"].items() if key.startswith("WeightAverage"))
    assert state["updates"] == 2 * STEPS
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    in_fit = {line["step"]: line for line in read_metrics(folder / "metrics.jsonl") if "val/score" in line}
    evaluated = run(tmp_path / "evaluated", f"init_from={folder}", "task.splits.train=null", "task.splits.test=null")
    scores = json.loads((evaluated / "result.json").read_text())["metrics"]
    assert scores["val/loss"] == pytest.approx(in_fit[best["global_step"]]["val/loss"], rel=1e-6)
    assert any(not torch.equal(best["state_dict"][name], tensor) for name, tensor in last["state_dict"].items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe.average=2"], "recipe.ema=0.9 and recipe.average=2: two averages of the weights; leave one out"),
        (["hardware=fsdp_cpu"], "recipe.ema=0.9 keeps whole weights, which hardware.fully_shard divides: hardware=ddp"),
        (["recipe.ema=1"], "recipe.ema=1"),
    ],
)
def test_what_does_not_go_with_it(words: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace(".", r"\.")):
        compose(["model=bert", "task=glue/mrpc", "recipe.ema=0.9", *words])
