"""Ranges of numbers and required text as types: `Annotated[int, "at least 1"]`.

The words are the rule: `above`, `at least`, `below`, `at most` and `or` before a number; parentheses hold remarks.
`protoformer.config.annotations.coerce` checks a config's values against it, wherever such a type annotates a key of the schema
or an argument of a `_target_`.
"""

from typing import Annotated

Positive = Annotated[int, "at least 1"]
NonNegative = Annotated[int, "at least 0"]
DropoutRate = Annotated[float, "at least 0 and below 1"]

DURATION = "a duration such as 30s, 10m, 2h or 1h30m"
Duration = Annotated[str, DURATION]
