"""Rows as prompts: shots, their draws, overflow, and rows that cannot be used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.prompts.table import PromptTable
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, Source
from protoformer.errors import ConfigurationError, DataError
from protoformer.text.templates import GptTemplate
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

READER = PromptReader(
    "fruit", context="{premise|no_full_stop} {question}", choices=(" {a}", " {b}"),
    words={"question": {"cause": "because", "effect": "so"}},
)  # fmt: skip


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "premise": f"Fruit {n} fell.", "question": "cause" if n % 2 else "effect",
            "a": f"yes {n}", "b": f"no {n}", "label": n % 2,
        }
        for n in range(first, first + count)
    ]  # fmt: skip


class Rows:
    """A source of given rows."""

    def __init__(self, **splits: list[dict[str, Any]]) -> None:
        self.splits = splits

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return RawTable(pa.Table.from_pylist(self.splits[split]), f"fruit/{split}", f"digest of {self.splits[split]}")

    def stream(self, ref: DatasetRef, split: str, columns: Any = None) -> RawStream:
        raise NotImplementedError

    def corpus(self) -> None:
        return None


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = HFTokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([END_OF_TEXT])
    return Tokenizer(built, "bytes")


def module(
    tokenizer: Tokenizer,
    cache: Path,
    source: Source,
    reader: PromptReader = READER,
    max_len: int = 1000,
    **options: Any,
) -> InContextDataModule:
    context = DataContext(
        reader=reader,
        splits={"train": None, "validation": "validation", "test": None},
        source=source,
        tokenizer=tokenizer,
        template=GptTemplate(tokenizer),
        max_len=max_len,
        batch_config=BatchConfig(4),
        cache=cache,
    )
    built = InContextDataModule(context, **options)
    built.setup()
    return built


def texts(data: InContextDataModule) -> list[list[str]]:
    """The whole text of each sequence, example by example."""
    table = data.tables["validation"][""]
    return [[data.tokenizer.decode(each.ids) for each in table.sequences(example)] for example in range(len(table))]


def completions(data: InContextDataModule) -> list[str]:
    table = data.tables["validation"][""]
    return [
        data.tokenizer.decode(each.ids[each.start :])
        for example in range(len(table))
        for each in table.sequences(example)
    ]


def test_a_row_is_written_as_its_templates_say(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = module(tokenizer, tmp_path, Rows(validation=rows(2)))
    assert texts(data) == [
        ["Fruit 0 fell so yes 0", "Fruit 0 fell so no 0"],
        ["Fruit 1 fell because yes 1", "Fruit 1 fell because no 1"],
    ]
    assert completions(data) == [" yes 0", " no 0", " yes 1", " no 1"]
    assert data.tables["validation"][""].gold.tolist() == [0, 1]


def test_shots_are_the_same_for_all_examples_of_a_draw_and_others_in_the_next(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = Rows(train=rows(20, 100), validation=rows(3))
    data = module(tokenizer, tmp_path, source, shots=2, draws=2, shots_split="train")
    table: PromptTable = data.tables["validation"][""]
    assert table.draw.tolist() == [0, 0, 0, 1, 1, 1]
    assert table.row.tolist() == [0, 1, 2, 0, 1, 2]
    beginnings = [text.rpartition("\n\n")[0] for text, _ in texts(data)]
    assert len(set(beginnings[:3])) == len(set(beginnings[3:])) == 1
    assert beginnings[0] != beginnings[3]
    first, second = beginnings[0].split("\n\n")
    for shot in (first, second):  # with the right answer
        number = int(shot.rpartition(" ")[2])
        assert f" {'no' if number % 2 else 'yes'} {number}" in shot


def test_without_shots_one_draw_is_evaluated(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = module(tokenizer, tmp_path, Rows(train=rows(20, 100), validation=rows(3)), draws=5, shots_split="train")
    assert data.tables["validation"][""].draw.tolist() == [0, 0, 0]
    assert len(data.text_columns("validation", "")["context"]) == 3


def test_another_seed_draws_other_shots_and_the_same_one_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = Rows(train=rows(50, 100), validation=rows(1))
    drawn = [
        texts(module(tokenizer, tmp_path / str(n), source, shots=3, shots_split="train", shots_seed=seed))
        for n, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_example_is_no_shot_for_itself(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = module(tokenizer, tmp_path, Rows(validation=rows(4)), shots=3, shots_split="validation")
    for number, (text, _) in enumerate(texts(data)):
        *shots, question = text.split("\n\n")
        assert len(shots) == 3
        assert f"Fruit {number} " in question
        assert not any(f"Fruit {number} " in shot for shot in shots)


def test_shots_of_each_example_may_differ(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = Rows(train=rows(50, 100), validation=rows(6))
    data = module(tokenizer, tmp_path, source, shots=2, shots_split="train", shots_per="example")
    assert len({text.rpartition("\n\n")[0] for text, _ in texts(data)}) > 1


def test_a_description_stands_once_in_front(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = Rows(train=rows(20, 100), validation=rows(1))
    reader = replace(READER, description="Say why.", separator="\n")
    ((text, _),) = texts(module(tokenizer, tmp_path, source, reader, shots=2, shots_split="train"))
    assert text.split("\n")[0] == "Say why."
    assert text.count("\n") == 3


def test_more_shots_than_rows_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = Rows(train=rows(3, 100), validation=rows(3))
    with pytest.raises(ConfigurationError, match=r"task.shots=4: fruit/train has 3 usable rows"):
        module(tokenizer, tmp_path, source, shots=4, shots_split="train")
    with pytest.raises(ConfigurationError, match="an example is no shot for itself"):
        module(tokenizer, tmp_path, source, shots=3, shots_split="validation")
    with pytest.raises(ConfigurationError, match="no split to take shots from"):
        module(tokenizer, tmp_path, source, shots=1)


def test_shots_that_do_not_fit_are_dropped_from_the_left_and_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = Rows(train=rows(20, 100), validation=rows(2))
    whole = texts(module(tokenizer, tmp_path / "whole", source, shots=3, shots_split="train"))
    data = module(tokenizer, tmp_path / "cut", source, max_len=80, shots=3, shots_split="train")
    table = data.tables["validation"][""]
    assert table.stats["dropped"] == 2
    assert table.stats["truncated"] == 0
    for (cut, _), (text, _) in zip(texts(data), whole, strict=True):
        assert text.endswith(cut)
        assert cut.startswith("Fruit 1")  # whole shots: those nearest to the question stay
        assert len(cut) - 1 <= 80
    assert 0 < table.stats["shots"] < 6
    assert table.shots_left == table.stats["shots"] / 2
    assert any(f"fewer than 3 shots, {table.shots_left:.1f} on average:" in line for line in data.log_lines(table))


def test_a_missing_split_of_shots_is_named_with_its_key(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "fruit").mkdir()
    (tmp_path / "fruit" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(2)))
    source = LocalSource(str(tmp_path))
    with pytest.raises(DataError, match=r"task.shots=1 from task.data.shots_split=train: .* it has validation.jsonl"):
        module(tokenizer, tmp_path, source, shots=1, shots_split="train")


def test_a_context_that_does_not_fit_loses_its_beginning(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = module(tokenizer, tmp_path, Rows(validation=rows(1)), max_len=12)
    assert texts(data) == [["fell so yes 0", "fell so no 0"[-13:]]] or completions(data) == [" yes 0", " no 0"]
    assert completions(data) == [" yes 0", " no 0"]
    assert data.tables["validation"][""].stats["truncated"] == 1


def test_overflow_may_be_an_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1: its prompt is longer than the 12 tokens that the model reads"):
        module(tokenizer, tmp_path, Rows(validation=rows(1)), max_len=12, on_overflow="error")


def test_a_completion_that_never_fits_is_named_by_its_row(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1: a completion of 6 tokens is longer than the 4 that the model reads"):
        module(tokenizer, tmp_path, Rows(validation=rows(1)), max_len=4)


def test_completions_stand_behind_an_unconditional_context_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = module(tokenizer, tmp_path, Rows(validation=rows(1)), unconditional="Answer:")
    assert texts(data) == [["Fruit 0 fell so yes 0", "Fruit 0 fell so no 0", "Answer: yes 0", "Answer: no 0"]]


def test_contexts_may_differ_and_the_completion_be_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = PromptReader(
        "winograd", contexts=("{text|before_blank} {a}", "{text|before_blank} {b}"), choices=("{text|after_blank}",) * 2
    )
    row = {"text": "The cup does not fit since _ is big.", "a": "the cup", "b": "the bag", "label": 0}
    data = module(tokenizer, tmp_path, Rows(validation=[row]), reader)
    assert texts(data) == [["The cup does not fit since the cup is big.", "The cup does not fit since the bag is big."]]
    assert completions(data) == [" is big.", " is big."]


def test_options_of_a_row_are_choices_and_their_number_varies(tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = PromptReader(
        "arc", context="Question: {question}\nAnswer:", options="choices", completion=" {choice}", label="key"
    )
    given = [
        {"question": "Which?", "choices": {"text": ["ice", "fire", "air"], "label": ["A", "B", "C"]}, "key": "B"},
        {"question": "What?", "choices": {"text": ["one", "two"], "label": ["1", "2"]}, "key": "1"},
    ]
    data = module(tokenizer, tmp_path, Rows(validation=given), reader)
    assert completions(data) == [" ice", " fire", " air", " one", " two"]
    assert data.tables["validation"][""].gold.tolist() == [1, 0]


def test_answers_that_the_model_writes_leave_room_for_them(tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = PromptReader("qa", context="Q: {question}\nA:", completion=" {answer}", answers="answers.text")
    row = {"question": "Who fell over there?", "answers": {"text": ["the man", "a man"]}}
    data = module(tokenizer, tmp_path, Rows(validation=[row]), reader, max_new_tokens=5, max_len=20)
    ((text,),) = texts(data)
    assert text.endswith("A: the man")
    (sequence,) = data.tables["validation"][""].sequences(0)
    assert sequence.start + 5 - 1 == 20
    assert data.references("validation", "").examples[0, 0].answers == ["the man", "a man"]
    assert data.references("validation", "").stop_ids == {tokenizer.id(END_OF_TEXT), tokenizer.encode("\n")[0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"premise": None}, "column 'premise': no value of the field 'premise'"),
        ({"a": " "}, "column 'a': an empty choice"),
        ({"label": 2}, "column 'label': a label outside 0 to 1"),
        ({"question": "reason"}, r"column 'question': none of \['cause', 'effect'\]"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_skipped(
    tokenizer: Tokenizer, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    source = Rows(validation=[*rows(2), {**rows(1)[0], **change}])
    with pytest.raises(DataError, match=f"row 3.*{message}"):
        module(tokenizer, tmp_path, source)
    data = module(tokenizer, tmp_path, source, on_bad_row="skip")
    assert len(data.tables["validation"][""]) == 2
    assert data.tables["validation"][""].stats["skipped"] == 1


def test_a_row_without_a_gold_answer_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = PromptReader("qa", context="{question}", completion=" {answer}", answers="answers")
    given = [{"question": "Who?", "answers": ["me"]}, {"question": "Why?", "answers": []}]
    with pytest.raises(DataError, match=r"row 2.*no gold answer"):
        module(tokenizer, tmp_path, Rows(validation=given), reader, max_new_tokens=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choices": ("a",)}, "at least two choices"),
        ({"choices": ("a", "b"), "options": "c"}, "give one"),
        ({"choices": ("a", "b"), "contexts": ("x",)}, "1 contexts for 2 choices"),
        ({"options": "c"}, "say how an option is written"),
        ({}, "give choices, options or a completion"),
        ({"choices": ("{a", "b")}, "a brace that stands alone"),
    ],
)
def test_templates_that_do_not_fit_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PromptReader("x", context="{a}", **options)
