"""The language model against `transformers` and plain formulas; micro-batches; what a validation says; whole runs."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from protoformer.batches import LanguageBatch
from protoformer.config.compose import compose
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, decode_dummies
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.modules.evaluation import gather_examples
from protoformer.modules.kinds.language_modeling import LanguageModule
from protoformer.optim.optimization import Optimization
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.samples import read_samples
from protoformer.training.run import train

SIZES: dict[str, Any] = {
    "vocab_size": 50, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 48, "max_seq_len": 24, "norm": "pre",
}  # fmt: skip
VAL: Any = {"val": [""], "test": []}


class Letters:
    """A vocabulary of letters."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[ord(letter) - 96 for letter in text] for text in texts]

    def ids_without_token(self, rows: int) -> set[int]:
        return set()

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(96 + number) for number in ids)


class Text:
    bytes_per_token, tokenizer, end_id = 4.0, Letters(), 0


class Rows:
    """Blocks drawn by their numbers, of unequal length; a filler tells nothing."""

    def __call__(self, indices: list[int]) -> LanguageBatch:
        numbers, real = decode_dummies(indices)
        ids, targets = torch.zeros(len(numbers), 16, dtype=torch.long), torch.full((len(numbers), 16), -1)
        mask = torch.zeros(len(numbers), 16, dtype=torch.bool)
        for row, number in enumerate(numbers):
            draw = np.random.default_rng(number)
            length = 1 + (5 * number) % 16
            text = torch.from_numpy(draw.integers(0, 50, size=length + 1))
            ids[row, :length], mask[row, :length] = text[:-1], True
            if real[row]:
                targets[row, :length] = text[1:]
        numbered = torch.tensor([number if counts else -1 for number, counts in zip(numbers, real, strict=True)])
        return LanguageBatch(ids=ids, padding_mask=mask, target_ids=targets, example_ids=numbered)


def module(packing: Any = "auto", **changes: Any) -> LanguageModule:
    torch.manual_seed(0)
    backbone = gpt(**{**SIZES, "dropout": 0.0, "packing": packing, "init_std": 0.2})
    ours = LanguageModule(backbone=backbone, splits=VAL, **changes)
    ours.references = {"val": {"": Text()}}
    return ours


