"""The built-in sample: the hub's schemas, labels that follow from the construction, splits that share nothing."""

import collections
import json
import subprocess
import sys
from random import Random

import numpy as np
import pytest

from protoformer.errors import DataError
from protoformer.sample import GLUE, SPLITS, available, corpus, generate, glue
from protoformer.sample.grammar.inference import contradicted, entailed, unknown
from protoformer.sample.grammar.lexicon import OPPOSITE, VERBS
from protoformer.sample.grammar.meaning import Event, bucket, draw, realise
from protoformer.text.tokenizers import whole_word_tokenizer

COLUMNS = {
    "cola": ["sentence", "label", "idx"],
    "sst2": ["sentence", "label", "idx"],
    "mrpc": ["sentence1", "sentence2", "label", "idx"],
    "stsb": ["sentence1", "sentence2", "label", "idx"],
    "qqp": ["question1", "question2", "label", "idx"],
    "mnli": ["premise", "hypothesis", "label", "idx"],
    "qnli": ["question", "sentence", "label", "idx"],
    "rte": ["sentence1", "sentence2", "label", "idx"],
    "wnli": ["sentence1", "sentence2", "label", "idx"],
    "ax": ["premise", "hypothesis", "label", "idx"],
}
CLASSES = {"mnli": 3, "ax": 3}


def texts(subset: str, split: str, rows: int = 400) -> list[tuple[str, ...]]:
    table = generate(GLUE, subset, split, 0, rows)
    return list(zip(*(table.column(name).to_pylist() for name in COLUMNS[subset][:-2]), strict=True))


@pytest.mark.parametrize("subset", SPLITS)
def test_schemas_and_labels_are_the_hubs(subset: str) -> None:
    for split in SPLITS[subset]:
        table = generate(GLUE, subset, split, 0, 60)
        assert table.column_names == COLUMNS[subset]
        labels = table.column("label").to_pylist()
        assert table.column("idx").to_pylist() == list(range(60))
        if split.startswith("test") and subset != "mrpc":
            assert set(labels) == {-1}
        elif subset == "stsb":
            assert set(labels) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
            assert len(set(labels)) > 3
        else:
            assert set(labels) == set(range(CLASSES.get(subset, 2)))
        assert all(text.strip() for row in texts(subset, split, 60) for text in row)


@pytest.mark.parametrize("subset", [subset for subset in SPLITS if subset != "ax"])
def test_no_row_stands_in_two_splits(subset: str) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for split in SPLITS[subset]:
        for row in texts(subset, split, 1500):
            assert seen.setdefault(row, split) == split, row


def test_events_of_train_and_dev_differ_in_who_did_what_to_whom() -> None:
    sets = {}
    for role, buckets in (("train", range(4, 10)), ("validation", range(2)), ("test", range(2, 4))):
        fresh = glue.events(Random(role), buckets)
        sets[role] = {fresh().core for _ in range(3000)}
    assert not sets["train"] & sets["validation"]
    assert not sets["train"] & sets["test"]
    assert not sets["validation"] & sets["test"]


