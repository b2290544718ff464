from typing import Annotated, Any, Literal

import pytest

from protoformer.config.annotations.coerce import coerce
from protoformer.errors import ConfigurationError
from protoformer.ranges import Positive

Norm = Literal["pre", "post"]


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (1, float, 1.0),
        ("1e-5", float, 1e-5),
        (1e5, int, 100_000),
        (3, int | float, 3),
        (0.5, int | float, 0.5),
        (3, int | Literal["all"], 3),
        ("all", int | Literal["all"], "all"),
        (None, float | None, None),
        ("pre", Norm, "pre"),
        (False, bool, False),
        ([0.9, 1], tuple[float, float], [0.9, 1.0]),
        (["a", "b"], list[str], ["a", "b"]),
        ({"matched": "validation"}, str | dict[str, str], {"matched": "validation"}),
        (2024, str, "2024"),
        ([1, {"a": None}], Any, [1, {"a": None}]),
    ],
)
def test_values_that_fit_come_back_in_their_type(value: Any, annotation: Any, wanted: Any) -> None:
    found = coerce(value, annotation, "node.key")
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        ("abc", float, "node.key=abc does not fit; expected a number"),
        ("", float, "node.key='' does not fit; expected a number"),
        (True, int, "node.key=true does not fit; expected a whole number"),
        (1, bool, "node.key=1 does not fit; expected true or false"),
        (2.5, int | None, "node.key=2.5 does not fit; expected a whole number or null"),
        (None, int, "node.key=null does not fit; expected a whole number"),
        ("pree", Norm, "node.key=pree is not one of its values; did you mean pre? Choose from: pre, post"),
        ("al", int | Literal["all"], "did you mean all? Choose from: all, or a whole number"),
        ([0.9], tuple[float, float], "expected a list of 2: a number, a number"),
        ("x", list[str], r"expected a list \(of text\)"),
        (
            ["pre", "pots"],
            list[Norm],
            "node.key=pots is not one of its values; did you mean post? Choose from: post, pre",
        ),
        ([False, True], list[str], "yaml reads no and yes as false and true, quote them"),
        ("true", Literal["auto"] | bool, "choose from: auto, or true or false"),
    ],
)
def test_values_that_do_not_fit_name_key_value_and_what_is_allowed(value: Any, annotation: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        coerce(value, annotation, "node.key")


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (-1, Annotated[int, "at least 1, or -1 for no limit"], -1),
        (10000, Annotated[float, "at least 0 (a fraction when below 1)"], 10000.0),
        (2, Annotated[float, "above 0 and at most 1.0"] | Positive | None, 2),
        (0.5, Annotated[float, "above 0 and at most 1.0"] | Positive | None, 0.5),
        (None, Annotated[float, "above 0 and at most 1.0"] | Positive | None, None),
    ],
)
def test_numbers_in_their_range_are_kept(value: Any, annotation: Any, expected: Any) -> None:
    assert repr(coerce(value, annotation, "node.key")) == repr(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (
            0,
            Annotated[int, "at least 1, or -1 for no limit"],
            "node.key=0 is out of range; expected a value at least 1",
        ),
        (2.0, Annotated[float, "above 0 and at most 1.0"] | Positive, "node.key=2.0 is out of range; expected a value"),
        (0, Annotated[float, "above 0 and at most 1.0"] | Positive, "node.key=0.0 is out of range; expected a value"),
        (float("inf"), Annotated[float, "above 0"], "node.key=inf is out of range"),
        (float("nan"), Annotated[float, "at least 0"], "node.key=nan is out of range"),
        ([0.9, 1.0], Annotated[tuple[float, float], "each below 1"], r"node.key=\[0.9, 1.0\] is out of range"),
        (" ", Annotated[str, "a folder"], "node.key is empty; expected a folder"),
    ],
)
def test_numbers_outside_their_range_are_refused_with_the_rule(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        coerce(value, annotation, "node.key")
