"""Counts in words: three digits, and one of a thing is one."""

from protoformer.reporting.tables import abbreviated, counted


def test_counts_have_three_digits() -> None:
    numbers = (44_066, 999_999, 1_000_000, 22_700_000, 999_499_999, 999_500_000, 175_000_000_000)
    assert [abbreviated(number) for number in numbers] == [
        "44,066",
        "999,999",
        "1 M",
        "22.7 M",
        "999 M",
        "1 B",
        "175 B",
    ]


def test_one_of_a_thing_is_one_as_it_is_printed() -> None:
    assert [counted(number, "epoch") for number in (1, 2, 1.0, 0.999, 0.67, 0.004, 1000)] == [
        "1 epoch", "2 epochs", "1 epoch", "1 epoch", "0.67 epochs", "0.004 epochs", "1,000 epochs",
    ]  # fmt: skip