def test_the_same_rows_in_another_process() -> None:
    script = (
        "import json; from protoformer.sample import generate\n"
        "pairs = (('mnli', 'train'), ('stsb', 'test'))\n"
        "print(json.dumps([generate('nyu-mll/glue', t, s, 3, 20).to_pydict() for t, s in pairs]))"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    here = [generate(GLUE, task, split, 3, 20).to_pydict() for task, split in (("mnli", "train"), ("stsb", "test"))]
    assert json.loads(completed.stdout) == here
    assert generate(GLUE, "mnli", "train", 4, 20).to_pydict() != here[0]


def consistent(one: Event, other: Event) -> bool:
    """Whether both may be true of one situation, judged from their parts."""
    clash = any(
        getattr(one, name) and getattr(other, name) == OPPOSITE.get(getattr(one, name))
        for name in ("agent_adjective", "thing_adjective")
    )
    return not clash and other.verb != VERBS[one.verb].opposite and one.negated == other.negated


def test_relations_hold_by_construction() -> None:
    random = Random(1)
    for _ in range(2000):
        premise = draw(random, said=0.4, negated=0.2)
        weaker = entailed(premise, random, "town")
        assert consistent(premise, weaker)
        assert set(weaker.said()) <= set(premise.said())
        if premise.negated:
            assert weaker == premise
        assert not consistent(premise, contradicted(premise, random, "town"))
        more = unknown(premise, random, "town")
        assert more != premise
        assert consistent(premise, more)
        new = set(more.said()) - set(premise.said())
        assert new or (more.agent, more.verb, more.thing) != premise.core


def test_questions_that_ask_the_same_are_duplicates() -> None:
    synonyms = {past: VERBS[base].past for base in VERBS for past in (VERBS[base].other[1],)}
    synonyms |= {VERBS[base].other[0]: base for base in VERBS}
    table = generate(GLUE, "qqp", "train", 0, 4000).to_pydict()
    for first, second, label in zip(table["question1"], table["question2"], table["label"], strict=True):
        plain = [" ".join(synonyms.get(word, word) for word in text.split()) for text in (first, second)]
        assert (plain[0] == plain[1]) == bool(label), (first, second)


def test_wordings_differ_and_mean_the_same() -> None:
    event = Event("doctor", "buy", "lamp", place="at the market")
    wordings = {
        realise(event, passive=passive, synonym=synonym) for passive in (False, True) for synonym in (False, True)
    }
    assert wordings == {
        "the doctor bought the lamp at the market .",
        "the doctor purchased the lamp at the market .",
        "the lamp was bought by the doctor at the market .",
        "the lamp was purchased by the doctor at the market .",
    }


def accuracy_of_words(subset: str, column: int) -> float:
    """Held-out accuracy of a bag of words over one of the texts (ridge regression on word counts)."""
    train, dev = ("train", "validation_matched" if subset == "mnli" else "validation")
    vocabulary: dict[str, int] = collections.defaultdict(lambda: len(vocabulary))

    def counted(split: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
        table = generate(GLUE, subset, split, 0, rows)
        actual = [[vocabulary[word] for word in text.split()] for text in table.column(column).to_pylist()]
        counts = np.zeros((rows, 400))
        for number, words in enumerate(actual):
            np.add.at(counts[number], words, 1.0)
        return counts, np.array(table.column("label").to_pylist(), dtype=int)

    x, y = counted(train, 4000)
    z, gold = counted(dev, 500)
    targets = np.eye(y.max() + 1)[y]
    solved = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ targets)
    return float(((z @ solved).argmax(1) == gold).mean())


@pytest.mark.parametrize(
    ("subset", "column", "bound"), [("mnli", 1, 0.6), ("rte", 1, 0.75), ("mrpc", 1, 0.7), ("qqp", 1, 0.65)]
)
def test_half_of_a_pair_does_not_give_the_label_away(subset: str, column: int, bound: float) -> None:
    assert accuracy_of_words(subset, column) < bound


def test_the_corpus_holds_every_word_of_every_split() -> None:
    words = whole_word_tokenizer(corpus(), "the sample")
    unknown_id = words.id("[UNK]")
    for dataset, subset, split in available():
        if dataset != GLUE:
            continue
        for row in texts(subset, split, 100):
            for text in row:
                assert unknown_id not in words.encode([text])[0], text


def test_what_it_has_not_is_told() -> None:
    with pytest.raises(DataError, match="its splits are train, validation_matched"):
        generate(GLUE, "mnli", "validation")
    with pytest.raises(
        DataError, match=r"has no rajpurkar/squad/squad.*it has .*nyu-mll/glue/ax, .*rajpurkar/squad/plain_text"
    ):
        generate("rajpurkar/squad", "squad", "train")


def test_buckets_are_even() -> None:
    random = Random(0)
    counts = collections.Counter(bucket(draw(random).core) for _ in range(20000))
    assert min(counts.values()) > 0.7 * 2000
