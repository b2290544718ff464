"""The built-in sample beyond GLUE: questions on stories, choices, and the corpus to pretrain on."""

import collections
import itertools
import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from protoformer.data.examples.extractive_qa import ExtractiveQAReader, QuestionExamples
from protoformer.data.sources.sample import SampleSource
from protoformer.data.sources.source import RawTable
from protoformer.errors import DataError
from protoformer.sample import BUCKETS, GLUE, available, corpus, generate, size
from protoformer.sample.grammar.lexicon import AGENTS, BAD, GOOD, OPPOSITE, THINGS, VERBS
from protoformer.sample.grammar.meaning import bucket
from protoformer.text.tokenizers import whole_word_tokenizer

SQUAD = ("rajpurkar/squad", "plain_text")
SQUAD_V2 = ("rajpurkar/squad_v2", "squad_v2")
SWAG = ("allenai/swag", "regular")
COPA = ("aps/super_glue", "copa")
BOOKCORPUS = ("bookcorpus/bookcorpus", None)
WIKIPEDIA = ("wikimedia/wikipedia", "20231101.en")
SNLI = ("stanfordnlp/snli", "plain_text")
SCITAIL = ("allenai/scitail", "tsv_format")
RACE, RACE_MIDDLE, RACE_HIGH = (("ehovy/race", subset) for subset in ("all", "middle", "high"))
STORY_CLOZE = ("LSDSem/story_cloze", "2016")
GPTS = (SNLI, SCITAIL, RACE, RACE_MIDDLE, RACE_HIGH, STORY_CLOZE)
NEW = (SQUAD, SQUAD_V2, SWAG, COPA, BOOKCORPUS, WIKIPEDIA, *GPTS)
SQUADS = {"one": SQUAD, "two": SQUAD_V2}
FORMS = {form: verb.base for verb in VERBS.values() for form in (verb.base, verb.past, verb.participle, *verb.other)}

READ = {
    "video-id": "string",
    "fold-ind": "string",
    "startphrase": "string",
    "sent1": "string",
    "sent2": "string",
    "gold-source": "string",
    **{f"ending{number}": "string" for number in range(4)},
    "label": "int64",
}
ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
ASKED = {"id": "string", "title": "string", "context": "string", "question": "string", "answers": str(ANSWERS)}
EXAM = {**dict.fromkeys(("example_id", "article", "answer", "question"), "string"), "options": "list<item: string>"}
SCHEMAS = {
    SNLI: {"premise": "string", "hypothesis": "string", "label": "int64"},
    SCITAIL: dict.fromkeys(("premise", "hypothesis", "label"), "string"),
    **dict.fromkeys((RACE, RACE_MIDDLE, RACE_HIGH), EXAM),
    STORY_CLOZE: {
        **dict.fromkeys(("story_id", *(f"input_sentence_{n}" for n in (1, 2, 3, 4))), "string"),
        **dict.fromkeys(("sentence_quiz1", "sentence_quiz2"), "string"),
        "answer_right_ending": "int64",
    },
    SQUAD: ASKED,
    SQUAD_V2: ASKED,
    SWAG: READ,
    COPA: {**dict.fromkeys(("premise", "choice1", "choice2", "question"), "string"), "idx": "int32", "label": "int64"},
    BOOKCORPUS: {"text": "string"},
    WIKIPEDIA: dict.fromkeys(("id", "url", "title", "text"), "string"),
}


def splits(name: tuple[str, str]) -> list[str]:
    return [split for *results, split in available() if tuple(results) == name]


def said(row: dict[str, Any]) -> list[str]:
    """What a model reads of a row."""
    unread = {"id", "title", "url", "video-id", "fold-ind", "gold-source", "example_id", "answer", "story_id", "label"}
    unread |= {"question"} if "premise" in row else set()
    texts = [value for name, value in row.items() if isinstance(value, str) and name not in unread]
    return [*texts, *row.get("options", [])]


def test_the_sample_has_these_splits() -> None:
    assert {name: splits(name) for name in NEW} == {
        SQUAD: ["train", "validation"],
        SQUAD_V2: ["train", "validation"],
        SWAG: ["train", "validation", "test"],
        COPA: ["train", "validation", "test"],
        BOOKCORPUS: ["train"],
        WIKIPEDIA: ["train"],
        **{name: ["train", "validation", "test"] for name in (SNLI, SCITAIL, RACE, RACE_MIDDLE, RACE_HIGH)},
        STORY_CLOZE: ["validation", "test"],
    }
    assert size(*SQUAD, "train") == 10000
    assert size(*WIKIPEDIA, "train") == 4000
    assert size(*BOOKCORPUS, "train") == size(*SWAG, "train") == size(GLUE, "mnli", "train") == 20000
    assert size(GLUE, "mnli", "validation_matched") == size(*COPA, "validation") == 500
    assert generate(*COPA, "test").num_rows == size(*COPA, "test") == 200
    with pytest.raises(DataError, match=r"its splits are train, validation$"):
        size(*SQUAD, "test")


