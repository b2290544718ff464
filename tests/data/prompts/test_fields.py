"""Fields that columns hold indirectly: spans, turns, replaced texts; rows with several right choices; shots that are read when
they are drawn."""

from typing import Any

import pyarrow as pa
import pytest

from protoformer.data.prompts.fields import Span, Turns, replaced
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.prompts.shots import ShotPool
from protoformer.data.sources.source import RawTable
from protoformer.errors import ConfigurationError, DataError
from protoformer.text.prompts.template import MissingFieldError


def table(*rows: dict[str, Any]) -> RawTable:
    return RawTable(pa.Table.from_pylist(list(rows)), "invented/validation", "digest")


def test_a_span_is_named_by_characters_or_words() -> None:
    row = {"text": "Ada saw Ben , for he waved .", "first": 18, "word": 5, "phrase": "he"}
    expected = {"before": "Ada saw Ben , for ", "after": " waved ."}
    assert Span("text", "first", "phrase").fields(row) == expected
    assert Span("text", "word", "phrase", "words").fields(row) == expected
    assert Span("text", "word", "phrase", "words").fields({**row, "word": 4}) == expected  # off by a word
    with pytest.raises(MissingFieldError):
        Span("text", "first", "phrase").fields({**row, "first": 20})


def test_each_turn_is_an_example_behind_those_before_it_and_the_last_one_is_a_shot() -> None:
    reader = PromptReader(
        "talk", context="{story}\n{history}Q: {question}\nA:", completion=" {answer}", answers="answers",
        turns={"questions": "questions", "answers": "answers.texts", "text": "Q: {question}\nA: {answer}", "separator": "\n"},
    )  # fmt: skip
    row = {"story": "Ada fell.", "questions": ["Who?", "Why?"], "answers": {"texts": [["Ada", "she"], ["a stone"]]}}
    raw = table(row, row)
    examples = reader.read(raw, "validation").examples
    assert [each.key for each in examples] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert examples[0].contexts == ["Ada fell.\nQ: Who?\nA:"]
    assert examples[1].contexts == ["Ada fell.\nQ: Who?\nA: Ada\nQ: Why?\nA:"]
    assert [list(each.answers) for each in examples[:2]] == [["Ada", "she"], ["a stone"]]
    assert ShotPool(reader, raw, 1, ["0"]).draw("0", 0) == ["Ada fell.\nQ: Who?\nA: Ada\nQ: Why?\nA: a stone"]
    short = {**row, "answers": {"texts": [["Ada"]]}}
    with pytest.raises(DataError, match=r"row 2, column 'answers': no value of the field 'answers.texts'"):
        reader.read(table(row, short), "validation")


def test_annotators_answer_each_turn_and_one_who_answered_nothing_is_left_out() -> None:
    paths = ["answers.text", "more.0", "more.1"]
    turns = Turns("questions", paths, "Q: {question} A: {answer}", "\n")
    row = {
        "questions": ["Who?", "Why?"],
        "answers": {"text": ["Ada", "a stone"]},
        "more": {"0": ["Ada", "stones"], "1": [""]},
    }
    fields = turns.fields(row)
    assert [each["answers"] for each in fields] == [["Ada", "Ada"], ["a stone", "stones"]]
    assert fields[1]["history"] == "Q: Who? A: Ada\n"
    with pytest.raises(MissingFieldError, match=r"more\.1"):
        turns.fields({**row, "more": {"0": ["Ada", "stones"], "1": ["Ada"]}})


def test_questions_of_a_passage_stand_behind_those_before_them() -> None:
    reader = PromptReader(
        "passages", context="{text}\n{history}Q: {q}\nA:", completion=" {answer}", answers="a", group="text",
        earlier="Q: {q}\nA: {answer}\n",
    )  # fmt: skip
    passages = ["Ada fell.", "Ben ran.", "Ada fell.", "Ada fell."]
    raw = table(*({"text": text, "q": f"{number}?", "a": ["yes", "y"]} for number, text in enumerate(passages)))
    contexts = [each.contexts[0] for each in reader.read(raw, "validation").examples]
    assert contexts[:2] == ["Ada fell.\nQ: 0?\nA:", "Ben ran.\nQ: 1?\nA:"]
    assert contexts[3] == "Ada fell.\nQ: 0?\nA: yes\nQ: 2?\nA: yes\nQ: 3?\nA:"
    pool = ShotPool(reader, raw, 1, ["2"])  # draws one row, and reads those that it shows
    (shot,) = pool.draw("2", -1)
    assert shot in [f"{context} yes" for context in contexts]
    assert {seed: ShotPool(reader, raw, 1, [seed]).draw(seed, -1) for seed in "0123456789"} == {
        seed: ShotPool(reader, raw, 1, list("0123456789")).draw(seed, -1) for seed in "0123456789"
    }
    with pytest.raises(ConfigurationError, match=r"task\.rows\.earlier: name the column"):
        PromptReader("passages", context="{history}", completion="x", earlier="{q}")


