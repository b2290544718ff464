"""Sharded training on two gloo ranks: the numbers of one process, checkpoints that any hardware continues, refusals."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
from torch import distributed

import protoformer
from protoformer.cli import main
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, DiskFullError, InterruptedRunError, LostRankError
from protoformer.models.weights import read_checkpoint
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train
from protoformer.training.sharding import checkpoints as sharded_checkpoints

from ..forked_ranks import forked_ranks

COMMON = (
    "source=sample",
    "init_from=scratch",
    "tracking=none",
    "model.dropout=0",
    "recipe.lr=3e-3",
    "recipe.warmup=0",
    "recipe.clip=0.05",  # below the norm of most gradients, so that most steps are clipped
    "trainer.log_every=1",
    "trainer.keep_optimizer=true",
    "hardware.threads=1",
)
GPT2 = ("model=gpt2_tiny", "task=pretrain/clm", "recipe.batch_size=8", "task.max_len=32", "task.module.sample_tokens=4")
BERT = ("model=bert_l2_h128", "model.d_model=16", "model.d_ff=32", "task.max_len=24", "model.attention_dropout=0")
MRPC = (
    *BERT,
    "task=glue/mrpc",
    "source.rows=60",
    "recipe.batch_size=16",
    "recipe.epochs=5",
)  # 4 batches, the last of 12 rows
MLM = (*BERT, "task=pretrain/mlm_nsp", "recipe.batch_size=12")
KINDS = {
    "gpt2": GPT2,
    "bert": (*MRPC, "hardware.micro_batch=3"),  # 3 micro-batches a rank, the last with empty rows
    "mlm": MLM,
}


def run(outputs: Path, hardware: str, *overrides: str) -> Path:
    """Train, and give the run folder."""
    paths = [f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]
    with forked_ranks():
        train(compose([*COMMON, *overrides, f"hardware={hardware}", *paths]), "")
    return next(outputs.rglob("result.json")).parent


def curve(folder: Path) -> list[list[float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [[line["train/loss"], line["train/grad_norm"]] for line in lines if "train/loss" in line]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def last(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("steps", [4, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["gpt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("bert", "mlm"))])
def test_two_ranks_that_share_the_weights_train_as_one_process(tmp_path: Path, kind: str, steps: int) -> None:
    overrides = (*KINDS[kind], f"recipe.max_steps={steps}")
    whole, sharded = (run(tmp_path / name, name, *overrides) for name in ("cpu", "fsdp_cpu"))
    assert curve(sharded) == [pytest.approx(step, rel=2e-4) for step in curve(whole)]
    assert len(curve(whole)) == steps
    assert sum(norm > 0.05 for _, norm in curve(whole)) > steps / 2
    expected, actual = last(whole), last(sharded)
    for name, tensor in expected["state_dict"].items():
        torch.testing.assert_close(actual["state_dict"][name], tensor, rtol=1e-3, atol=2e-4, msg=name)
    assert expected["optimizer_states"][0]["state"].keys() == actual["optimizer_states"][0]["state"].keys()
    assert result(sharded)["parameters"] == result(whole)["parameters"]
    assert result(sharded)["metrics"] == pytest.approx(result(whole)["metrics"], rel=1e-2)
    shards = sorted(path.name for path in (sharded / "checkpoints" / "shards").glob("last-*/*"))
    assert [name.partition("-model")[0] for name in shards] == ["checksums.json", "shard-00001", "shard-00002"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=rnn", "task=glue/mrpc"), "cannot divide recurrent layers: hardware=ddp"),
        ((*BERT, "task=glue/mrpc", "recipe.optimizer=lamb"), "has no recipe.optimizer=lamb: adamw or sgd"),
        ((*BERT, "task=glue/mrpc", "recipe.optimizer=adafactor"), "has no recipe.optimizer=adafactor: adamw or sgd"),
        (
            (*BERT, "task=glue/mrpc", "hardware.precision=fp16"),
            "hardware.precision=fp16 is not supported",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_in_one_line(
    tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(tmp_path / "out", "fsdp_cpu", *overrides, "source.rows=60")


FOUR_STEPS = ("recipe.max_steps=4", "trainer.checkpoint_every=1")
DROPOUT = ("model.dropout=0.1",)


def run_until_killed(outputs: Path, hardware: str, step: int, *overrides: str) -> None:
    """As `run`; the first rank is killed when it has written the shards of this step's `last.ckpt`, and not yet the file."""
    write = sharded_checkpoints.write_checkpoint

    def killed(content: Any, path: Path) -> None:
        if content["global_step"] == step and path.name == "last.ckpt":
            os.kill(os.getpid(), signal.SIGKILL)
        write(content, path)

    with mock.patch.object(sharded_checkpoints, "write_checkpoint", killed), pytest.raises(LostRankError):
        run(outputs, hardware, *overrides)


