"""Metrics of questions in a conversation, as the official scripts of CoQA (arXiv 1808.07042, section 5) and QuAC (arXiv
1808.07036, section 4) count them.

Words are normalised and F1 is counted as in SQuAD. A person who answered is compared with the other annotators alone, so a
model is compared with as many: each annotator's answer is left out in turn, the best of the others counts, and the mean is
taken. One answer alone is compared with as it is.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from protoformer.scoring import squad
from protoformer.scoring.question_answering.groups import Summands, summands_of_groups

NO_ANSWER = "CANNOTANSWER"  # QuAC's answer of a question without one
LEAST_AGREEMENT = 0.4  # F1 between annotators below which QuAC leaves a question out
PairMetric = Callable[[str, Sequence[str]], float]


def coqa_exact_match(prediction: str, references: Sequence[str]) -> float:
    return _jackknife(squad.exact_match, prediction, references)


def coqa_f1(prediction: str, references: Sequence[str]) -> float:
    return _jackknife(squad.f1, prediction, references)


def _jackknife(metric: PairMetric, prediction: str, references: Sequence[str]) -> float:
    """Mean over the references of the best score with one of the others."""
    if len(references) == 1:
        return metric(prediction, references)
    scores = [metric(prediction, [each]) for each in references]
    return sum(max(scores[:left_out] + scores[left_out + 1 :]) for left_out in range(len(scores))) / len(scores)


class QuacScores(NamedTuple):
    """`f1` over questions; the human equivalence scores: the fractions of questions (`heq_q`) on which a model is at least as
    good as the annotators among themselves, and of dialogs (`heq_d`) on all whose questions it is."""

    f1: float
    heq_q: float
    heq_d: float


def quac(predictions: Sequence[str], references: Sequence[Sequence[str]], dialogs: Sequence[Hashable]) -> QuacScores:
    """Scores of questions, each of a dialog. Questions on which annotators agree too little count in none of them, and a dialog
    of such questions alone counts as equal to human. No question that counts: F1 and HEQ-Q are 0."""
    summands = quac_summands(predictions, references, dialogs)
    return QuacScores(**{name: sum(above) / max(1.0, sum(below)) for name, (above, below) in summands.items()})


def quac_summands(
    predictions: Sequence[str], references: Sequence[Sequence[str]], dialogs: Sequence[Hashable]
) -> Mapping[str, Summands]:
    """The scores as ratios of two sums over questions, by their names in QuacScores; a dialog counts at its first question."""
    f1, equal, counted = ([0.0] * len(predictions) for _ in range(3))
    right = [True] * len(predictions)  # questions that do not count take nothing from their dialog
    for index, (prediction, given) in enumerate(zip(predictions, references, strict=True)):
        golds = _agreed(given)
        human = _human_f1(golds)
        if human < LEAST_AGREEMENT:
            continue
        f1[index], counted[index] = _jackknife(_quac_f1, prediction, golds), 1.0
        right[index] = f1[index] >= human
        equal[index] = float(right[index])
    return {"f1": (f1, counted), "heq_q": (equal, counted), "heq_d": summands_of_groups(dialogs, right)}


def _agreed(references: Sequence[str]) -> list[str]:
    """Without an answer where at least half of the annotators found none, else the answers of the others."""
    answers = [text for text in references if text != NO_ANSWER]
    return [NO_ANSWER] if 2 * len(answers) <= len(references) else answers


def _human_f1(references: Sequence[str]) -> float:
    """Mean over the annotators of the best F1 with another one; 1 for one alone."""
    if len(references) == 1:
        return 1.0
    others = [[*references[:number], *references[number + 1 :]] for number in range(len(references))]
    return sum(map(squad.f1, references, others)) / len(references)


def _quac_f1(prediction: str, references: Sequence[str]) -> float:
    """Best F1; no answer is right or wrong as a whole."""
    return max(
        float(prediction == NO_ANSWER) if text == NO_ANSWER else squad.f1(prediction, [text]) for text in references
    )
