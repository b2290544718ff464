"""The sample's sentences with their trees."""

from itertools import product
from random import Random

from protoformer.sample.grammar.meaning import Event, draw, realise
from protoformer.sample.grammar.trees import tree


def test_the_words_are_those_of_the_sentence() -> None:
    random = Random(0)
    for number in range(300):
        event = draw(random, ("town", "country")[number % 2], said=0.5, negated=0.3)
        for passive, synonym in product((False, True), repeat=2):
            words = tree(event, passive=passive, synonym=synonym)
            assert " ".join(word.form for word in words) == realise(event, passive=passive, synonym=synonym)
            assert sum(word.head == 0 for word in words) == 1
            assert all(word.head != number for number, word in enumerate(words, start=1))


def test_an_active_and_a_passive_sentence() -> None:
    parts = {"thing_adjective": "red", "place": "in the garden", "time": "last week", "manner": "slowly"}
    event = Event("dog", "buy", "hat", **parts, negated=True)  # type: ignore[arg-type]
    arcs = {
        word.form: (word.relation, words[word.head - 1].form) for words in [tree(event)] for word in words if word.head
    }
    assert arcs["dog"] == ("nsubj", "buy")
    assert arcs["hat"] == ("obj", "buy")
    assert arcs["red"] == ("amod", "hat")
    assert arcs["did"] == ("aux", "buy")
    assert arcs["not"] == arcs["slowly"] == ("advmod", "buy")
    assert arcs["in"] == ("case", "garden")
    assert arcs["garden"] == arcs["week"] == ("obl", "buy")
    assert arcs["last"] == ("amod", "week")
    assert arcs["."] == ("punct", "buy")
    words = tree(event, passive=True)
    arcs = {word.form: (word.relation, words[word.head - 1].form) for word in words if word.head}
    assert arcs["hat"] == ("nsubj:pass", "bought")
    assert arcs["dog"] == ("obl:agent", "bought")
    assert arcs["by"] == ("case", "dog")
    assert arcs["was"] == ("aux:pass", "bought")
