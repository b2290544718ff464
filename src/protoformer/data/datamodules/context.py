"""What a run gives its data module besides the task's own settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.sources.source import Role, Source
from protoformer.text.tokenizers import Tokenizer

SplitNames = str | Mapping[str, str] | None


@dataclass(frozen=True)
class DataContext:
    """The reader of the data set's rows, where they come from, and how texts become ids and rows become batches.

    `splits` names the data set's split of each role; a mapping names several, by our names of them. `reader` and `template` are
    of the types that the kind of data module needs. `max_len` is the longest sequence in tokens.
    """

    reader: Any
    splits: Mapping[str, SplitNames]
    source: Source
    tokenizer: Tokenizer
    template: Any
    max_len: int
    batch_config: BatchConfig
    cache: Path

    def splits_of(self, role: Role) -> dict[str, str]:
        """Our names of a role's splits -> the data set's."""
        return named_splits(self.splits.get(role))


def named_splits(splits: SplitNames) -> dict[str, str]:
    """Our names of a role's splits -> the data set's; a single split has the empty name."""
    if splits is None:
        return {}
    return {"": splits} if isinstance(splits, str) else dict(splits)