def run_until_stopped(outputs: Path, hardware: str, step: int, *overrides: str) -> None:
    """As `run`, up to this step, as after a signal."""

    def stop(self: StepLogger, trainer: Any, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step >= step - 1)

    with mock.patch.object(StepLogger, "on_train_batch_start", stop, create=True), pytest.raises(InterruptedRunError):
        run(outputs, hardware, *overrides)


def test_a_killed_run_continues_to_the_bit(tmp_path: Path) -> None:
    overrides = (*GPT2, *FOUR_STEPS, *DROPOUT)
    whole = run(tmp_path / "whole", "fsdp_cpu", *overrides)
    run_until_killed(tmp_path / "killed", "fsdp_cpu", 3, *overrides)
    again = run(tmp_path / "killed", "fsdp_cpu", *overrides)
    assert curve(again) == curve(whole)
    expected, actual = last(whole), last(again)
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, actual["state_dict"][name]), name
    for index, state in expected["optimizer_states"][0]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, actual["optimizer_states"][0]["state"][index][name]), (index, name)
    names = {path.name for path in (again / "checkpoints" / "shards").iterdir()}
    assert names == {"best-000000004", "last-000000004"}  # what the killed process left is gone


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1])
def test_a_full_disk_of_any_rank_leaves_the_checkpoint_before(tmp_path: Path, where: int) -> None:
    """A limit on the size of files stands for a full disk, in the second checkpoint of one rank."""
    overrides, written = (*MRPC, *FOUR_STEPS), []
    write = sharded_checkpoints.write_shards

    def limited(*arguments: Any) -> None:
        written.append(arguments)
        if len(written) == 2 and distributed.get_rank() == where:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # of this forked rank alone
        try:
            write(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    patched = mock.patch.object(sharded_checkpoints, "write_shards", limited)
    with patched, pytest.raises(DiskFullError, match=r"last\.ckpt: no space left .* the same command continues"):
        run(tmp_path / "out", "fsdp_cpu", *overrides)
    (before,) = (tmp_path / "out").rglob("last.ckpt")
    assert read_checkpoint(before)["global_step"] == 1
    assert not list((tmp_path / "out").rglob(".*.part"))
    again = run(tmp_path / "out", "fsdp_cpu", *overrides)
    assert len(curve(again)) == 4


@pytest.mark.slow
def test_a_damaged_shard_is_skipped_for_the_checkpoint_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    overrides = (*MRPC, *FOUR_STEPS)
    whole = run(tmp_path / "whole", "fsdp_cpu", *overrides)
    run_until_stopped(tmp_path / "again", "fsdp_cpu", 3, *overrides)
    shards = sorted((tmp_path / "again").rglob("shards/last-000000003/*.safetensors"))
    content = bytearray(shards[1].read_bytes())
    content[-5] ^= 1
    shards[1].write_bytes(content)
    again = run(tmp_path / "again", "fsdp_cpu", *overrides)
    assert "shard-00002" in caplog.text
    assert "continuing from the one before" in caplog.text
    assert curve(again) == curve(whole)
    for name, tensor in last(whole)["state_dict"].items():
        assert torch.equal(tensor, last(again)["state_dict"][name]), name


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("fsdp_cpu", "cpu"),
        pytest.param("cpu", "fsdp_cpu", marks=pytest.mark.slow),
        pytest.param("fsdp_cpu", "ddp_cpu", marks=pytest.mark.slow),
        pytest.param("ddp_cpu", "fsdp_cpu", marks=pytest.mark.slow),
    ],
)
def test_other_hardware_continues(tmp_path: Path, first: str, second: str) -> None:
    overrides = (*MRPC, *FOUR_STEPS)
    whole = run(tmp_path / "whole", "cpu", *overrides)
    run_until_stopped(tmp_path / "again", first, 2, *overrides)
    again = run(tmp_path / "again", second, *overrides)
    assert curve(again) == [pytest.approx(step, rel=2e-4) for step in curve(whole)]
    assert result(again)["hardware"]["ranks"] == (1 if second == "cpu" else 2)
    for name, tensor in last(whole)["state_dict"].items():
        torch.testing.assert_close(last(again)["state_dict"][name], tensor, rtol=1e-3, atol=2e-4, msg=name)
    assert (again / "checkpoints" / "shards").exists() == ("fsdp_cpu" in (first, second))


