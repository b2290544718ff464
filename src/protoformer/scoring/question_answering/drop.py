"""DROP's exact match and F1 (arXiv 1903.00161, section 5), as its official script counts them.

An answer is one phrase or several: a number, a date, or spans. Phrases are normalised word by word (words end at spaces and
hyphens): lower case, no punctuation and no articles, numbers as floating-point numbers. Each gold phrase is aligned with at
most one predicted phrase, so that the sum of the F1 of their sets of words is the greatest; a gold phrase with numbers matches
none that shares no number with it. The F1 of the answer is the mean over the phrases of the side that has more of them,
rounded to two digits. Of several annotators' answers the best one counts.
"""

import re
import string
from collections.abc import Sequence
from functools import cache

from protoformer.scoring.squad import ARTICLES

PUNCTUATION = frozenset(string.punctuation)
Phrases = Sequence[str]


def exact_match(prediction: Phrases, references: Sequence[Phrases]) -> float:
    """1.0 where the phrases are those of one of the references, in any order."""
    predicted = [normalized(phrase) for phrase in prediction]
    golds = [[normalized(phrase) for phrase in reference] for reference in _given(references)]
    return float(any(set(gold) == set(predicted) and len(gold) == len(predicted) for gold in golds))


def f1(prediction: Phrases, references: Sequence[Phrases]) -> float:
    """The F1 of aligned phrases, with the best of the references."""
    predicted = [_bag(phrase) for phrase in prediction]
    return max(
        (_aligned_f1(predicted, [_bag(phrase) for phrase in reference]) for reference in _given(references)),
        default=0.0,
    )


def normalized(phrase: str) -> str:
    """The form in which phrases are compared."""
    words = (_normalized_word(word) for word in re.split(" |-", phrase))
    return " ".join(word for word in words if word)


def _normalized_word(word: str) -> str:
    word = word.lower()
    if not _is_number(word):
        word = "".join(character for character in word if character not in PUNCTUATION)
    if _is_number(word):
        word = str(float(word))
    return " ".join(ARTICLES.sub(" ", word).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _given(references: Sequence[Phrases]) -> list[Phrases]:
    """References with text in their first phrase: annotators may have left a question out."""
    return [reference for reference in references if reference and reference[0].strip()]


def _bag(phrase: str) -> frozenset[str]:
    return frozenset(normalized(phrase).split())


def _aligned_f1(predicted: Sequence[frozenset[str]], gold: Sequence[frozenset[str]]) -> float:
    few, many = sorted((predicted, gold), key=len)

    @cache
    def best(index: int, used: int) -> float:
        """The greatest sum of `few[index:]` with those of `many` whose bits in `used` are 0."""
        if index == len(few):
            return 0.0
        sums = [best(index + 1, used)]  # aligned with none
        for other, bag in enumerate(many):
            if not used >> other & 1:
                pair = (few[index], bag) if few is predicted else (bag, few[index])
                if value := _bag_f1(*pair):
                    sums.append(value + best(index + 1, used | 1 << other))
        return max(sums)

    return round(best(0, 0) / max(1, len(many)), 2)


def _bag_f1(predicted: frozenset[str], gold: frozenset[str]) -> float:
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & predicted:
        return 0.0
    shared = len(gold & predicted)
    precision = shared / len(predicted) if predicted else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
