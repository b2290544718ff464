"""A vocabulary of a task's own, learnt from its training text once and kept."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from protoformer.atomic import replace_atomically
from protoformer.data.sources.source import Part, RawStream, Source
from protoformer.runs.digests import source_digest
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import VocabularyKind, train

log = logging.getLogger(__name__)


class TextRows(Protocol):
    """Rows whose texts a vocabulary can be learnt from."""

    dataset: str
    subset: str | None
    revision: str | None

    def texts(self, stream: RawStream) -> Iterator[str]: ...


@dataclass(frozen=True)
class LearnedVocabulary:
    """`size` tokens, or fewer where no pair of tokens is left that was seen twice, shared by all languages of the text."""

    size: int
    kind: VocabularyKind = "bytelevel"
    cased: bool = True

    def learn(self, rows: TextRows, source: Source, split: str, cache: Path) -> Tokenizer:
        """From the whole of a training split, or from disk where the same text was learnt from before."""
        stream = source.stream(rows.dataset, rows.subset, Part.of(split).split, rows.revision)
        settings: list[Any] = [_writer_digest(), stream.digest, repr(rows), self.size, self.kind, self.cased]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
        place = cache / "vocabularies" / key / "tokenizer.json"
        if not place.exists():
            log.info("%s: learning a vocabulary of %d tokens (%s)", stream.origin, self.size, self.kind)
            learnt = train(lambda: rows.texts(stream), self.kind, self.size, cased=self.cased)
            with replace_atomically(place) as tmp:
                learnt.hf_tokenizer.save(str(tmp))
        return Tokenizer(read_tokenizer(place).hf_tokenizer, f"the vocabulary learnt from {stream.origin}")


def _writer_digest() -> str:
    """Digest of the code that learns."""
    return source_digest(
        "text/vocabulary_training.py", "text/tokenizers.py", "text/tokenizer_files.py", "data/examples/pairs.py"
    )