def test_a_sharded_run_is_opened_and_exported_by_one_process(tmp_path: Path) -> None:
    views = ("views.attention=true", "task.probes=[glue/sst2]", "task.probe_rows=8", "task.probe_train_rows=12")
    trained = run(tmp_path / "out", "fsdp_cpu", *GPT2, "recipe.max_steps=2", "trainer.keep_optimizer=false", *views)
    assert not (trained / "checkpoints" / "last.ckpt").exists()
    assert [path.name for path in (trained / "checkpoints" / "shards").iterdir()] == ["best-000000002"]
    assert (trained / "attention.html").exists()
    assert len((trained / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert result(trained)["probes"]["glue/sst2"]["steps"] == [0, 2]
    assert main(["export", str(trained), "--to", "hf", str(tmp_path / "hf")]) == 0
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not report["missing_keys"]
    ours = protoformer.load(trained).model.backbone
    ids = torch.arange(20)[None]
    with torch.no_grad():
        hidden = ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()
        torch.testing.assert_close(ours.logits(hidden), theirs.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    assert main(["generate", str(trained), "--prompt", "the", "--max-new", "4"]) == 0
    assert main(["attention", str(trained), "--text", "the cat sees", "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_translation_decodes_and_averages_as_one_process(tmp_path: Path) -> None:
    overrides = (
        "model=transformer_tiny",
        "task=translate/multi30k_de_en",
        "source.rows=40",
        "recipe.batch_size=8",
        "recipe.batching=random",
    )
    overrides += ("recipe.max_steps=4", "recipe.average=2", "recipe.average_every=2", "recipe.label_smoothing=0.1")
    whole, sharded = (run(tmp_path / name, name, *overrides) for name in ("cpu", "fsdp_cpu"))
    assert curve(sharded) == [pytest.approx(step, rel=1e-3) for step in curve(whole)]
    assert result(sharded)["averaged"] == result(whole)["averaged"] == [2, 4]
    assert result(sharded)["metrics"] == pytest.approx(result(whole)["metrics"], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("hardware", ["cpu", pytest.param("fsdp_cpu", marks=pytest.mark.slow)])
def test_layers_that_are_computed_again_give_the_same_bits(tmp_path: Path, hardware: str) -> None:
    """Dropout on: its masks are drawn again alike."""
    overrides = (*MRPC, "recipe.max_steps=2", *DROPOUT)
    kept = run(tmp_path / "kept", hardware, *overrides)
    again = run(tmp_path / "again", hardware, *overrides, "hardware.checkpoint_activations=true")
    assert curve(again) == curve(kept)
    for name, tensor in last(kept)["state_dict"].items():
        assert torch.equal(tensor, last(again)["state_dict"][name]), name


@pytest.mark.slow
def test_bf16_is_that_of_autocast_to_its_precision(tmp_path: Path) -> None:
    overrides = (*GPT2, "recipe.max_steps=4", "hardware.precision=bf16")
    whole, sharded = (run(tmp_path / name, name, *overrides) for name in ("cpu", "fsdp_cpu"))
    assert curve(sharded) == [pytest.approx(step, rel=2e-2) for step in curve(whole)]
    assert {tensor.dtype for tensor in last(sharded)["state_dict"].values()} == {torch.float32}
