"""Words of a command line as Hydra's overrides.

Hydra reads a bare value of Latin letters, digits and a few marks; a path with another letter or mark (`é`, `=`, `[`, `#`) is
quoted here, as its user would have to.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer.config.groups import options
from protoformer.errors import ConfigurationError

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

BARE = re.compile(r"(?P<key>[+~]{0,2}[\w./@:-]+)=(?P<value>[^\[{('\",$][^,$]*)", re.DOTALL)


def parsed(overrides: Sequence[str], folders: Sequence[Path]) -> "list[tuple[str, Override]]":
    """Each word, quoted where it has to be, and what Hydra reads in it; patterns as the options that they mean.

    Raises ConfigurationError for a word that cannot be read, and a pattern that no option fits.
    """
    # not at the top: Hydra is slow to import
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    pairs = []
    for text in overrides:
        if text.startswith("--"):
            raise ConfigurationError(f"{text}: write {text.lstrip('-')} (in a W&B sweep: ${{args_no_hyphens}})")
        if "=" not in text and not text.startswith("~"):
            raise ConfigurationError(f"{text}: not an override; write key=value, as in model=bert task=glue/mnli")
        for word in (text, _quoted(text)):
            try:
                override = parser.parse_override(word)
                pairs.append(_without_pattern(word, override, parser, folders))
                break
            except HydraException as error:
                problem = str(error).strip().splitlines()[0]
        else:
            raise ConfigurationError(
                f"{text}: cannot be read as key=value ({problem}); quote a value with marks: {quoted_example(text)}"
            )
    return pairs


def _without_pattern(
    text: str, override: "Override", parser: "OverridesParser", folders: Sequence[Path]
) -> "tuple[str, Override]":
    """`task=glob(glue/r*)` as a sweep over the options that it means."""
    from hydra.core.override_parser.types import Glob  # not at the top: Hydra is slow to import

    pattern = override.value() if override.type is not None and not override.is_delete() else None
    if not isinstance(pattern, Glob):
        return text, override
    names = options(override.key_or_group, folders)
    if not (matching := pattern.filter(names)):
        raise ConfigurationError(f"{text}: fits none of {', '.join(names) or 'no options'}")
    text = f"{text.partition('=')[0]}={','.join(matching)}"
    return text, parser.parse_override(text)


def quoted_example(text: str) -> str:
    """How a value with marks that Hydra reads itself is typed in a shell."""
    return f"""'{text.partition("=")[0]}="..."'"""


def _quoted(text: str) -> str:
    """`key=value` with the value between quotes; the same text where it has quotes, brackets, commas or references itself."""
    match = BARE.fullmatch(text)
    if match is None:
        return text
    value = re.sub(r"(\\*)'", r"\1\1\\'", match["value"])  # backslashes before a quote are doubled, as Hydra reads them
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"{match['key']}='{value}'"
