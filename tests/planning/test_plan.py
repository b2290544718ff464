"""The plan of a run: its counts, and that nothing is fetched, read or allocated for it."""

import gc
import re

import pytest

from protoformer.config.compose import compose
from protoformer.distributed import memory as process_memory
from protoformer.errors import ConfigurationError
from protoformer.planning.memory import Units, device_memory, sent_bytes
from protoformer.planning.plan import plan, print_plan
from protoformer.planning.trial_memory import trial_memory


def test_counts_of_bert_base_on_mnli() -> None:
    planned = plan(compose(["model=bert", "task=glue/mnli", "hardware=cpu"]))
    assert planned.parameters == 109_482_240 + 3 * 769
    assert planned.steps == 36_816  # ceil(392,702 / 32) * 3
    assert planned.warmup_steps == 3_682
    assert planned.memory.weights == planned.memory.gradients == 4 * planned.parameters
    assert planned.memory.optimizer == 8 * planned.parameters
    assert planned.rows == 32
    assert planned.training_flops == pytest.approx(planned.training_flops_per_token * 128 * 32 * 36_816)


def test_ranks_and_micro_batches_split_the_rows() -> None:
    overrides = ["model=bert_l2_h128", "task=glue/rte"]
    whole = plan(compose([*overrides, "hardware=cpu"]))
    ranks = plan(compose([*overrides, "hardware=ddp_cpu", "hardware.micro_batch=4"]))
    assert (whole.rows, ranks.rows, ranks.devices) == (32, 4, 2)
    assert whole.steps == ranks.steps == 234
    assert whole.training_flops == ranks.training_flops
    assert (
        ranks.memory.activations < whole.memory.activations / 5
    )  # of 8; the embeddings' gradient does not depend on rows


def test_printed_plan(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=gpu", "hardware.devices=8"]))
    printed = capsys.readouterr().out
    for line in (
        "4,386,178",
        "memory a device",
        "communication",
        "0.05 GiB with the optimizer's state",
        "activations",
        "234 (2,490 examples, 3 epochs, batch 32",
        "not estimated",
    ):
        assert line in printed
    print_plan(compose(["model=bert_l2_h128", "task=glue/ax"]))
    assert "only tested" in capsys.readouterr().out
    print_plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=cpu"]))
    assert "matrix products reach here now" in capsys.readouterr().out


def test_labels_that_only_the_data_has(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["model=bert_l2_h128", "task=classify", "source=local", "source.root=reviews.csv", "hardware=cpu"]
    config = compose([*own, "task.rows.text=review", "task.rows.label=sentiment"])
    print_plan(config)
    assert re.search(r"^parameters +4,386,178$", capsys.readouterr().out, re.MULTILINE)
    assert trial_memory(config, has_gpus=False) is not None
    print_plan(compose([*own, "task.rows.text=review", "task.rows.label=sentiment", "task.rows.labels=[a,b,c]"]))
    assert re.search(r"^parameters +4,386,307$", capsys.readouterr().out, re.MULTILINE)


def test_all_gpus_of_a_machine_without_gpus() -> None:
    with pytest.raises(ConfigurationError, match=r"hardware\.devices=8"):
        plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=ddp"]))


@pytest.mark.parametrize(
    ("overrides", "n_parameters"),
    [
        (["model=bert_large", "task=glue/mnli"], 335_141_888 + 3 * 1025),
        pytest.param(["model=gpt3_175b", "task=pretrain/clm"], 174_604_259_328, marks=pytest.mark.slow),
    ],
)
def test_a_large_model_takes_no_memory(overrides: list[str], n_parameters: int) -> None:
    plan(compose(["model=bert_l2_h128", "task=glue/mnli", "hardware=cpu"]))  # imports what a plan needs
    gc.collect()
    process_memory.begin()
    before = process_memory.peak(on_gpu=False)
    planned = plan(compose([*overrides, "hardware=cpu"]))
    assert planned.parameters == n_parameters
    assert process_memory.peak(on_gpu=False) - before < 200 * 2**20  # the weights alone would take 1.3 GB, or 700


@pytest.mark.parametrize(
    ("precision", "weights", "activations"), [("fp32", 400, 1000), ("tf32", 400, 1000), ("bf16", 600, 500)]
)
def test_memory_of_a_device_by_precision(precision: str, weights: int, activations: int) -> None:
    memory = device_memory(400, 1000, precision)
    assert (memory.weights, memory.gradients, memory.optimizer, memory.activations) == (weights, 400, 800, activations)
    assert memory.total == weights + 400 + 800 + activations


@pytest.mark.parametrize(("precision", "weights"), [("fp32", 100 + 40 + 2 * 30), ("bf16", 100 + 60 + 30)])
def test_memory_where_four_devices_divide_it(precision: str, weights: int) -> None:
    memory = device_memory(400, 1000, precision, devices=4, units=Units(root=40, layer=30))
    assert (memory.weights, memory.gradients, memory.optimizer) == (weights, 100 + 40 + 30, 200)


def test_bytes_that_a_device_sends() -> None:
    replicas = sent_bytes(400, 400, "fp32", devices=4, accumulation=2, units=None)
    assert replicas == 2 * 3 / 4 * 400  # once a step, whatever it is cut into
    divided = sent_bytes(400, 400, "fp32", devices=4, accumulation=2, units=Units(root=40, layer=30))
    assert divided == 2 * 3 / 4 * (2 * 360 + 40 + 400)
    half = sent_bytes(400, 400, "bf16", devices=4, accumulation=1, units=Units(root=40, layer=30))
    assert half == 3 / 4 * (360 + 40 + 400)


def test_plan_of_divided_weights_and_of_layers_that_are_computed_again() -> None:
    overrides = ["model=bert_l12_h128", "task=glue/rte", "hardware.accelerator=cpu", "hardware.devices=4"]
    whole, divided, again = (
        plan(compose([*overrides, *more]))
        for more in ([], ["hardware.fully_shard=true"], ["hardware.checkpoint_activations=true"])
    )
    assert divided.memory.optimizer == whole.memory.optimizer // 4
    assert divided.memory.total < whole.memory.total
    assert divided.memory.activations == whole.memory.activations
    assert again.memory.activations < whole.memory.activations / 4
    assert again.training_flops == whole.training_flops  # of the model; what is computed twice counts once
