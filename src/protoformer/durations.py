"""Durations as text: 30s, 10m, 2h, 1h30m, 1d12h."""

import re

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PART = r"(\d+(?:\.\d+)?)"
DURATION = re.compile("".join(f"(?:{PART}{unit})?" for unit in SECONDS))


def seconds_of(duration: str) -> float:
    """Seconds of a duration; days, hours, minutes and seconds in this order, each at most once.

    Raises ValueError for other text, and for no time at all.
    """
    match = DURATION.fullmatch(duration.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{duration!r} is no duration")
    seconds = sum(float(number or 0) * each for number, each in zip(match.groups(), SECONDS.values(), strict=True))
    if seconds <= 0:
        raise ValueError(f"{duration!r} is no time")
    return seconds


def canonical(duration: str) -> str:
    """The same duration to the millisecond in its largest units, as 90m is 1h30m: one spelling, one run name.

    Raises ValueError as `seconds_of`, and for less than a millisecond.
    """
    rest, text = round(1000 * seconds_of(duration)), ""  # whole numbers: 1.1 h is 3960.0000000000005 s
    if not rest:
        raise ValueError(f"{duration!r} is less than a millisecond")
    for unit, seconds in SECONDS.items():
        number, rest = (rest / 1000, 0) if unit == "s" else divmod(rest, 1000 * seconds)
        text += f"{number:g}{unit}" if number else ""
    return text
