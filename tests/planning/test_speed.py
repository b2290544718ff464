"""The time of a plan at a given speed, on cards that are not here, and speeds that cannot be."""

import pytest

from protoformer.commands.plan import main
from protoformer.errors import ConfigurationError
from protoformer.planning.speed import Speed

BF16 = {"accelerator": "gpu", "precision": "bf16", "nodes": 128}


def test_given_tokens_a_second() -> None:
    line = Speed(tokens_per_s=1000.0).time(flops=1e18, tokens=7.2e6, devices=8, hardware=BF16)
    assert line == "2 h 0 min at 1,000 tokens/s of all devices together"


def test_cards_that_are_not_here() -> None:
    line = Speed(card="H100", mfu=0.5).time(flops=989e12 * 0.5 * 1024 * 7200, tokens=1.0, devices=1024, hardware=BF16)
    assert line == "2 h 0 min on 1,024 x H100, at 50% of the 989 TFLOP/s of its data sheet in bf16"
    one = Speed(card="A100").time(
        flops=19.5e12 * 0.4 * 60, tokens=1.0, devices=1, hardware={**BF16, "precision": "fp32"}
    )
    assert one == "1 min 0 s on A100, at 40% of the 19.5 TFLOP/s of its data sheet in fp32"


def test_a_plan_for_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    hardware = ["hardware=fsdp_bf16", "hardware.nodes=4", "hardware.devices=8"]
    main(["model=gpt2_tiny", "task=pretrain/clm", *hardware], card="H100")
    printed = capsys.readouterr().out
    for text in (
        "memory a device",
        "a device sends in a step",
        "checkpoint",
        "on 32 x H100, at 40% of the 989 TFLOP/s",
    ):
        assert text in printed


@pytest.mark.parametrize(
    ("speed", "message"),
    [
        ({"card": "H1000"}, r"--card H1000: not in the list: .*H100"),
        ({"mfu": 1.5}, r"--mfu 1\.5: a fraction"),
        ({"tokens_per_s": 0.0}, r"--tokens-per-second 0: above 0"),
        ({"tokens_per_s": 1.0, "card": "H100"}, "a speed by itself"),
    ],
)
def test_speeds_that_cannot_be(speed: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        main(["model=bert_l2_h128", "task=glue/rte", "hardware=cpu"], **speed)  # type: ignore[arg-type]
