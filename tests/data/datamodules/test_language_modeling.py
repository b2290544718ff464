"""Running text in blocks: every token is read once and told once, in order, with an end after each document."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.language_modeling import LanguageModelingDataModule, TokenStream
from protoformer.data.examples.documents import Corpus
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.source import DatasetRef, RawStream
from protoformer.errors import ConfigurationError
from protoformer.text.sentences import PIECE, pieces
from protoformer.text.templates import GptTemplate
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import train

DOCUMENTS = [
    "The cat saw a dog.\n\nIt  ran away!",
    "Ünter the table, 12 mice — and cheese.",
    "x",
    "One more line of text,\nand another one, so that there is something to read.",
    "A dog saw the cat, the cat saw the dog, and so on and on and on.",
]


class Texts:
    def __init__(self, **splits: list[str | None]) -> None:
        self.splits = splits

    def stream(self, ref: DatasetRef, split: str, columns: list) -> RawStream:
        rows = self.splits[split]

        def batches() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch({"text": pa.array(rows, pa.string())})

        return RawStream(batches, f"here/{split}", "".join(map(str, rows)))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(lambda: DOCUMENTS * 3, "bytelevel", 300)


def module(
    cache: Path, tokenizer: Tokenizer, documents: list[Any] = DOCUMENTS, **changes: Any
) -> LanguageModelingDataModule:
    batch_config = BatchConfig(
        **(
            {"batch_size": 3, "seed": 5}
            | {k: changes.pop(k) for k in list(changes) if k in ("ranks", "rank", "micro_batch")}
        )
    )
    context = DataContext(
        reader=Corpus([{"dataset": "here"}]),
        splits=changes.pop("splits", {"train": "train", "validation": None, "test": None}),
        source=changes.pop("source", Texts(train=documents)),
        tokenizer=tokenizer,
        template=GptTemplate(tokenizer),
        max_len=changes.pop("max_len", 8),
        batch_config=batch_config,
        cache=cache,
    )
    data = LanguageModelingDataModule(context, **{"held_out": 0.0, **changes})
    data.setup()
    return data


def whole(tokenizer: Tokenizer, documents: list[str] = DOCUMENTS) -> list[int]:
    end = GptTemplate(tokenizer).end_of_text_id
    return [end, *(number for ids in tokenizer.encode(documents) for number in [*ids, end])]


def test_a_stream_is_the_documents_with_an_end_before_and_after_each(tmp_path: Path, tokenizer: Tokenizer) -> None:
    stream = module(tmp_path, tokenizer).tables["train"][""].stream
    expected = whole(tokenizer)
    assert len(stream) == len(expected)
    assert stream.text_bytes == sum(len(text.encode()) for text in DOCUMENTS)
    for start in range(len(expected)):
        for length in (1, 2, 7, len(expected)):
            assert stream.read(start, length).tolist() == expected[start : start + length]


def test_a_corpus_has_the_names_of_its_own_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Sets of files that begin with the same file are cached apart; one whose content is cached keeps its own name."""
    for name, text in {"a": DOCUMENTS[0], "b": DOCUMENTS[1], "c": DOCUMENTS[3], "copy": DOCUMENTS[3]}.items():
        (tmp_path / f"{name}.txt").write_text(text * 4, encoding="utf-8")
    corpora = {}
    for names in ("ab", "ac", "a b", "a copy", "abc"):
        files = [str(tmp_path / f"{name}.txt") for name in (names.split() if " " in names else names)]
        data = module(tmp_path / "cache", tokenizer, source=FilesSource(files))
        data.setup()
        table = data.tables["train"][""]
        assert table.stats["origin"] == ", ".join(files)
        corpora[names] = (table.stats["digest"], int(table.lengths.sum()))
    assert corpora["ab"] == corpora["a b"]
    assert corpora["ac"] == corpora["a copy"]
    assert len(set(corpora.values())) == len(list((tmp_path / "cache" / "corpora").iterdir())) == 3
    (tmp_path / "many").mkdir()
    many = [str(tmp_path / "many" / f"{number}.txt") for number in range(30)]
    for number, name in enumerate(many):
        Path(name).write_text(str(number))
    assert FilesSource(many).names == f"{', '.join(many[:4])} and 26 more"


