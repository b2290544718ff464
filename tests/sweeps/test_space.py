"""Search spaces in plain values: what they hold, how a value is written on a command line, and what is refused."""

import re
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.sweeps.space import covering_points, grid, override_text, overrides_of, parse_space

PAIR = ["model=bert_l2_h128", "task=glue/rte"]


def test_a_grid_has_every_point_in_one_order() -> None:
    space = parse_space(
        {
            "recipe.lr": {"values": ["1e-3", 0.1]},
            "n": {"int": [2, 6], "step": 2},
            "p": {"uniform": [0, 0.3], "step": 0.1},
        },
        "f",
    )
    points = grid(space, "f")
    assert len(points) == 2 * 3 * 4
    assert points[0] == {"recipe.lr": "1e-3", "n": "2", "p": "0.0"}
    assert [point["p"] for point in points[:4]] == ["0.0", "0.1", "0.2", "0.3"]
    assert grid(space, "f") == points
    assert len({tuple(point.values()) for point in points}) == 24


def test_few_points_cover_every_value() -> None:
    space = parse_space(
        {"a": {"choice": [1, 2, 3]}, "b": {"choice": ["x", "y"]}, "c": {"log_uniform": ["1e-5", "1e-3"]}}, "f"
    )
    points = list(covering_points(space))
    assert len(points) == 3
    assert [{point[key] for point in points} for key in "abc"] == [{"1", "2", "3"}, {"x", "y"}, {1e-5, 1e-3}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe.lr", 3e-05),
        ("recipe.epochs", 3),
        ("recipe.epochs", None),
        ("trainer.deterministic", True),
        ("task.rows.labels", ["not entailment", "entailment"]),
        ("tracking.project", "it's a test, with marks: #1"),
        ("tracking.tags", ["1", "null", "a\\"]),
        ("tracking.project", "null"),
    ],
)
def test_a_value_arrives_as_it_was(key: str, value: object) -> None:
    """Through Hydra's own parser."""
    config: Any = compose([*PAIR, *(["recipe.max_steps=5"] if value is None else []), f"{key}={override_text(value)}"])
    for part in key.split("."):
        config = config[part]
    assert config == value


def test_a_mapping_and_a_reference_are_written_as_hydra_reads_them() -> None:
    assert override_text({"mask": 0.8, "random": 0.1}) == "{mask:0.8,random:0.1}"
    assert override_text("${variant.lr}") == "${variant.lr}"
    assert overrides_of({"recipe.lr": 0.001, "variant": "{n_heads:1}"}) == ["recipe.lr=0.001", "variant={n_heads:1}"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ([1, 2], "[1,2] is no range; write {choice: [1,2]}"),
        (3, "3 is no range; write one of {choice: [16, 32]}"),
        ({"log_uniforn": [1, 2]}, "log_uniforn: no such range; did you mean log_uniform?"),
        ({"choice": [1], "int": [1, 2]}, "one of choice, values, uniform, log_uniform, int, log_int is needed, not 2"),
        ({"choice": []}, "choice: [] is not a list of values"),
        ({"choice": [1, 2, 1]}, "1 stands there twice"),
        ({"choice": [1, 2], "step": 1}, "step belongs to int or uniform, not to choice"),
        ({"uniform": [1, 2, 3]}, "a lower and an upper end, as in uniform: [1, 8]; found 3"),
        ({"uniform": [2, 1]}, "uniform: [2, 1]: the lower end must be below the upper one"),
        ({"log_uniform": [0, 1]}, "the lower end must be above 0 and below the upper one"),
        ({"int": [1, 2.5]}, "2.5 is not a whole number"),
        ({"uniform": ["a", 2]}, "a is not a number"),
        ({"int": [1, 4], "step": 9}, "step=9 must be above 0 and at most 3"),
        ({"log_int": [1, 4], "step": 1}, "a logarithmic range has no step"),
    ],
)
def test_what_is_no_range_is_one_line(node: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^s\.yaml: space: lr: .*{re.escape(message)}"):
        parse_space({"lr": node}, "s.yaml")


@pytest.mark.parametrize("node", [{"uniform": [0, 1]}, {"log_uniform": [0.1, 1]}, {"log_int": [1, 8]}])
def test_a_grid_refuses_a_continuous_range(node: object) -> None:
    with pytest.raises(ConfigurationError, match="has no finite number of values for method: grid; list them"):
        grid(parse_space({"lr": node}, "s.yaml"), "s.yaml")