@pytest.mark.parametrize("name", NEW)
def test_schemas_are_the_hubs(name: tuple[str, str]) -> None:
    for split in splits(name):
        table = generate(*name, split, 0, 50)
        assert {field.name: str(field.type) for field in table.schema} == SCHEMAS[name]
        assert table.num_rows == 50
        if split == "test" and name not in GPTS:
            assert set(table.column("label").to_pylist()) == {-1}
        for row in table.to_pylist():
            assert all(text.strip() for text in said(row))


@pytest.mark.parametrize("name", NEW)
def test_another_seed_gives_other_rows_and_fewer_are_the_first(name: tuple[str, str]) -> None:
    split = splits(name)[0]
    rows = generate(*name, split, 0, 60).to_pylist()
    assert generate(*name, split, 0, 20).to_pylist() == rows[:20]
    assert generate(*name, split, 1, 60).to_pylist() != rows


def test_the_same_rows_in_another_process() -> None:
    script = (
        "import json, sys; from protoformer.sample import generate\n"
        "print(json.dumps([generate(*name, 3, 20).to_pydict() for name in json.loads(sys.argv[1])]))"
    )
    firsts = [(*name, splits(name)[0]) for name in NEW]
    completed = subprocess.run(
        [sys.executable, "-c", script, json.dumps(firsts)], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(completed.stdout) == [generate(*name, 3, 20).to_pydict() for name in firsts]


@pytest.mark.parametrize("name", NEW)
def test_the_vocabulary_of_the_sample_holds_every_word(name: tuple[str, str]) -> None:
    words = whole_word_tokenizer(corpus(), "the sample")
    for split in splits(name):
        texts = [text for row in generate(*name, split, 1, 600).to_pylist() for text in said(row)]
        for text, ids in zip(texts, words.encode(texts), strict=True):
            pieces = [words.hf_tokenizer.id_to_token(number) for number in ids]
            assert not [piece for piece in pieces if piece == "[UNK]" or piece.startswith("##")], text


def cores(text: str) -> set[tuple[str, str, str]]:
    """Who did what to what, of every sentence that tells it in full."""
    results = set()
    for sentence in re.split(r"[.?]\s*", text.lower()):
        words = sentence.split()
        parts = [[word for word in words if word in among] for among in (AGENTS, THINGS)]
        verbs = [FORMS[word] for at, word in enumerate(words) if word in FORMS and words[at - 1] != "the"]
        if len(verbs) == 1 and all(len(part) == 1 for part in parts):
            results.add((parts[0][0], verbs[0], parts[1][0]))
    return results


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (SQUAD, ["context"]),
        (SQUAD_V2, ["context", "question"]),
        (SWAG, ["sent1"]),
        (COPA, ["premise", "choice1", "choice2"]),
        (SNLI, ["premise"]),
        (SCITAIL, ["premise"]),
        (RACE, ["article"]),
        (STORY_CLOZE, [f"input_sentence_{number}" for number in (1, 2, 4)]),
    ],
)
def test_nothing_that_happens_stands_in_two_splits(name: tuple[str, str], columns: list[str]) -> None:
    rows: dict[tuple[str, ...], str] = {}
    for split in splits(name):
        told = set()
        for row in generate(*name, split, 0, 1500).to_pylist():
            assert rows.setdefault(tuple(said(row)), split) == split
            told |= {core for column in columns for core in cores(row[column])}
        assert len(told) > 200
        assert {bucket(core) for core in told} <= set(BUCKETS[split])


@pytest.mark.parametrize("name", [BOOKCORPUS, WIKIPEDIA])
def test_the_corpus_tells_nothing_of_the_validation_splits(name: tuple[str, str]) -> None:
    told = {core for text in generate(*name, "train", 0, 1500).column("text").to_pylist() for core in cores(text)}
    assert len(told) > 200
    assert {bucket(core) for core in told} <= set(BUCKETS["train"])
    judged = set(generate(GLUE, "sst2", "validation").column("sentence").to_pylist())
    assert not judged & set(generate(*BOOKCORPUS, "train").column("text").to_pylist())