@pytest.mark.parametrize("packing", ["on", "off"])
def test_the_loss_is_that_of_transformers(packing: str) -> None:
    ours = module(packing)
    layout = Gpt2Weights()
    config = transformers.GPT2Config(**{
        k: v for k, v in layout.hf_config("causal_lm", {**SIZES, "dropout": 0.0}).items() if k != "architectures"
    })  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.load_state_dict(layout.to_hf("causal_lm", ours.backbone.state_dict(), {}), strict=False)
    text = torch.randint(0, 50, (3, 17))
    batch = LanguageBatch(
        ids=text[:, :-1],
        padding_mask=torch.ones(3, 16, dtype=torch.bool),
        target_ids=text[:, 1:],
        example_ids=torch.arange(3),
    )
    loss = ours.loss(batch)
    assert loss.targets == 48
    torch.testing.assert_close(loss.total / 48, theirs(input_ids=text, labels=text).loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packing", ["on", "off"])
def test_padding_and_fillers_count_nowhere(packing: str) -> None:
    ours = module(packing)
    batch = Rows()([3, 1, -1 - 2])
    loss = ours.loss(batch)
    expected = []
    for number in (3, 1):
        alone = Rows()([number])
        length = int(alone["padding_mask"].sum())
        hidden = ours.backbone(alone["ids"][:, :length], alone["padding_mask"][:, :length]).to_padded()
        logits = ours.backbone.logits(hidden)[0]
        expected.append(functional.cross_entropy(logits, alone["target_ids"][0, :length], reduction="sum"))
    assert loss.targets == 16 + 6
    torch.testing.assert_close(loss.total, sum(expected), atol=1e-4, rtol=1e-5)


class Gradients(pl.Callback):
    def __init__(self) -> None:
        self.steps: list[tuple[float, dict[str, Tensor]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step > len(self.steps):
            grads = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}
            self.steps.append((pl_module.step_metrics.loss, grads))


def fitted(micro: int | None) -> list[tuple[float, dict[str, Tensor]]]:
    ours = module(optimization=Optimization(lr=1e-3, clip=0.5))
    ours.connect(total_steps=3)
    batching = BatchConfig(8, micro, seed=1)
    loader = BatchLoader(MicroBatchSampler(np.ones(21, dtype=int), batching, shuffle=True), Rows())
    recorder = Gradients()
    pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=batching.accumulation, callbacks=[recorder],
    ).fit(ours, loader)  # fmt: skip
    return recorder.steps


@pytest.mark.parametrize("micro", [1, 3, 4])
def test_micro_batches_equal_the_whole_batch_though_their_tokens_are_unequal(micro: int) -> None:
    whole, parts = fitted(None), fitted(micro)
    assert len(whole) == len(parts) == 3
    for (loss, gradients), (part_loss, part_gradients) in zip(whole, parts, strict=True):
        assert part_loss == pytest.approx(loss, rel=1e-5)
        assert gradients.keys() == part_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(part_gradients[name], gradient, atol=1e-6, rtol=1e-4)


def test_a_validation_says_loss_perplexity_and_bits_per_byte_of_every_token_once() -> None:
    ours = module(sample_tokens=0).eval()
    with torch.no_grad():
        parts = [ours.eval_step(Rows()(rows)) for rows in ([3, 1], [0, 2, -1 - 5], [4], [-1 - 0])]
        everything = ours.loss(Rows()(list(range(5))))
    evaluation = ours.evaluate("val", "", gather_examples(parts, 1))
    loss = float(everything.total / everything.targets)
    assert evaluation.scores == {"token_probability": pytest.approx(math.exp(-loss))}
    sums = evaluation.example_sums()
    assert list(evaluation.example_ids()) == [0, 1, 2, 3, 4]
    assert sum(sums["tokens"]) == float(everything.targets)
    assert -sum(sums["log_likelihood"]) == pytest.approx(float(everything.total), rel=1e-5)
    assert dict(evaluation.other_metrics) == pytest.approx(
        {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": loss / math.log(2) / 4.0}
    )
    assert list(evaluation.rows()) == []


def test_several_rows_of_a_block_are_summed() -> None:
    ours = module().eval()
    batch = Rows()([3, 1, 2])
    batch["example_ids"] = torch.tensor([9, 4, 9])
    with torch.no_grad():
        ids, sums = ours.eval_step(batch)
        alone = [ours.loss(Rows()([number])) for number in (3, 1, 2)]
    assert ids.tolist() == [4, 9]
    assert sums[:, 1].tolist() == [6, 16 + 11]
    assert sums[1, 0] == pytest.approx(float(alone[0].total + alone[2].total), rel=1e-5)


def test_samples_are_drawn_from_the_model_the_same_every_time() -> None:
    ours = module(prompts=["", "ab"], sample_tokens=5)
    ours.train()
    before = torch.random.get_rng_state()
    first, again = ours.samples(Text()), ours.samples(Text())
    assert first == again
    assert [sample.prompt for sample in first] == ["", "ab"]
    assert all(len(sample.text) <= 5 for sample in first)  # a text may end at once
    assert any(sample.text for sample in first)
    assert torch.equal(torch.random.get_rng_state(), before)  # or a run that goes on would draw other dropout
    assert ours.training
    with torch.no_grad():
        ours.backbone.embeddings.token.weight.mul_(-1.0)
    assert ours.samples(Text()) != first


def test_an_encoder_is_no_language_model() -> None:
    sizes = {k: v for k, v in SIZES.items() if k != "norm"}
    with pytest.raises(ConfigurationError, match="decoder"):
        LanguageModule(backbone=bert(**sizes), splits=VAL)
    with pytest.raises(ConfigurationError, match="sample_tokens"):
        module(sample_tokens=-1)


# --- a whole run

RUN = [
    "model=gpt2_tiny", "task=pretrain/clm", "source=sample", "source.rows=60", "tracking=none", "model.d_model=16",
    "model.d_ff=32", "recipe.batch_size=8", "recipe.max_steps=7", "recipe.epochs=null", "recipe.warmup=2", "recipe.lr=3e-3",
    "task.max_len=24", "task.data.held_out=0.2", "task.module.sample_tokens=6", "trainer.val_check_interval=3",
    "trainer.log_every=1", "trainer.checkpoint_every=1", "trainer.keep_optimizer=true",
    "hardware.threads=1", "hardware.micro_batch=3",
]  # fmt: skip
SPEEDS = ("time", *(f"train/{name}" for name in ("examples_per_s", "tokens_per_s", "flops_per_s", "mfu", "data_wait")))


def config(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose([*RUN, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides])


def only_run(outputs: Path) -> Path:
    return next(outputs.glob("*/pretrain/clm/*/config.yaml")).parent


def what_counts(run: Path) -> dict[str, Any]:
    lines = [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(run / "metrics.jsonl")]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    state = weights.read_pickle(run / "checkpoints" / "last.ckpt")["state_dict"]
    return {
        "lines": lines,
        "samples": read_samples(run / "samples.jsonl"),
        "result": {key: result[key] for key in ("score", "metrics", "best", "run_id")},
        "weights": {name: tensor.tolist() for name, tensor in state.items()},
    }


def test_a_run_writes_samples_and_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: dict[int, Path] = {}
    save = pl.Trainer.save_checkpoint

    def save_and_keep(self: pl.Trainer, path: Any, *args: Any, **kwargs: Any) -> None:
        save(self, path, *args, **kwargs)
        if Path(path).name == "last.ckpt" and self.global_step not in folders:
            folders[self.global_step] = tmp_path / f"folder-{self.global_step}"
            shutil.copytree(Path(path).parents[1], folders[self.global_step], ignore=shutil.ignore_patterns("lock"))

    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "save_checkpoint", save_and_keep)
        train(config(tmp_path / "whole"), "")
    whole = only_run(tmp_path / "whole")
    expected = what_counts(whole)
    assert {sample["step"] for sample in expected["samples"]} == {3, 6, 7}
    validated = [line for line in expected["lines"] if "val/score" in line]
    assert {"val/loss", "val/perplexity", "val/bits_per_byte"} <= set(validated[0])
    assert validated[-1]["val/loss"] < validated[0]["val/loss"]
    for step in (2, 5):
        outputs = tmp_path / f"again-{step}"
        shutil.copytree(folders[step], outputs / whole.relative_to(tmp_path / "whole"))
        train(config(outputs), "")
        assert what_counts(only_run(outputs)) == expected, f"continued from step {step}"


def test_a_run_starts_a_classifier_whose_texts_have_three_more_tokens(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    train(config(outputs, "recipe.max_steps=2"), "")
    run = only_run(outputs)
    body = weights.read_pickle(run / "checkpoints" / "best.ckpt")["state_dict"]["backbone.embeddings.token.weight"]
    overrides = [word for word in RUN if not word.startswith(("task", "recipe", "trainer"))]
    more = [
        f"init_from={run}", "task=glue/sst2", "task.max_len=24", "recipe.epochs=1", "recipe.max_steps=1",
        "recipe.batch_size=4", "recipe.lr=0.0001", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
        f"paths.outputs={outputs}", f"paths.cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    train(compose([*overrides, *more]), "")
    (state,) = [weights.read_pickle(path)["state_dict"] for path in outputs.glob("*/glue/sst2/*/checkpoints/best.ckpt")]
    grown = state["backbone.embeddings.token.weight"]
    assert len(grown) >= len(body)
    torch.testing.assert_close(grown[: len(body)], body, atol=1e-3, rtol=0)  # one small step away