def test_answers_that_are_objects() -> None:
    reader = PromptReader(
        "numbers", context="{question}", completion=" {answer}", answers=["answer", "more"], answer_objects=True
    )  # fmt: skip
    nothing = {"number": "", "spans": [], "date": {"day": "", "month": "", "year": ""}}
    given = [
        {**nothing, "spans": ["Ada", "Ben"]},
        {**nothing, "number": "3"},
        {**nothing, "date": {"day": "2", "month": "", "year": "1920"}},
        nothing,
    ]
    row = {"question": "Who?", "answer": given[0], "more": {name: [each[name] for each in given] for name in nothing}}
    (example,) = reader.read(table(row), "validation").examples
    assert list(example.references) == [("Ada", "Ben"), ("Ada", "Ben"), ("3",), ("2 1920",)]
    assert (example.answers, example.shot) == (["Ada, Ben", "3", "2 1920"], "Who? Ada, Ben")
    empty = {"question": "Who?", "answer": nothing, "more": {name: [] for name in nothing}}
    with pytest.raises(DataError, match="no gold answer"):
        reader.read(table(empty), "validation")


def test_of_options_all_answers_are_right_and_one_is_needed() -> None:
    reader = PromptReader(
        "blank",
        context="{text}",
        options="names",
        completion=" {query|before:@x}{choice}{query|after:@x}",
        answers="right",
    )
    row = {"text": "A text.", "query": "It was @x .", "names": ["Ada", "Ben", "Eve"], "right": ["Ben", "Eve"]}
    (example,) = reader.read(table(row), "validation").examples
    assert example.completions == [" It was Ada .", " It was Ben .", " It was Eve ."]
    assert (example.gold, example.answers, example.options) == (1, ["Ben", "Eve"], ["Ada", "Ben", "Eve"])
    with pytest.raises(DataError, match="no gold answer"):
        reader.read(table({**row, "right": ["Gil"]}), "validation")


def test_numbers_stand_for_choices() -> None:
    reader = PromptReader("similar", context="{a}", choices=(" 0", " 1", " 2"), values=(0, 1, 2))
    examples = reader.read(table({"a": "x", "label": 1.6}, {"a": "y", "label": 0.2}), "validation").examples
    assert [(each.gold, round(each.number, 3)) for each in examples] == [(2, 1.6), (0, 0.2)]


def test_texts_are_replaced_in_lists_too_and_a_star_stands_for_other_values() -> None:
    assert replaced(["a [x] b", None, 3], {" [x]": ".", "b": "c"}) == ["a. c", None, 3]
    reader = PromptReader("words", context="{a}", completion="{b}", words={"a": {"one": "1", "*": "many"}})
    examples = reader.read(table({"a": "one", "b": "x"}, {"a": "six", "b": "y"}), "validation").examples
    assert [each.contexts[0] for each in examples] == ["1", "many"]


def test_an_answer_may_stand_in_several_columns_or_nowhere() -> None:
    reader = PromptReader(
        "qa", context="{q}", completion=" {answer}", answers=("first", "more.texts"), no_answer="none"
    )
    rows = [
        {"q": "Who?", "first": "Ada", "more": {"texts": ["she", "Ada"]}},
        {"q": "Why?", "first": None, "more": {"texts": []}},
    ]
    assert [each.answers for each in reader.read(table(*rows), "validation").examples] == [["Ada", "she"], ["none"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span": {"text": "a", "start": "b"}}, "task.rows.span.phrase is not set"),
        ({"span": {"text": "a", "start": "b", "phrase": "c", "unit": "bytes"}}, "characters or words"),
        ({"turns": {"asked": "a"}}, "task.rows.turns: no key 'asked'; there are questions, answers, text, separator"),
        ({"choices": ("a", "b"), "values": (1,)}, "a number for each"),
        ({"context": "{a|before}"}, "no filter 'before'; there are .*before:TEXT"),
        ({"context": "{a|first_words:x}"}, "first_words takes a number"),
    ],
)
def test_declarations_that_cannot_be_read_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PromptReader("x", **{"context": "{a}", "completion": "b", **options})


def test_only_the_rows_that_a_seed_draws_are_read() -> None:
    reader = PromptReader("large", context="{a}", completion=" {b}")
    rows: list[dict[str, Any]] = [{"a": f"{n}", "b": "x"} for n in range(50)]
    whole = ShotPool(reader, table(*rows), 2, ["0"], "skip").draw("0", 0)
    drawn = {int(text.split()[0]) for text in whole}
    for n in (
        set(range(50))
        - drawn
        - {int(text.split()[0]) for text in ShotPool(reader, table(*rows), 3, ["0"]).draw("0", 0)}
    ):
        rows[n]["b"] = None  # unusable, and never looked at
    assert ShotPool(reader, table(*rows), 2, ["0"]).draw("0", 0) == whole
    rows[min(drawn)]["b"] = None
    with pytest.raises(DataError, match=f"row {min(drawn) + 1}, column 'b'"):
        ShotPool(reader, table(*rows), 2, ["0"])


def test_turns_need_a_question_for_each_answer() -> None:
    with pytest.raises(MissingFieldError):
        Turns("q", "a", "{question}").fields({"q": ["x"], "a": []})
