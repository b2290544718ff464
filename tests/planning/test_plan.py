"""The plan of a run: its counts, and that nothing is fetched, read or allocated for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.planning.plan import plan, print_plan

ROOT = Path(__file__).parents[2]


def test_counts_of_bert_base_on_mnli() -> None:
    made = plan(compose(["model=bert", "task=glue/mnli", "hardware=cpu"]))
    assert made.parameters == 109_482_240 + 3 * 769
    assert made.steps == 36_816  # ceil(392,702 / 32) * 3
    assert made.warmup_steps == 3_682
    assert made.weights == made.gradients == 4 * made.parameters
    assert made.optimizer == 8 * made.parameters
    assert made.rows == 32
    assert made.training_flops == pytest.approx(made.training_flops_per_token * 128 * 32 * 36_816)


def test_ranks_and_micro_batches_share_the_rows() -> None:
    words = ["model=bert_l2_h128", "task=glue/rte"]
    whole = plan(compose([*words, "hardware=cpu"]))
    ranks = plan(compose([*words, "hardware=ddp_cpu", "hardware.micro_batch=4"]))
    assert (whole.rows, ranks.rows, ranks.devices) == (32, 4, 2)
    assert whole.steps == ranks.steps == 234
    assert whole.training_flops == ranks.training_flops
    assert ranks.activations < whole.activations / 6


def test_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=gpu", "hardware.devices=8"]))
    told = capsys.readouterr().out
    for words in (
        "4,386,178",
        "memory a device",
        "activations",
        "234 (2,490 examples, 3 epochs, batch 32",
        "not estimated",
    ):
        assert words in told
    print_plan(compose(["model=bert_l2_h128", "task=glue/ax"]))
    assert "only tested" in capsys.readouterr().out
    print_plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=cpu"]))
    assert "matrix products reach here now" in capsys.readouterr().out


def test_gpus_that_nobody_can_count() -> None:
    with pytest.raises(ConfigurationError, match=r"hardware\.devices=8"):
        plan(compose(["model=bert_l2_h128", "task=glue/rte", "hardware=ddp"]))


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        (["model=bert_large", "task=glue/mnli"], 335_141_888 + 3 * 1025),
        pytest.param(["model=gpt3_175b", "task=pretrain/clm"], 174_604_259_328, marks=pytest.mark.slow),
    ],
)
def test_a_large_model_takes_no_memory(words: list[str], counted: int) -> None:
    script = (
        "import resource\n"
        "from protoformer.config.compose import compose\n"
        "from protoformer.planning.plan import plan\n"
        "import protoformer.assembly.build, torch.utils.flop_counter\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"made = plan(compose({[*words, 'hardware=cpu']}))\n"
        "print(made.parameters, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=600
    )
    parameters, grown = map(int, done.stdout.split())
    assert parameters == counted
    assert grown < 200_000  # KiB; the weights alone would take 1.3 million, or 700
