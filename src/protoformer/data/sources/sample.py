"""The built-in sample as a source."""

import hashlib
from collections.abc import Iterator, Sequence

from protoformer.data.sources.source import RawStream, RawTable, _table_stream
from protoformer.ranges import Positive


class SampleSource:
    """The built-in sample: made by a grammar, labelled by construction, in the hub's schemas; needs no network."""

    def __init__(self, seed: int = 0, rows: Positive | None = None) -> None:
        self.seed, self.rows = seed, rows
        self._made: dict[str, RawTable] = {}

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        from protoformer.sample import generate

        name = f"{dataset}/{subset}/{split}"
        if name not in self._made:
            table = generate(dataset, subset, split, self.seed, self.rows)
            digest = hashlib.sha256(str(table.to_pydict()).encode()).hexdigest()
            self._made[name] = RawTable(table, f"sample:{name}", digest)
        return self._made[name]

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        return _table_stream(self.load(dataset, subset, split, revision), columns)

    def corpus(self) -> Iterator[str] | None:
        from protoformer.sample import corpus

        return corpus(self.seed)
