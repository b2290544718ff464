"""N-best spans against trying every one; no answer, and answers that are not there."""

import math

import pytest
import torch

from protoformer.scoring.spans import NEG_INF, Answer, candidates, chosen, n_best, null_odds


def every(start: torch.Tensor, end: torch.Tensor, may: list[bool], longest: int) -> list[tuple[float, int, int]]:
    spans = [
        (float(start[s] + end[e]), s, e)
        for s in range(len(may))
        for e in range(s, min(len(may), s + longest))
        if may[s] and may[e]
    ]
    return sorted(spans, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_spans_are_those_of_trying_all(seed: int) -> None:
    torch.manual_seed(seed)
    start, end = torch.randn(2, 3, 14)
    may = torch.zeros(3, 14, dtype=torch.bool)
    may[0, 4:13], may[1, 3:6], may[2, 2:12] = True, True, True
    actual = candidates(start, end, may, may, torch.zeros(3, dtype=torch.long), n_best=14, max_answer=4)
    for window in range(3):
        expected = every(start[window], end[window], may[window].tolist(), 4)[:14]
        kept = [
            (score, s, e)
            for score, s, e in zip(*(x[window].tolist() for x in (actual.score, actual.start, actual.end)), strict=True)
            if score > NEG_INF
        ]
        assert [(s, e) for _, s, e in kept] == [(s, e) for _, s, e in expected]
        assert [score for score, _, _ in kept] == pytest.approx([score for score, _, _ in expected])
        assert [
            s + e for s, e in zip(actual.start_logit[window], actual.end_logit[window], strict=True) if s > NEG_INF
        ] == [start[window, s] + end[window, e] for _, s, e in kept]
        assert torch.equal(actual.null_start[window], start[window, 0])
        assert torch.equal(actual.null_end[window], end[window, 0])


def test_a_window_without_a_place_for_an_answer_has_none() -> None:
    nowhere = torch.zeros(1, 6, dtype=torch.bool)
    actual = candidates(torch.randn(1, 6), torch.randn(1, 6), nowhere, nowhere, torch.zeros(1, dtype=torch.long))
    assert (actual.score == NEG_INF).all()


def test_n_best_texts_differ_and_their_shares_sum_to_one() -> None:
    scored = ((0.5, "red wine"), (1.5, "wine"), (1.25, "wine"), (NEG_INF, "never"), (0.25, ""))
    spans = [Answer(text, 2 * half, 0.0) for half, text in scored]
    answers = n_best(spans, None)
    assert [(a.text, a.score) for a in answers] == [("wine", 3.0), ("red wine", 1.0)]
    assert sum(a.probability for a in answers) == pytest.approx(1)
    assert answers[0].probability == pytest.approx(1 / (1 + math.exp(-2)))
    assert (answers[0].start_logit, answers[0].end_logit) == (3.0, 0.0)
    with_null = n_best(spans, Answer("", 0.5, 1.5))
    assert [a.text for a in with_null] == ["wine", "", "red wine"]
    assert null_odds(with_null) == -1.0
    assert [a.text for a in n_best([Answer(str(i), 0.0, float(i)) for i in range(30)], None, limit=3)] == [
        "29",
        "28",
        "27",
    ]


def test_a_question_whose_every_candidate_is_nothing() -> None:
    assert n_best([], None) == [Answer("", 0.0, 0.0, 1.0)]
    only_null = n_best([Answer("x", NEG_INF, NEG_INF)], Answer("", 1.0, 0.5))
    assert only_null == [Answer("", 1.0, 0.5, 1.0)]
    assert null_odds(only_null) == math.inf
    assert chosen({"q": only_null}, 0.0) == {"q": ""}
    assert chosen({"q": only_null}, None) == {"q": ""}


def test_the_threshold_decides() -> None:
    answers = {"q": [Answer("", 1.5, 0.5), Answer("gold", 0.0, 1.0)]}
    assert chosen(answers, 0.5) == {"q": ""}
    assert chosen(answers, 1.0) == {"q": "gold"}
    assert chosen(answers, None) == {"q": "gold"}
