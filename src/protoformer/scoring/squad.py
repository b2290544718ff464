"""SQuAD's exact match and F1 (arXiv 1606.05250, section 6; v2.0: arXiv 1806.03822), as its official scripts count them.

An answer is normalised (lower case; no punctuation, no articles, single spaces), then compared with each gold answer, the
best one counting. In v2.0 a question may have no answer: the empty text is then right. All numbers lie between 0 and 1;
the papers print them times 100.

Differs: v2.0's script starts its search for a threshold at 0.0 and returns that when no answer at all is worth giving;
`best_threshold` then returns a threshold below every odds, which means the same whatever the odds are.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = frozenset(string.punctuation)


def normalized(answer: str) -> str:
    """The form in which answers are compared."""
    bare = "".join(character for character in answer.lower() if character not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, gold: Sequence[str]) -> float:
    """1.0 when the prediction is one of the gold answers. No gold answer: the empty prediction is right."""
    return max(float(normalized(prediction) == normalized(answer)) for answer in _answers(gold))


def f1(prediction: str, gold: Sequence[str]) -> float:
    """F1 = 2 P R / (P + R) of the words shared with a gold answer; the best gold answer counts."""
    return max(_f1(normalized(prediction).split(), normalized(answer).split()) for answer in _answers(gold))


def _answers(gold: Sequence[str]) -> Sequence[str]:
    """Gold answers that are nothing once normalised do not count, unless there is no other."""
    return [answer for answer in gold if normalized(answer)] or [""]


def _f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class Scored:
    """Each question's scores for one set of predictions, by id."""

    exact_match: Mapping[str, float]
    f1: Mapping[str, float]


def each(predictions: Mapping[str, str], gold: Mapping[str, Sequence[str]]) -> Scored:
    """Scores question by question. Raises ValueError when predictions and gold answers are not of the same questions."""
    if predictions.keys() != gold.keys():
        strange = sorted(set(predictions) ^ set(gold))[:3]
        raise ValueError(f"predictions and gold answers differ in their questions: {', '.join(strange)}, ...")
    return Scored(
        {name: exact_match(text, gold[name]) for name, text in predictions.items()},
        {name: f1(text, gold[name]) for name, text in predictions.items()},
    )


def score(predictions: Mapping[str, str], gold: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Means over all questions, and where some have no answer, over those with one (`HasAns`) and without (`NoAns`)."""
    if not gold:
        raise ValueError("no questions to score")
    scored = each(predictions, gold)
    return means(scored, gold)


def means(scored: Scored, gold: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """As `score`, from the scores of single questions."""
    subsets = {"": list(gold)}
    unanswerable = [name for name, answers in gold.items() if not answers]
    if unanswerable:
        subsets |= {"HasAns/": [name for name, answers in gold.items() if answers], "NoAns/": unanswerable}
    metrics = {}
    for prefix, names in subsets.items():
        if names:
            metrics[f"{prefix}exact_match"] = sum(scored.exact_match[name] for name in names) / len(names)
            metrics[f"{prefix}f1"] = sum(scored.f1[name] for name in names) / len(names)
    return metrics


def is_detail(key: str) -> bool:
    """Whether a metric's key, as `val/HasAns/f1`, is one by which v2.0's exact match and F1 are analysed: those of questions
    with and without an answer, and thresholds with the scores that are best over all."""
    *parents, name = key.split("/")
    return bool({"HasAns", "NoAns"} & {*parents}) or name.startswith("best_") or name.endswith("_threshold")


def best_threshold(
    scores: Mapping[str, float], null_odds: Mapping[str, float], gold: Mapping[str, Sequence[str]]
) -> tuple[float, float]:
    """The mean score that the best threshold reaches, and that threshold: an answer is given where odds <= threshold.

    `scores` are those of each question's best answer that is not empty; `null_odds` is how much likelier no answer is.
    """
    if not scores:
        raise ValueError("no questions to choose a threshold by")
    order = sorted(scores, key=lambda name: null_odds[name])
    now = best = float(sum(not gold[name] for name in scores))
    threshold = null_odds[order[0]] - 1.0
    for number, name in enumerate(order):
        now += scores[name] if gold[name] else -1.0
        ties = number + 1 < len(order) and null_odds[order[number + 1]] == null_odds[name]
        if now > best and not ties:
            best, threshold = now, null_odds[name]
    return best / len(scores), threshold
