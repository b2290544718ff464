"""Pairs of texts: what is read and refused, batches by tokens, the vocabulary of both languages, the sample's own language."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.data.batching.token_budget import TokenBudgetSampler
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.translation import TranslationDataModule
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.learned_vocabulary import LearnedVocabulary
from protoformer.data.sources.parallel import ParallelSource
from protoformer.data.sources.sample import SampleSource
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.errors import AbsentSplitError, ConfigurationError, DataError, UserError
from protoformer.sample import generate
from protoformer.sample.translation import foreign, pairs
from protoformer.text.encoder_decoder.translation_template import TranslationTemplate
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer

ROWS = ParallelTextReader("bentrevett/multi30k", "en", "de")
BUDGET = 60


def raw(**columns: list[Any]) -> RawTable:
    return RawTable(pa.table(columns), "file", "digest")


def test_languages_are_columns_or_fields_of_one() -> None:
    plain = ROWS.read(raw(en=["a", "b"], de=["c", "d"]), "train")
    assert (plain.sources, plain.targets, plain.row.tolist()) == (["a", "b"], ["c", "d"], [0, 1])
    struct = raw(translation=[{"de": "c", "en": "a"}, {"de": "d", "en": "b"}])
    nested = ParallelTextReader("wmt/wmt14", "de", "en", column="translation", subset="de-en")
    assert nested.read(struct, "train").targets == ["a", "b"]
    assert nested.read(raw(en=["a"], de=["c"]), "train").sources == ["c"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"en": ["a"], "fr": ["b"]}, "no language 'de'; it has en, fr"),
        (
            {"en": ["a", "b"], "de": ["c", " "]},
            r"row 2, language 'de': an empty line \(' '\); task.data.on_bad_row=skip",
        ),
        ({"en": [None, ""], "de": ["c", "d"]}, r"row 1, language 'en': an empty line \(2 rows in all\)"),
        ({"en": ["a"], "de": [[1]]}, r"column 'de' holds list<.*>, not text"),
        ({"en": pa.array([], pa.string()), "de": pa.array([], pa.string())}, "zero rows"),
    ],
)
def test_what_cannot_be_read_is_named(columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ROWS.read(raw(**columns), "train")


def test_empty_lines_are_left_out_on_request_and_no_language_is_its_own_translation() -> None:
    actual = ROWS.read(raw(en=["a", "", "b"], de=["c", "d", "e"]), "train", "skip")
    assert (actual.targets, actual.row.tolist(), actual.skipped) == (["c", "e"], [0, 2], 1)
    with pytest.raises(DataError, match="every one of its 1 rows"):
        ROWS.read(raw(en=[""], de=["c"]), "train", "skip")
    with pytest.raises(ConfigurationError, match="both 'de'"):
        ParallelTextReader("x", "de", "de")


def test_files_of_one_language_each(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("one\ntwo\u2028still two\n", encoding="utf-8")
    (tmp_path / "train.de").write_text("eins\r\nzwei", encoding="utf-8")
    source = ParallelSource(str(tmp_path))
    table = source.load(DatasetRef("any"), "train")
    assert ROWS.read(table, "train").sources == ["one", "two\u2028still two"]
    assert list(ROWS.texts(source.stream(DatasetRef("any"), "train"))) == ["one", "two\u2028still two", "eins", "zwei"]
    with pytest.raises(AbsentSplitError, match=r"no files test.<language>.*train.de, train.en"):
        source.load(DatasetRef("any"), "test")
    (tmp_path / "train.de").write_text("eins\nzwei\ndrei\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train.de has 3 lines and .*train.en has 2"):
        source.load(DatasetRef("any"), "train")
    (tmp_path / "train.de").write_bytes(b"ein\xff\nzwei\n")
    reader = ParallelTextReader("any", "en", "de")
    with pytest.raises(DataError, match=r"train\.de, line 1: byte 0xFF is not UTF-8"):
        reader.read(source.load(DatasetRef("any"), "train"), "train")
    assert reader.read(source.load(DatasetRef("any"), "train"), "train", "skip").targets == ["zwei"]
    latin = reader.read(ParallelSource(str(tmp_path), encoding="latin-1").load(DatasetRef("any"), "train"), "train")
    assert latin.targets == ["ein\xff", "zwei"]
    with pytest.raises(DataError, match="no such folder"):
        ParallelSource(str(tmp_path / "nowhere"))


def words() -> Tokenizer:
    return whole_word_tokenizer([text for pair in zip(*sample(), strict=True) for text in pair], "these texts")


def sample(rows: int = 200) -> tuple[list[str], list[str]]:
    actual = ROWS.read(RawTable(generate("bentrevett/multi30k", None, "train", rows=rows), "s", "d"), "train")
    return actual.sources, actual.targets


def test_the_template_puts_new_tokens_or_the_vocabularys_own_around_texts() -> None:
    tokenizer = words()
    fresh = TranslationTemplate(tokenizer)
    assert (fresh.bos_id, fresh.eos_id) == (tokenizer.vocab_size, tokenizer.vocab_size + 1)
    assert fresh.largest_id("encode_pairs") == tokenizer.vocab_size + 1
    written = fresh.encode_pairs([[5, 6], [7]], [[8, 9, 10, 11], []], max_len=4)
    end = fresh.eos_id
    assert written.ids.tolist() == [5, 6, end, 7, end]
    assert (written.target_ids.tolist(), written.target_offsets.tolist()) == ([8, 9, 10, end, end], [0, 4, 5])
    own = TranslationTemplate(tokenizer, bos_token="[CLS]", eos_token="[SEP]", suppressed_tokens=["[PAD]"])
    assert own.suppressed_ids == sorted([tokenizer.id("[CLS]"), tokenizer.id("[PAD]")])
    assert own.largest_id("encode_pairs") < tokenizer.vocab_size
    with pytest.raises(UserError, match="lacks the special token </s>"):
        TranslationTemplate(tokenizer, eos_token="</s>")


def data(tmp_path: Path, batch_config: BatchConfig, max_len: int = 40, **options: Any) -> TranslationDataModule:
    tokenizer = words()
    made = TranslationDataModule(
        DataContext(
            reader=ROWS,
            splits={"train": "train", "validation": "validation", "test": "test"},
            source=SampleSource(rows=200),
            tokenizer=tokenizer,
            template=TranslationTemplate(tokenizer),
            max_len=max_len,
            batch_config=batch_config,
            cache=tmp_path,
        ),
        **options,
    )
    made.setup()
    return made


def test_batches_hold_shifted_targets_and_references_are_the_texts(tmp_path: Path) -> None:
    made = data(tmp_path, BatchConfig(200, order="tokens"))
    batch = next(iter(made.train_dataloader()))
    real = batch["decoder_mask"]
    assert (batch["decoder_ids"][:, 0] == made.template.bos_id).all()
    assert torch.equal(batch["decoder_ids"][:, 1:][real[:, 1:]], batch["target_ids"][:, :-1][real[:, 1:]])
    assert torch.equal(batch["target_ids"] >= 0, real)
    ends = batch["target_ids"].gather(1, real.sum(1, keepdim=True) - 1)
    assert (ends == made.template.eos_id).all()
    texts = made.references("validation", "")
    number = 3
    source = made.val_dataloader()[0].collate_fn([number, -1 - 4])
    (told,) = made.tokenizer.encode([texts.sources[number]])
    assert source["ids"][0][source["padding_mask"][0]].tolist() == [*told, made.template.eos_id]
    assert source["example_ids"].tolist() == [3, -1]
    assert (source["target_ids"][1] == -1).all()  # a filler counts nowhere
    assert texts.language == "de"


def test_long_pairs_are_left_out_of_training_and_cut_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = data(tmp_path, BatchConfig(200, order="tokens"), max_len=10)
    train, test = made.tables["train"][""], made.tables["test"][""]
    assert len(train) + train.stats["too_long"] == 200
    assert train.stats["too_long"] > 20
    assert max(train.lengths.max(), train.target_lengths.max()) == 10
    assert len(test) == 200
    assert test.stats["truncated"] > 20
    assert f"{train.stats['too_long']} pairs left out: a side has more than 10 tokens" in caplog.text
    with pytest.raises(DataError, match=r"more than task\.max_len=4"):
        data(tmp_path, BatchConfig(200), max_len=4)


def lengths(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    sources = random.integers(2, 20, count)
    return sources, np.maximum(2, sources + random.integers(-3, 4, count))


def sampler(**batching: Any) -> TokenBudgetSampler:
    return TokenBudgetSampler(*lengths(), BatchConfig(BUDGET, order="tokens", seed=3, **batching))


def test_batches_fill_a_budget_of_tokens_on_both_sides_with_like_lengths() -> None:
    sources, targets = lengths()
    batches = list(sampler())
    assert len(batches) == len(sampler())
    assert sorted(row for batch in batches for row in batch) == list(range(300))
    held = np.asarray([[sources[batch].sum(), targets[batch].sum()] for batch in batches])
    assert held.max() <= BUDGET
    assert np.median(held.max(1)) > 0.75 * BUDGET
    assert np.mean([np.ptp(sources[batch]) for batch in batches]) < 1
    alone = TokenBudgetSampler(np.asarray([100, 3]), np.asarray([4, 3]), BatchConfig(BUDGET, order="tokens"))
    assert sorted(map(len, alone)) == [1, 1]


def test_epochs_differ_in_order_and_make_up_but_not_in_number() -> None:
    made = sampler()
    first = [tuple(batch) for batch in made]
    made.epoch = 1
    second = [tuple(batch) for batch in made]
    assert len(first) == len(second) == len(made)
    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert [tuple(batch) for batch in sampler()] == first


@pytest.mark.parametrize(("ranks", "micro"), [(2, None), (4, None), (1, 20), (2, 10)])
def test_any_ranks_and_micro_batches_see_the_same_global_batches(ranks: int, micro: int | None) -> None:
    whole = [set(batch) for batch in sampler()]
    parts = [list(sampler(ranks=ranks, rank=rank, micro_batch=micro)) for rank in range(ranks)]
    accumulation = BatchConfig(BUDGET, micro, ranks=ranks).accumulation
    assert {len(part) for part in parts} == {len(whole) * accumulation}
    for number, batch in enumerate(whole):
        mine = [
            row for part in parts for one in part[number * accumulation : (number + 1) * accumulation] for row in one
        ]
        assert sorted(row for row in mine if row >= 0) == sorted(batch)


def test_a_loader_goes_on_with_the_next_batch() -> None:
    def loader() -> BatchLoader:
        return BatchLoader(sampler(micro_batch=20), lambda rows: rows)

    first = loader()
    batches = list(first)
    again = loader()
    steps = iter(again)
    for _ in range(6):
        next(steps)
    other = loader()
    other.load_state_dict(again.state_dict())
    assert list(other) == batches[6:]
    assert list(other) == list(first)  # and the next epoch


def test_other_kinds_are_not_batched_by_tokens() -> None:
    with pytest.raises(ConfigurationError, match="batching=tokens"):
        MicroBatchSampler(np.arange(3), BatchConfig(4, order="tokens"), shuffle=True)


def test_a_vocabulary_is_learned_once_from_both_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SampleSource(rows=300)
    learned = LearnedVocabulary(size=600).learn(ROWS, source, "train", tmp_path)
    text = "the Dog läuft nicht ."
    assert learned.decode(learned.encode([text])[0]) == text
    for side in ("en", "de"):
        sides = source.load(ROWS, "train").table.column(side).to_pylist()
        assert (
            np.mean([len(ids) / len(one.split()) for ids, one in zip(learned.encode(sides), sides, strict=True)]) < 1.8
        )
    monkeypatch.setattr(
        "protoformer.data.learned_vocabulary.train", lambda *_, **__: pytest.fail("it was learned already")
    )
    again = LearnedVocabulary(size=600).learn(ROWS, source, "train[:50%]", tmp_path)
    assert again.digest == learned.digest


def test_the_samples_other_language_is_a_function_of_the_english_and_its_splits_share_no_event() -> None:
    from random import Random

    table = {split: generate("bentrevett/multi30k", None, split) for split in ("train", "validation", "test")}
    told: dict[str, str] = {}
    for actual in table.values():
        for english, other in zip(actual.column("en").to_pylist(), actual.column("de").to_pylist(), strict=True):
            assert told.setdefault(english, other) == other
    held_out = set(table["test"].column("en").to_pylist())
    assert not held_out & set(table["train"].column("en").to_pylist())
    assert len({foreign(word) for word in ("dog", "god", "doctor", "garden")}) == 4
    english, other = next(pairs(Random(1), range(10)))
    assert (english, other) == next(pairs(Random(1), range(10)))
    struct = generate("wmt/wmt14", "fr-en", "validation", rows=2).column("translation").to_pylist()
    assert set(struct[0]) == {"fr", "en"}
