"""From raw text to batches: rows are written as BERT reads them, and depend on seed and draw alone."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.corpus.masking import MaskedTokens, NextTokens
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.pretraining import PretrainingDataModule
from protoformer.data.examples.documents import Corpus
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.source import DatasetRef, RawStream
from protoformer.errors import ConfigurationError, DataError
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer

WORDS = [f"w{number}" for number in range(30)]
PHASES = ({"share": 0.75, "max_len": 24, "max_predictions": 3}, {"share": 0.25, "max_len": 512, "max_predictions": 76})


def text(documents: int, sentences: int = 30) -> list[str]:
    """Every word says in which document it stands."""
    random = np.random.default_rng(7)
    return [
        "\n".join(
            " ".join(f"{word}d{number}" for word in random.choice(WORDS, random.integers(2, 9)))
            for _ in range(sentences)
        )
        for number in range(documents)
    ]


class Source:
    def __init__(self, **splits: list[str]) -> None:
        self.splits = splits

    def stream(self, ref: DatasetRef, split: str, columns: list) -> RawStream:
        rows = self.splits[split]

        def batches() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch({"text": pa.array(rows, pa.string())})

        return RawStream(batches, f"here/{split}", "".join(rows))


def words(*texts: list[str]) -> Tokenizer:
    return whole_word_tokenizer(itertools.chain(*texts), "here")


def module(
    cache: Path,
    source: Any = None,
    *,
    rank: int = 0,
    ranks: int = 1,
    micro: int | None = None,
    workers: int = 0,
    seed: int = 3,
    size: int = 8,
    steps: int | None = 8,
    **more: Any,
) -> PretrainingDataModule:
    source = source or Source(train=text(12))
    tokenizer = more.pop("tokenizer", None) or words(*source.splits.values())
    defaults: dict[str, Any] = {"masking": MaskedTokens(), "phases": PHASES, "shard_tokens": 700, "held_out": 0.2}
    made = PretrainingDataModule(
        DataContext(
            reader=Corpus([{"dataset": "any"}]),
            splits=more.pop("splits", {"train": "train"}),
            source=source,  # type: ignore[arg-type]
            tokenizer=tokenizer,
            template=BertTemplate(tokenizer),
            max_len=48,
            batch_config=BatchConfig(size, micro, rank, ranks, seed, workers=workers, steps=steps),
            cache=cache,
        ),
        **{**defaults, **more},
    )
    made.setup()
    return made


Row = tuple[Any, ...]


def rows(batch: Any) -> list[Row]:
    """Each real row as plain values, without its padding."""
    results = []
    for number, example in enumerate(batch["example_ids"].tolist()):
        if example >= 0:
            real, told = batch["padding_mask"][number], batch["target_ids"][number] >= 0
            values = (batch[name][number][real].tolist() for name in ("ids", "segment_ids"))
            targets = (batch[name][number][told].tolist() for name in ("target_position", "target_ids"))
            results.append((example, *map(tuple, (*values, *targets)), int(batch["next_sentence"][number])))
    return results


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_batches_are_pairs_as_bert_reads_them(cache: Path) -> None:
    data = module(cache)
    vocabulary = data.tokenizer.hf_tokenizer.get_vocab()
    name = {number: token for token, number in vocabulary.items()}
    cls, sep, mask = (vocabulary[token] for token in ("[CLS]", "[SEP]", "[MASK]"))
    batches = list(data.train_dataloader())
    assert len(batches) == 8
    assert [batch["ids"].shape[1] <= 24 for batch in batches] == [True] * 6 + [False] * 2  # cut to max_len=48
    assert max(batch["ids"].shape[1] for batch in batches) == 48
    masks = []
    for batch in batches:
        assert batch["targets"].tolist() == [int((batch["target_ids"] >= 0).sum()), 8]
        assert batch["example_ids"].shape == (8,)
        assert (batch["pooler_position"] == 0).all()
        for number, (_, ids, segments, position, targets, unlike) in enumerate(rows(batch)):
            whole = np.array(ids)
            masks += (whole[list(position)] == mask).tolist()
            whole[list(position)] = targets
            first = whole.tolist().index(sep)
            assert (whole[0], whole[-1], (whole == sep).sum()) == (cls, sep, 2)
            assert segments == (0,) * (first + 1) + (1,) * (len(ids) - first - 1)
            a, b = ({name[i].split("d")[1] for i in part} for part in (whole[1:first], whole[first + 1 : -1]))
            assert len(a) == len(b) == 1  # one document each
            assert (a != b) == unlike
            assert len(position) == min(3 if batch["ids"].shape[1] <= 24 else 76, max(1, round(0.15 * len(ids))))
            assert not {0, first, len(ids) - 1} & set(position)
            assert (batch["target_position"][number] < len(ids)).all()
    assert 0.6 < np.mean(masks) < 0.95


def test_facts_and_validation(cache: Path) -> None:
    data = module(cache)
    stats = data.tables["train"][""].stats
    assert set(stats) == {
        "origin", "digest", "documents", "sentences", "tokens", "skipped", "instances", "held_out_documents",
        "held_out_sentences", "random_pairs", "truncated",
    }  # fmt: skip
    assert (stats["documents"], stats["sentences"], stats["skipped"], stats["origin"]) == (12, 360, 0, "here/train")
    assert len(stats["instances"]) == 2
    held = stats["held_out_documents"]
    assert held >= 2
    (loader,) = data.val_dataloader()
    one, again = ([rows(batch) for batch in loader] for _ in range(2))
    assert one == again  # the same masks whenever it is validated
    seen = [row for batch in one for row in batch]
    assert [row[0] for row in seen] == list(range(len(data.tables["validation"][""])))
    assert max(len(row[1]) for row in seen) == 48
    assert {row[-1] for row in seen} == {0, 1}
    name = {number: token for token, number in data.tokenizer.hf_tokenizer.get_vocab().items()}

    def documents(batches: list[list[Row]]) -> set[str]:
        return {
            name[i].split("d")[1] for batch in batches for row in batch for i in (*row[1], *row[3]) if "d" in name[i]
        }

    told = {name[i].split("d")[1] for batch in one for row in batch for i in row[4]}
    trained = {name[i].split("d")[1] for batch in data.train_dataloader() for row in rows(batch) for i in row[4]}
    assert len(told) == held
    assert not told & trained
    assert data.test_dataloader() == []
    assert data.tables["test"] == {}
    assert any("pairs truncated" in line for line in data.log_lines(data.tables["train"][""]))


@pytest.mark.parametrize("masks", ["dynamic", "static"])
def test_masks_are_fresh_in_each_pass_unless_they_are_static(cache: Path, masks: str) -> None:
    phases = [{"share": 1.0, "max_len": 24, "max_predictions": 20}]
    data = module(cache, masks=masks, phases=phases, steps=40)
    total = len(data.tables["train"][""])
    assert total < 8 * 40 / 2
    passes: dict[int, list[Row]] = {}
    for row in itertools.chain(*map(rows, data.train_dataloader())):
        passes.setdefault(row[0] % total, []).append(row[1:])
    assert min(map(len, passes.values())) >= 2
    same = [len(set(each)) == 1 for each in passes.values()]
    assert all(same) if masks == "static" else np.mean(same) < 0.2
    originals = [{restored(row) for row in each} for each in passes.values()]
    assert all(len(each) == 1 for each in originals)


def restored(row: Row) -> tuple[int, ...]:
    ids = np.array(row[0])
    ids[list(row[2])] = row[3]
    return tuple(ids.tolist())


@pytest.mark.parametrize(("ranks", "micro"), [(2, None), (3, 2)])
def test_ranks_and_micro_batches_make_the_same_rows(cache: Path, ranks: int, micro: int | None) -> None:
    alone = [sorted(rows(batch)) for batch in module(cache).train_dataloader()]
    every = [module(cache, rank=rank, ranks=ranks, micro=micro) for rank in range(ranks)]
    accumulation = every[0].batch_config.accumulation
    shares = [list(map(rows, data.train_dataloader())) for data in every]
    for number, expected in enumerate(alone):
        parts = [part for share in shares for part in share[number * accumulation : (number + 1) * accumulation]]
        assert sorted(row for part in parts for row in part) == expected
    validated = [list(map(rows, data.val_dataloader()[0])) for data in every]
    once = [row for batch in module(cache).val_dataloader()[0] for row in rows(batch)]
    assert sorted(row for share in validated for batch in share for row in batch) == sorted(once)


@pytest.mark.parametrize("stop", [0, 3, 6, 7])
def test_a_run_continues_with_the_very_next_batch(cache: Path, stop: int) -> None:
    whole = [rows(batch) for batch in module(cache).train_dataloader()]
    first = module(cache).train_dataloader()
    assert [rows(batch) for batch in itertools.islice(first, stop)] == whole[:stop]
    again = module(cache).train_dataloader()
    again.load_state_dict(first.state_dict())
    assert [rows(batch) for batch in again] == whole[stop:]


@pytest.mark.slow
def test_workers_change_nothing_and_what_they_fetch_ahead_does_not_count(cache: Path) -> None:
    whole = [rows(batch) for batch in module(cache).train_dataloader()]
    first = module(cache, workers=1).train_dataloader()
    first.load_state_dict({"epoch": 0, "position": 2})
    assert [rows(batch) for batch in itertools.islice(first, 3)] == whole[2:5]
    again = module(cache).train_dataloader()
    again.load_state_dict(first.state_dict())
    assert [rows(batch) for batch in again] == whole[5:]
    left = iter(first)  # a further epoch, from its beginning, over the border of the phases
    assert len(list(left)) == 8


def test_the_seed_decides(cache: Path) -> None:
    one, again, other = ([rows(batch) for batch in module(cache, seed=seed).train_dataloader()] for seed in (3, 3, 4))
    assert one == again != other


def test_full_sentences_have_separators_between_documents(cache: Path) -> None:
    source = Source(train=text(40, sentences=2))
    data = module(cache, source, nsp=False, phases=[{"share": 1, "max_len": 48}], shard_tokens=10**6)
    name = {number: token for token, number in data.tokenizer.hf_tokenizer.get_vocab().items()}
    crossing = 0
    for row in itertools.chain(*map(rows, data.train_dataloader())):
        tokens = [name[number] for number in restored(row[1:])]
        assert (tokens[0], tokens[-1], len(tokens) <= 48) == ("[CLS]", "[SEP]", True)
        parts = " ".join(tokens[1:-1]).split(" [SEP] ")
        homes = [{token.split("d")[1] for token in part.split()} for part in parts]
        assert all(len(home) == 1 for home in homes)
        assert len(set.union(*homes)) == len(homes)
        assert (set(row[2]), row[-1]) == ({0}, -1)
        crossing += len(homes) > 1
    assert crossing > 20
    assert next(iter(data.train_dataloader()))["targets"][1] == 0


def test_whole_words_and_next_tokens(cache: Path) -> None:
    source = Source(train=text(6))
    data = module(cache, source, masking=NextTokens())
    for batch in itertools.islice(data.train_dataloader(), 2):
        for _, ids, _, position, targets, _ in rows(batch):
            assert position == tuple(range(len(ids) - 1))
            assert targets == ids[1:]
    letters = whole_word_tokenizer(
        ["w 0 1 2 3 4 5 6 7 8 9 d"], "letters"
    )  # each word is one letter and several that go on
    data = module(cache, source, tokenizer=letters, masking=MaskedTokens(whole_word=True))
    continues = letters.is_continuation()
    assert continues is not None
    for row in itertools.chain(*map(rows, data.train_dataloader())):
        goes_on = continues[list(restored(row[1:]))]
        told = np.isin(np.arange(len(goes_on)), row[3])
        goes_on[1:] &= ~np.isin(restored(row[1:])[:-1], data.template.special_ids)  # a word that lost its first letters
        assert goes_on.mean() > 0.5
        assert (told[1:] == told[:-1])[goes_on[1:]].all()


def test_a_corpus_smaller_than_a_batch(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = module(cache, Source(train=["w1d0 w2d0 w3d0"]), steps=4)
    assert "no documents are held out" in caplog.text
    assert "one document alone" in caplog.text
    assert data.tables["validation"] == {}
    assert data.val_dataloader() == []
    batches = list(data.train_dataloader())
    assert [len(set(batch["example_ids"].tolist())) for batch in batches] == [8] * 4
    assert all(batch["targets"].tolist() == [8, 0] for batch in batches)
    many = module(cache, Source(train=["w1d0 w2d0\nw3d0"] * 3), steps=2, ranks=4, rank=3, size=2)
    (batch, _) = many.train_dataloader()
    assert batch["example_ids"].tolist() == [-1]  # more ranks than rows: a filler
    assert batch["targets"].tolist() == [0, 0]
    assert (batch["target_ids"] == -1).all()
    mixed = module(cache, Source(train=["w1d0 w2d0\nw3d0 w4d0 w5d0\nw6d0"]), steps=4, held_out=0.0)
    labels = torch.cat([batch["next_sentence"] for batch in mixed.train_dataloader()])
    assert not (labels == 1).any()  # one document: nothing is random


def test_a_split_of_its_own_is_validated_whole(cache: Path) -> None:
    source = Source(train=text(12), dev=text(3))
    data = module(cache, source, splits={"train": "train", "validation": "dev"}, duplicates=2)
    assert data.tables["train"][""].stats["held_out_documents"] == 0
    stats = data.tables["validation"][""].stats
    assert (stats["documents"], stats["origin"]) == (3, "here/dev")
    assert len(stats["instances"]) == 1
    same = module(cache, splits={"train": "train", "validation": "train"})
    assert same.tables["validation"][""].stats["held_out_documents"] >= 2


def test_text_files_are_never_validated_on_what_they_train_on(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name, documents in (("train", text(12)), ("dev", text(4))):
        (cache / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (cache / f"{name}.txt").write_text("\n\n".join(documents))
    train = str(cache / "train.txt")
    splits = {"train": "train", "validation": "validation"}
    tokenizer = words(text(12))
    data = module(cache, FilesSource(train), splits=splits, tokenizer=tokenizer)
    held_out = data.tables["validation"][""].stats["held_out_documents"]
    assert held_out >= 2
    assert f"validation: {held_out} of 12 documents, held out (task.data.held_out) and never trained on" in caplog.text
    own = FilesSource(train, validation=[str(cache / "d*.txt")])
    for names in (splits, {"train": "train", "validation": None}):
        data = module(cache, own, splits=names, tokenizer=tokenizer)
        assert data.tables["train"][""].stats["held_out_documents"] == 0
        assert data.tables["validation"][""].stats["documents"] == 4
    assert "validation: source.validation" in caplog.text
    with pytest.raises(DataError, match=r"train\.txt is in source\.files and in source\.validation"):
        FilesSource(train, validation=str(cache / "*.txt"))
    evaluated = module(cache, FilesSource(train), splits={"train": None}, tokenizer=tokenizer)
    assert (evaluated.tables["train"], evaluated.tables["validation"][""].stats["documents"]) == ({}, 12)


@pytest.mark.parametrize(("sentences", "told"), [(1, "100% of the pairs"), (30, None)])
def test_a_share_of_random_pairs_that_is_far_from_half_is_told(cache: Path, sentences: int, told: str | None) -> None:
    data = module(cache, Source(train=text(60, sentences)))
    lines = [line for line in data.log_lines(data.tables["train"][""]) if "random second part" in line]
    assert lines == [] if told is None else lines[0].startswith(told)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"steps": None}, ConfigurationError, r"pretraining needs a number of steps: add recipe\.max_steps=<n>"),
        ({"phases": []}, ConfigurationError, "must sum to 1"),
        ({"phases": [{"share": 0.5, "max_len": 24}]}, ConfigurationError, "must sum to 1"),
        ({"phases": [{"share": 1, "length": 9}]}, ConfigurationError, "a phase has share, max_len"),
        ({"phases": [{"share": 1, "max_len": 4}]}, ConfigurationError, "too short for two segments"),
        ({"phases": [{"share": "all", "max_len": 24}]}, ConfigurationError, "share=all; expected a number from 0 to 1"),
        ({"phases": [{"share": 1, "max_len": None}]}, ConfigurationError, "max_len=None; expected a whole number"),
        ({"phases": [{"share": 1, "max_len": 24, "max_predictions": 0}]}, ConfigurationError, "a whole number from 1"),
        (
            {"phases": [{"share": 1, "max_len": 24, "max_predictions": "x"}]},
            ConfigurationError,
            "predictions=x; expected",
        ),
        ({"duplicates": 0}, ConfigurationError, r"task\.data\.duplicates=0"),
        ({"held_out": 1.0}, ConfigurationError, r"task\.data\.held_out=1\.0"),
        ({"masks": "some"}, ConfigurationError, "dynamic or static"),
        ({"source": Source(train=["", " "]), "tokenizer": words(["a"])}, DataError, "no tokens"),
    ],
)
def test_what_cannot_be_is_refused(cache: Path, more: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        module(cache, **more)


def test_a_vocabulary_without_the_mask_cannot_mask(cache: Path, tmp_path: Path) -> None:
    from protoformer.text.tokenizer_files import read_tokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "w"]))
    bare = read_tokenizer(tmp_path / "vocab.txt")
    with pytest.raises(ConfigurationError, match=r"lacks the special token \[MASK\]; masked tokens need it"):
        module(cache, tokenizer=bare)
    assert module(cache, tokenizer=bare, masking=NextTokens()).tables["train"]


def test_words_that_a_vocabulary_does_not_mark_cannot_be_masked_whole(cache: Path) -> None:
    from tokenizers import Tokenizer as HFTokenizer
    from tokenizers import models

    level = Tokenizer(
        HFTokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3}, "[CLS]")), "level"
    )
    with pytest.raises(ConfigurationError, match="do not mark word beginnings"):
        module(cache, tokenizer=level, masking=MaskedTokens(whole_word=True))
