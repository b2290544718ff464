"""Base of the data modules that train on a corpus: sharded once, with documents held out to validate on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import lightning.pytorch as pl

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.corpus.sharding import Segmentation, shards
from protoformer.data.corpus.shards import Shards
from protoformer.data.datamodules.context import DataContext
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.examples.documents import Corpus
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)


class CorpusTable(Protocol):
    """Examples that are made of a corpus."""

    @property
    def stats(self) -> Mapping[str, Any]: ...


AnyTable = TypeVar("AnyTable", bound=CorpusTable)


class CorpusDataModule(pl.LightningDataModule, Generic[AnyTable]):
    """Its reader is a Corpus. A fraction `held_out` of the documents is validated on, or else splits of their own.

    After `setup`, `tables` holds the examples by role and our name of the split; nothing is tested.
    Rows without text are left out and counted, whatever `on_bad_row` says.
    """

    template_method: ClassVar[str]  # the template's method that this kind needs
    segmentation: ClassVar[Segmentation]  # what a document is cut into before it is tokenised
    # stats of a table that count what was not used whole -> what a report calls them
    incomplete_data: ClassVar[Mapping[str, str]]
    left_to_right = False  # whether a target is the token after the position that predicts it

    def __init__(
        self,
        context: DataContext,
        *,
        held_out: float = 0.01,
        shard_tokens: int = 50_000_000,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__()
        if not 0 <= held_out < 1:
            raise ConfigurationError(f"task.data.held_out={held_out}: must be at least 0 and below 1")
        if shard_tokens < 1:
            raise ConfigurationError(f"task.data.shard_tokens={shard_tokens}: at least 1")
        self.reader: Corpus = context.reader
        self.source, self.cache = context.source, context.cache
        self.tokenizer, self.template, self.max_len = context.tokenizer, context.template, context.max_len
        self.batch_config, self.on_bad_row = context.batch_config, on_bad_row
        self.held_out, self.shard_tokens = held_out, shard_tokens
        self.splits: dict[Role, dict[str, str]] = {
            "train": context.splits_of("train"),
            "validation": context.splits_of("validation"),
            "test": {},
        }
        self.tables: dict[Role, dict[str, AnyTable]] = {}

    def train_and_validation_tables(self, corpus: Shards, held_out: float) -> tuple[AnyTable, AnyTable | None]:
        """Examples of the documents to train on, and of the held-out ones (None where there are none)."""
        raise NotImplementedError

    def whole_table(self, corpus: Shards) -> AnyTable:
        """Examples of all documents of a split of its own, to validate on."""
        raise NotImplementedError

    def log_lines(self, table: AnyTable) -> list[str]:
        """Messages about a table's stats."""
        raise NotImplementedError

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[object]]:
        """None: predictions of single tokens are not kept."""
        return {}

    def passages(self, role: Role, split: str) -> Sequence[str] | None:
        """None: blocks of text share no passage."""
        return None

    def prepare_data(self) -> None:
        """Tokenise the corpus and make the examples once, before the other ranks read them."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if self.tables:
            return
        train_split = self.splits["train"].get("")
        validation_splits = self._validation_splits(train_split)
        validation_corpora = {name: self._shards(split) for name, split in validation_splits.items()}
        validation = {name: self.whole_table(corpus) for name, corpus in validation_corpora.items()}
        train: dict[str, AnyTable] = {}
        if train_split is not None:
            corpus = self._shards(train_split)
            for other in validation_corpora.values():
                if other.stats["digest"] == corpus.stats["digest"]:
                    log.warning("%s: its text is that which is trained on (validation)", other.stats["origin"])
            held_out = 0.0 if validation_splits else self.held_out
            train[""], held_out_table = self.train_and_validation_tables(corpus, held_out)
            if held_out_table is not None:
                validation[""] = held_out_table
                log.info("%s: %s", corpus.stats["origin"], _held_out_line(corpus, held_out_table))
        self.tables = {"train": train, "validation": validation, "test": {}}
        for table in train.values():
            if not validation:
                log.info("%s: no documents are held out, so there is no validation", table.stats["origin"])
            for line in self.log_lines(table):
                log.info("%s: %s", table.stats["origin"], line)
        for name in validation_splits:
            log.info("validation%s: %s", f" {name}" if name else "", validation[name].stats["origin"])

    def _validation_splits(self, train_split: str | None) -> dict[str, str]:
        """Our names of the splits to validate on -> the data set's. Empty: documents of the training split are held out.

        A source of files has the splits that it was given, whatever the task says: without text of its own for validation,
        other splits would be the training text again.
        """
        splits = {name: split for name, split in self.splits["validation"].items() if split != train_split}
        if not isinstance(self.source, FilesSource):
            return splits
        if self.source.validation_split is not None:
            return {"": self.source.validation_split}
        return {} if train_split is not None else {"": "train"}

    def _shards(self, split: str) -> Shards:
        documents = self.reader.documents(self.source, split, self.on_bad_row)
        corpus = shards(self.cache, documents, self.tokenizer, self.shard_tokens, self.segmentation)
        return corpus.named(documents.origin)  # the cached text may come from other files with the same content

    def test_dataloader(self) -> list[BatchLoader]:
        return []


def _held_out_line(corpus: Shards, table: CorpusTable) -> str:
    """Which part of the corpus is validated on."""
    documents = table.stats.get("held_out_documents", table.stats["documents"])
    what = f"{documents} of {corpus.documents} documents" if corpus.documents > 1 else "the end of the only document"
    return f"validation: {what}, held out (task.data.held_out) and never trained on"