@pytest.mark.parametrize("shard_tokens", [1, 20, 10_000])
def test_shards_do_not_show(tmp_path: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
    stream = module(tmp_path, tokenizer, shard_tokens=shard_tokens).tables["train"][""].stream
    assert stream.read(0, 10_000).tolist() == whole(tokenizer)


@pytest.mark.parametrize("across", [True, False])
def test_every_token_is_told_once_from_what_stands_before_it(
    tmp_path: Path, tokenizer: Tokenizer, across: bool
) -> None:
    data = module(tmp_path, tokenizer, across_documents=across)
    expected, told = whole(tokenizer), {}
    end = GptTemplate(tokenizer).end_of_text_id
    for batch in data.train_dataloader():
        for ids, mask, targets, block in zip(
            batch["ids"], batch["padding_mask"], batch["target_ids"], batch["example_ids"].tolist(), strict=True
        ):
            length = int(mask.sum())
            assert mask[:length].all()
            assert (targets[length:] == -1).all()
            assert ids[1:length].tolist() == targets[: length - 1].tolist()
            if not across:
                assert end not in ids[1:length].tolist()  # nothing is read of an earlier document
            told.setdefault(block, []).extend(targets[:length].tolist())
    assert [number for block in sorted(told) for number in told[block]] == expected[1:]
    rows = data.tables["train"][""].lengths
    assert [len(told[block]) for block in sorted(told)] == rows.tolist()


def test_an_epoch_is_the_same_on_two_ranks_in_micro_batches(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def blocks(**batching: int) -> list[list[int]]:
        loader = module(tmp_path, tokenizer, **batching).train_dataloader()
        return [batch["example_ids"].tolist() for batch in loader]

    alone = blocks()
    parts = [blocks(ranks=2, rank=rank, micro_batch=1) for rank in (0, 1)]
    together = sorted(number for rank in parts for batch in rank for number in batch if number >= 0)
    assert together == sorted(number for batch in alone for number in batch)
    assert together == list(range(len(together)))
    assert len(parts[0]) == len(parts[1])


def test_the_order_goes_on_where_it_stood(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def ids(loader: Any) -> list[list[int]]:
        return [batch["example_ids"].tolist() for batch in loader]

    first = module(tmp_path, tokenizer).train_dataloader()
    epochs = [ids(first), ids(first)]
    assert epochs[0] != epochs[1]
    begun = module(tmp_path, tokenizer).train_dataloader()
    seen = iter(begun)
    begin = [next(seen)["example_ids"].tolist()]
    later = module(tmp_path, tokenizer).train_dataloader()
    later.load_state_dict(begun.state_dict())
    assert begin + ids(later) == epochs[0]
    assert ids(later) == epochs[1]


def test_whole_documents_are_held_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = module(tmp_path, tokenizer, held_out=0.3)
    parts = [data.tables[role][""] for role in ("train", "validation")]
    end = GptTemplate(tokenizer).end_of_text_id
    texts = []
    for table in parts:
        tokens = table.stream.read(0, 10_000)
        cuts = np.flatnonzero(tokens == end)
        texts.append([tokenizer.decode(tokens[a + 1 : b].tolist()) for a, b in itertools.pairwise(cuts)])
    assert sorted(texts[0] + texts[1]) == sorted(DOCUMENTS)
    assert texts[0]
    assert texts[1]
    stats = [table.stats for table in parts]
    assert sum(fact["bytes"] for fact in stats) == sum(len(text.encode()) for text in DOCUMENTS)
    reference = data.references("validation", "")
    assert reference.bytes_per_token == stats[1]["bytes"] / stats[1]["tokens"]


def test_of_one_document_its_end_is_held_out_where_it_is_long(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = "many words go by " * (PIECE // 8)
    data = module(tmp_path, tokenizer, [long], held_out=0.1, max_len=512)
    train, validation = (data.tables[role][""].stream for role in ("train", "validation"))
    assert train.text_bytes + validation.text_bytes == len(long)
    assert validation.text_bytes > 0
    short = module(tmp_path, tokenizer, ["too short to be cut"], held_out=0.1)
    assert short.tables["validation"] == {}


def test_a_document_shorter_than_a_block_is_one_short_block(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = module(tmp_path, tokenizer, ["x"], max_len=64)
    (batch,) = data.train_dataloader()
    end = GptTemplate(tokenizer).end_of_text_id
    assert batch["ids"].tolist() == [[end, *tokenizer.encode(["x"])[0]]]
    assert batch["target_ids"].tolist() == [[*tokenizer.encode(["x"])[0], end]]


def test_a_split_of_its_own_is_validated_on(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = Texts(train=DOCUMENTS, dev=["A dog saw the cat."])
    splits = {"train": "train", "validation": "dev", "test": None}
    data = module(tmp_path, tokenizer, source=source, splits=splits, held_out=0.5)
    assert data.tables["train"][""].stats["documents"] == len(DOCUMENTS)
    assert data.tables["validation"][""].stream.read(0, 100).tolist() == whole(tokenizer, ["A dog saw the cat."])


def test_fillers_tell_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    collate = module(tmp_path, tokenizer).train_dataloader().collate_fn
    batch = collate([0, -2])
    assert batch["example_ids"].tolist() == [0, -1]
    assert (batch["target_ids"][1] == -1).all()
    assert (batch["target_ids"][0] >= 0).all()


def test_pieces_are_the_text_and_its_tokens(tokenizer: Tokenizer) -> None:
    text = "a  b c\n d 12  , e\tf g " * 9 + "long" * 20
    for longest in (3, 7, 16):
        cut = pieces(text, longest)
        assert "".join(cut) == text
        assert max(map(len, cut)) <= longest
    roomy = pieces(DOCUMENTS[3], 30)
    assert len(roomy) > 2
    assert [number for ids in tokenizer.encode(roomy) for number in ids] == tokenizer.encode([DOCUMENTS[3]])[0]


@pytest.mark.parametrize("changes", [{"held_out": 1.0}, {"held_out": -0.1}, {"shard_tokens": 0}])
def test_numbers_that_mean_nothing_are_refused(tmp_path: Path, tokenizer: Tokenizer, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        module(tmp_path, tokenizer, **changes)


def test_a_stream_of_part_of_a_corpus(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = module(tmp_path, tokenizer).tables["train"][""].stream.corpus
    stream = TokenStream(corpus, np.array([[1, 2], [3, 5]]), end_id=0)
    b, d, e = tokenizer.encode([DOCUMENTS[1], DOCUMENTS[3], DOCUMENTS[4]])
    assert stream.read(0, 10_000).tolist() == [0, *b, 0, *d, *e, 0]
    assert torch.equal(torch.from_numpy(stream.read(1, len(b))), torch.tensor(b))
