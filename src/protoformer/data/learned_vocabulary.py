"""A task's own vocabulary, learned from its training text once and cached."""

import hashlib
import json
import logging
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from protoformer.atomic import replace_atomically
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.source import Source
from protoformer.errors import DataError
from protoformer.runs.digests import source_digest
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import VocabularyKind, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearnedVocabulary:
    """A vocabulary of `size` tokens (or fewer, where no other pair of tokens occurs twice), shared by all languages."""

    size: int
    kind: VocabularyKind = "bytelevel"
    cased: bool = True

    def learn(self, reader: ParallelTextReader, source: Source, split: str, cache: Path) -> Tokenizer:
        """The vocabulary of whole training splits, from disk where it was learned from the same text before."""
        stream, *others = (source.stream(reader, name) for name in SplitSelection.parse(split).splits)
        settings: list[object] = [_writer_digest(), stream.digest, repr(reader), self.size, self.kind, self.cased]
        settings += [other.digest for other in others]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
        path = cache / "vocabularies" / key / "tokenizer.json"
        if not path.exists():
            log.info("%s: learning a vocabulary of %d tokens (%s)", stream.origin, self.size, self.kind)
            if stream.broken and next(reader.texts(stream), None) is None:
                raise DataError(f"{stream.broken[0]}; there is no text to learn a vocabulary from")
            learned = train(
                lambda: chain.from_iterable(map(reader.texts, (stream, *others))),
                self.kind,
                self.size,
                cased=self.cased,
            )
            with replace_atomically(path) as tmp:
                learned.hf_tokenizer.save(str(tmp))
        return Tokenizer(read_tokenizer(path).hf_tokenizer, f"the vocabulary learned from {stream.origin}")


def _writer_digest() -> str:
    """Digest of the code that learns."""
    return source_digest(
        "text/vocabulary_training.py",
        "text/tokenizers.py",
        "text/tokenizer_files.py",
        "data/examples/parallel_text.py",
        "data/examples/values.py",
        "data/sources",
    )