def read(version: str, split: str, rows: int) -> QuestionExamples:
    source = SampleSource(rows=rows)
    dataset, subset = SQUADS[version]
    reader = ExtractiveQAReader(dataset, subset=subset, unanswerable=version == "two")
    raw: RawTable = source.load(reader, split)
    return reader.read(raw, "train")  # the role under which starts are checked


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("version", SQUADS)
def test_answers_stand_in_their_stories(version: str, split: str) -> None:
    results = read(version, split, 1000)
    assert results.skipped == 0
    assert len(set(results.ids)) == 1000
    numbers = collections.Counter(len(texts) for texts in results.answers)
    assert set(numbers) - {0} == ({1} if split == "train" else {1, 2, 3})
    assert (300 < numbers[0] < 500) if version == "two" else numbers[0] == 0
    for context, texts, starts in zip(results.contexts, results.answers, results.starts, strict=True):
        assert len({(start + len(text)) for start, text in zip(starts, texts, strict=True)}) <= 1
        for text, start in zip(texts, starts, strict=True):
            assert f" {context} "[start : start + len(text) + 2] == f" {text} "


@pytest.mark.parametrize("version", SQUADS)
def test_stories_hold_other_answers_of_the_kind(version: str) -> None:
    results = read(version, "train", 1000)
    kinds = {
        "where": r"\b(?:in the|at the|near|by the|on the) (?!\w+ by)\w+",
        "when": r"yesterday|\bmonday|week|lunch|night|dawn|winter|noon",
    }
    lengths = [context.count(" .") for context in results.contexts]
    assert set(lengths) == {3, 4, 5, 6}
    words = collections.Counter(question.split()[0] for question in results.questions)
    assert min(words[word] for word in ("where", "when", "who", "what")) > 180
    rivals = [
        len(re.findall(kinds[question.split()[0]], context))
        for question, context in zip(results.questions, results.contexts, strict=True)
        if question.split()[0] in kinds
    ]
    assert min(rivals) >= 1
    assert np.mean([number > 1 for number in rivals]) > 0.9
    if version == "one":  # neither the beginning nor the end of a story is favoured
        places = [starts[0] / len(context) for starts, context in zip(results.starts, results.contexts, strict=True)]
        assert 0.42 < np.mean(places) < 0.58


def plain(text: str) -> set[str]:
    """The words that tell one sentence of a story from another, synonyms as one."""
    said_anyway = {"the", "was", "did", "by", "who", "what", "where", "when", ".", "?"}
    return {FORMS.get(word, word) for word in text.split()} - said_anyway


def test_the_sentence_most_like_the_question_holds_the_answer() -> None:
    results = read("one", "validation", 500)
    for question, context, (start, *_) in zip(results.questions, results.contexts, results.starts, strict=True):
        chosen = max(context.split(" . "), key=lambda sentence: len(plain(question) & plain(sentence)))
        at = context.index(chosen)
        assert at <= start < at + len(chosen), (question, context)


def bag(texts: list[str], vocabulary: dict[str, int]) -> np.ndarray:
    counts = np.zeros((len(texts), 400))
    for number, text in enumerate(texts):
        for word in text.split():
            counts[number, vocabulary.setdefault(word, len(vocabulary))] += 1
    return counts


def fitted(texts: list[str], right: list[int], held_out: list[str]) -> np.ndarray:
    """Scores of held-out texts by a ridge regression on word counts."""
    vocabulary: dict[str, int] = {"": 0}
    x, z = bag(texts, vocabulary), bag(held_out, vocabulary)
    x[:, 0] = z[:, 0] = 1
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ np.array(right, dtype=float))
    return np.asarray(z @ weights)


@pytest.mark.parametrize(
    ("name", "columns", "bound"),
    [
        (SWAG, [f"ending{number}" for number in range(4)], 0.31),
        (COPA, ["choice1", "choice2"], 0.57),
    ],
)
def test_an_ending_or_choice_alone_does_not_give_the_label_away(
    name: tuple[str, str], columns: list[str], bound: float
) -> None:
    train, dev = generate(*name, "train", 0, 6000).to_pydict(), generate(*name, "validation", 0, 2000).to_pydict()
    share = np.bincount(dev["label"]) / 2000
    assert len(share) == len(columns)
    assert abs(share - 1 / len(columns)).max() < 0.04
    texts = [text for column in columns for text in train[column]]
    right = [int(label == number) for number in range(len(columns)) for label in train["label"]]
    scores = fitted(texts, right, [text for column in columns for text in dev[column]]).reshape(len(columns), -1)
    assert (scores.argmax(0) == np.array(dev["label"])).mean() < bound


