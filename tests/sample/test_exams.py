"""The built-in sample of what GPT was tried on besides GLUE: each label follows from its row, and no half gives it away."""

import collections

import numpy as np
import pytest

from protoformer.sample import generate
from protoformer.sample.grammar.lexicon import AGENTS, OPPOSITE, THINGS, VERBS, WHEN, WHERE

SNLI = ("stanfordnlp/snli", "plain_text")
SCITAIL = ("allenai/scitail", "tsv_format")
STORY_CLOZE = ("LSDSem/story_cloze", "2016")
FORMS = {form: verb.base for verb in VERBS.values() for form in (verb.base, verb.past, verb.participle, *verb.other)}
MOODS = {"find": "happy", "repair": "happy", "lose": "sad", "damage": "sad", "sell": "rich", "buy": "poor"}


def test_labels_are_numbers_words_or_none() -> None:
    for split in ("train", "validation", "test"):
        counts = collections.Counter(generate(*SNLI, split, 0, 3000).column("label").to_pylist())
        assert set(counts) == {-1, 0, 1, 2}
        assert 20 < counts[-1] < 120
        assert min(counts[label] for label in (0, 1, 2)) > 850
        words = collections.Counter(generate(*SCITAIL, split, 0, 3000).column("label").to_pylist())
        assert set(words) == {"entails", "neutral"}
        assert min(words.values()) > 1350


@pytest.mark.parametrize(("subset", "lengths"), [("middle", {3, 4}), ("high", {4, 5, 6}), ("all", {3, 4, 5, 6})])
def test_the_right_answer_stands_in_the_article(subset: str, lengths: set[int]) -> None:
    rows = generate("ehovy/race", subset, "train", 0, 1500).to_pylist()
    assert {row["article"].count(" .") for row in rows} == lengths
    letters = collections.Counter(row["answer"] for row in rows)
    assert set(letters) == set("ABCD")
    assert min(letters.values()) > 280
    known = {"who": AGENTS, "what": THINGS, "where": WHERE, "when": WHEN}
    rivals = []
    for row in rows:
        right = row["options"]["ABCD".index(row["answer"])]
        assert len({option.split()[-1] for option in row["options"]}) == 4
        assert f"{right} " in row["article"]
        kind = known[row["question"].split()[0]]
        assert all(any(option.endswith(word) for word in kind) for option in row["options"])
        rivals.append(sum(f"{option} " in row["article"] for option in row["options"]))
    assert 2 < np.mean(rivals) < 3.5  # some wrong ones stand there too, some do not


def plain(text: str) -> set[str]:
    """The words that tell one sentence from another, synonyms as one."""
    said_anyway = {"the", "was", "did", "by", "who", "what", "where", "when", ".", "?"}
    return {FORMS.get(word, word) for word in text.split()} - said_anyway


def test_the_right_answer_is_that_of_the_sentence_most_like_the_question() -> None:
    for row in generate("ehovy/race", "all", "validation", 0, 500).to_pylist():
        sentences = [f" {sentence} ." for sentence in row["article"].removesuffix(" .").split(" . ")]
        chosen = max(sentences, key=lambda sentence: len(plain(row["question"]) & plain(sentence)))
        there = [letter for letter, option in zip("ABCD", row["options"], strict=True) if f" {option} " in chosen]
        assert row["answer"] in there, row
        assert len(there) == 1, row


def test_an_ending_follows_from_its_story() -> None:
    kinds = collections.Counter[str]()
    for row in generate(*STORY_CLOZE, "validation", 0, 3000).to_pylist():
        right, wrong = (row[f"sentence_quiz{n}"] for n in (row["answer_right_ending"], 3 - row["answer_right_ending"]))
        remark, last = row["input_sentence_3"].split(), row["input_sentence_4"].split()
        (verb,) = (FORMS[word] for word in last if word in FORMS)
        words = right.split()
        if words[1:4] == [remark[1], "was", "not"]:
            kinds["look"] += 1
            assert words[4] == OPPOSITE[remark[-2]]
            assert wrong == right.replace(words[4], remark[-2])
        elif " by the " in right:
            kinds["deed"] += 1
            assert (FORMS[words[3]], words[1] in last, wrong.split()[1] in last) == (verb, True, False)
            assert words[-2] in last
        else:
            kinds["mood"] += 1
            mood = MOODS[verb] if "not" not in last else OPPOSITE[MOODS[verb]]
            assert (words[-2], wrong.split()[-2]) == (mood, OPPOSITE[mood])
        named = [row[f"input_sentence_{n}"].split() for n in (1, 2, 4)]
        (hero,) = set.intersection(*(set(sentence) & set(AGENTS) for sentence in named))
        assert not [s for s in named[:2] if remark[1] in s or verb in [FORMS.get(word) for word in s]], hero
    assert min(kinds.values()) > 600


def counted(texts: list[str], vocabulary: dict[str, int]) -> np.ndarray:
    counts = np.zeros((len(texts), 400))
    for number, text in enumerate(texts):
        for word in text.split():
            counts[number, vocabulary.setdefault(word, len(vocabulary))] += 1
    return counts


def right_by_words(texts: tuple[list[str], list[str]], labels: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Scores of held-out texts by a ridge regression on word counts of the others."""
    vocabulary: dict[str, int] = {"": 0}
    x, z = (counted(part, vocabulary) for part in texts)
    x[:, 0] = z[:, 0] = 1
    solved = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ labels[0].astype(float))
    return np.asarray(z @ solved)


@pytest.mark.parametrize(
    ("name", "split", "columns", "answer", "bound"),
    [
        (STORY_CLOZE, "validation", ("sentence_quiz1", "sentence_quiz2"), "answer_right_ending", 0.57),
        (("ehovy/race", "all"), "train", ("options",), "answer", 0.32),
    ],
)
def test_choices_alone_do_not_give_the_label_away(
    name: tuple[str, str], split: str, columns: tuple[str, ...], answer: str, bound: float
) -> None:
    rows = generate(*name, split, 0, 6000).to_pylist()
    choices = [row[columns[0]] if len(columns) == 1 else [row[column] for column in columns] for row in rows]
    gold = np.array(["ABCD".index(row[answer]) if isinstance(row[answer], str) else row[answer] - 1 for row in rows])
    number = len(choices[0])
    shares = np.bincount(gold) / len(gold)
    assert abs(shares - 1 / number).max() < 0.03
    right = (gold[:, None] == np.arange(number)).astype(int)
    parts = [text for texts in choices[:5000] for text in texts], [text for texts in choices[5000:] for text in texts]
    scores = right_by_words(parts, (right[:5000].ravel(), right[5000:].ravel())).reshape(-1, number)
    assert (scores.argmax(1) == gold[5000:]).mean() < bound


def test_a_hypothesis_alone_does_not_give_the_label_away() -> None:
    rows = generate(*SNLI, "train", 0, 6000).to_pylist()
    rows = [row for row in rows if row["label"] >= 0]
    parts = [row["hypothesis"] for row in rows[:5000]], [row["hypothesis"] for row in rows[5000:]]
    gold = np.array([row["label"] for row in rows])
    scores = np.stack([right_by_words(parts, ((gold[:5000] == k), (gold[5000:] == k))) for k in range(3)], axis=1)
    assert (scores.argmax(1) == gold[5000:]).mean() < 0.7
