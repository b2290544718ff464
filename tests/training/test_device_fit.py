"""What a run on a GPU is given where nothing is typed, and the line it ends with where memory runs out."""

import gc
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.assembly.build import build
from protoformer.config.compose import compose
from protoformer.data.batching.samplers import BatchConfig
from protoformer.distributed import memory as process_memory
from protoformer.distributed.devices import default_workers
from protoformer.errors import DeviceMemoryError
from protoformer.modules.task_module import TaskModule
from protoformer.planning.micro_batch import USABLE, row_memory
from protoformer.training import device_fit
from protoformer.training.device_fit import fit_to_device, loss_divisor, out_of_memory_advice
from protoformer.training.run import train

WORDS = [
    "model=bert_l2_h128", "task=glue/rte", "source=sample", "source.rows=40", "init_from=scratch", "tracking=none",
    "model.d_model=16", "model.d_ff=32", "recipe.batch_size=32", "trainer.max_steps=2", "task.max_len=24",
    "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
]  # fmt: skip


def config(folder: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={folder}/outputs", f"paths.cache={folder}/cache", *overrides])


def test_a_gpu_gets_what_it_holds_workers_and_pinned_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_fit.log, "propagate", True)
    settings = config(tmp_path)
    parts = build(settings)
    memory = row_memory(parts.model.in_config(settings), parts.model.arguments, parts.data.max_len)
    fit_to_device(parts, "cpu")
    assert parts.data.batch_config == BatchConfig(32, seed=42, order=parts.data.batch_config.order)
    with caplog.at_level(logging.INFO, logger=device_fit.log.name):
        fit_to_device(parts, "gpu", device_bytes=int((memory.fixed + 13 * memory.per_row) / USABLE))
    fitted = parts.data.batch_config
    assert fitted.pin_memory
    assert fitted.for_evaluation().pin_memory
    assert (fitted.micro_batch, fitted.accumulation) == (11, 3)
    assert "hardware.micro_batch=11: a batch of 32 rows in 3 micro-batches a GPU" in caplog.text
    fit_to_device(parts, "gpu", device_bytes=2)  # a micro-batch that is set already stays
    assert parts.data.batch_config.micro_batch == 11


def test_a_run_whose_labels_are_found_in_its_data(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("review,sentiment\n" + "a cat sat,good\na dog ran,bad\na cow ate,neither\n" * 8)
    vocabulary = tmp_path / "vocab.txt"
    words = ["a", "cat", "sat", "good", "dog", "ran", "bad", "cow", "ate"]
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    own = ("task=classify", "source=local", f"source.root={file}", "task.rows.text=review", "task.rows.label=sentiment")
    others = [word for word in WORDS if not word.startswith(("task=", "source"))]
    parts = build(compose([*others, *own, f"model.tokenizer={vocabulary}", f"paths.cache={tmp_path}/cache"]))
    fit_to_device(parts, "gpu", device_bytes=2)
    assert parts.data.batch_config.micro_batch == 1


def test_what_is_typed_stays(tmp_path: Path) -> None:
    settings = config(tmp_path, "hardware.micro_batch=16", "hardware.workers=0")
    parts = build(settings)
    fit_to_device(parts, "gpu", device_bytes=2)
    assert (parts.data.batch_config.micro_batch, parts.data.batch_config.workers) == (16, 0)


@pytest.mark.parametrize(("cores", "ranks", "workers"), [(16, 1, 4), (16, 8, 1), (8, 8, 0), (1, 1, 0), (4, 8, 0)])
def test_workers_of_a_gpu_leave_each_rank_a_core(cores: int, ranks: int, workers: int) -> None:
    assert default_workers("gpu", cores, ranks) == workers
    assert default_workers("cpu", cores, ranks) == 0


@pytest.mark.parametrize(
    ("batch", "is_training", "precision", "message"),
    [
        (BatchConfig(32), True, "fp32", r"with 32 rows at once; .*hardware\.micro_batch=16$"),
        (BatchConfig(32, 5), True, "bf16", r"with 5 rows at once; .*hardware\.micro_batch=3$"),
        (BatchConfig(25_000, order="tokens"), True, "bf16", r"with 25000 tokens .*hardware\.micro_batch=12500$"),
        (BatchConfig(32, 1), True, "fp32", r"1 row at once; hardware\.precision=bf16, a smaller task\.max_len"),
        (BatchConfig(32), False, "bf16", r"64 rows of an evaluation at once; a smaller task\.max_len"),
    ],
)
def test_the_line_says_what_to_set(batch: BatchConfig, is_training: bool, precision: str, message: str) -> None:
    assert re.search(message, f"with {out_of_memory_advice(batch, is_training, precision)}")


def test_a_run_out_of_memory_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: Any, batch: Any, batch_idx: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(TaskModule, "training_step", no_room)
    with pytest.raises(DeviceMemoryError, match=r"with 8 rows at once; .*hardware\.micro_batch=4") as caught:
        train(config(tmp_path, "hardware=cpu", "hardware.micro_batch=8"), "")
    assert caught.value.__cause__ is None


def test_the_loss_divisor_is_the_number_of_targets_of_a_micro_batch(tmp_path: Path) -> None:
    module = build(config(tmp_path)).module
    assert loss_divisor(module, BatchConfig(32), 24, "bf16") == 1
    assert loss_divisor(module, BatchConfig(32), 24, "fp16") == 32
    assert loss_divisor(module, BatchConfig(32, 11), 24, "fp16") == 8  # the nearest power of two
    module.expected_targets = lambda rows, seq: rows * seq  # type: ignore[method-assign]
    assert loss_divisor(module, BatchConfig(25_000, order="tokens"), 100, "fp16") == 2**15


@pytest.mark.usefixtures("whole_runs")
def test_frozen_garbage_is_collected_again_after_a_job() -> None:
    process_memory.freeze()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    process_memory.release()
    assert gc.get_freeze_count() < frozen / 20  # from Python 3.12 on immortal objects are counted as frozen