def test_a_question_alone_does_not_say_whether_it_has_an_answer() -> None:
    train, dev = read("two", "train", 4000), read("two", "validation", 1000)
    gold = np.array([bool(texts) for texts in dev.answers])
    scores = fitted(train.questions, [int(bool(texts)) for texts in train.answers], dev.questions)
    assert ((scores > 0.5) == gold).mean() < gold.mean() + 0.04


def test_endings_differ_and_follow_from_the_sentence() -> None:
    rows = generate(*SWAG, "train", 0, 3000).to_pylist()
    starts = collections.Counter()
    for row in rows:
        endings = [row[f"ending{number}"] for number in range(4)]
        assert len(set(endings)) == 4
        assert row["startphrase"] == f"{row['sent1']} {row['sent2']}"
        right = endings[row["label"]]
        if row["sent2"].endswith(" was not") and len(right.split()) == 2:
            starts["denied"] += 1
            assert f"{OPPOSITE[right.split()[0]]} {row['sent2'].split()[1]}" in row["sent1"]
        elif row["sent2"].startswith("what"):
            starts["described"] += 1
            assert right.removeprefix("an ").removeprefix("a ").removesuffix(" .").split()[1] in row["sent1"]
            assert " ".join(right.split()[3:-1]) in row["sent1"]
        elif " by the " in right:
            starts["restated"] += 1
            assert {FORMS[right.split()[0]]} == {verb for _, verb, _ in cores(row["sent1"])}
            assert right.split()[3] in row["sent1"]
        elif len(row["sent2"].split()) == 2:
            starts["undone"] += 1
            (core,) = cores(row["sent1"])
            assert (VERBS[core[1]].opposite, core[2]) == (FORMS[right.split()[0]], right.split()[2])
        else:
            starts["felt"] += 1
            assert right.split()[0] in ("happy", "sad", "rich", "poor")
            assert " ".join(right.split()[1:-1]) in row["sent1"]
    assert min(starts.values()) > 300
    assert len(starts) == 5


def test_causes_and_effects_are_balanced() -> None:
    rows = generate(*COPA, "train", 0, 3000).to_pylist()
    counts = collections.Counter((row["question"], row["label"]) for row in rows)
    assert set(counts) == {("cause", 0), ("cause", 1), ("effect", 0), ("effect", 1)}
    assert min(counts.values()) > 600
    assert all(len({row["premise"], row["choice1"], row["choice2"]}) == 3 for row in rows)
    sizes = [row for row in rows if "did not fit" in row["premise"]]
    assert len(sizes) > 100
    for row in sizes:  # a container is in the way when it is small, a thing when it is big
        right = row[f"choice{row['label'] + 1}"].split()
        assert (right[-2] in ("small", "narrow")) == (right[1] == row["premise"].split()[-2])


def test_documents_are_paragraphs_of_sentences_that_hang_together() -> None:
    rows = generate(*WIKIPEDIA, "train", 0, 500).to_pylist()
    assert [row["id"] for row in rows[:3]] == ["1", "2", "3"]
    lengths = collections.Counter[int]()
    named = {*AGENTS, *THINGS}
    shared = []
    for row in rows:
        paragraphs = row["text"].split("\n\n")
        sentences = [part for paragraph in paragraphs for part in re.findall(r"[^.]+ \.", paragraph)]
        assert " ".join(sentences).split() == row["text"].split()
        assert all(sentence.strip()[0].isupper() for sentence in sentences)
        lengths[len(sentences)] += 1
        bags = [named & set(sentence.lower().split()) for sentence in sentences]
        shared += [bool(one & other) for one, other in itertools.pairwise(bags) if one and other]
    assert set(lengths) == set(range(4, 13))
    assert np.mean(shared) > 0.8
    assert max(text.count("\n\n") for text in (row["text"] for row in rows)) > 1


def test_books_are_sentences_one_after_another() -> None:
    texts = generate(*BOOKCORPUS, "train", 0, 4000).column("text").to_pylist()
    assert all(text.endswith(" .") and text == text.lower() and "\n" not in text for text in texts)
    assert len(set(texts)) > 3500
    praise = [
        (bool({*GOOD} & {*text.split()}), bool({*BAD} & {*text.split()}))
        for text in texts
        if " not " not in text and "although" not in text
    ]
    assert sum(good and bad for good, bad in praise) == 0
    assert min(sum(good for good, _ in praise), sum(bad for _, bad in praise)) > 200
    for phrase in ("was a person", "did not sell", "because it was", "was not light", "where did", "in the garden"):
        assert any(phrase in text for text in texts), phrase
