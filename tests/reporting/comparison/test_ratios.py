"""Metrics that are ratios of sums: fractions of questions and dialogs, bits per byte."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protoformer import cli
from protoformer.reporting.comparison.compare import Options, compare

from .run_cases import change_result, write_scores

LANGUAGE = {"main_metrics": [], "percent_metrics": [], "free_text": True, "has_labels": False, "incomplete_data": {}}
NATS = [16.0, 14.0, 18.0, 15.0]  # of blocks of 8 tokens


def test_a_dialog_counts_once_and_is_drawn_whole(write_run: Callable[..., Path]) -> None:
    """Twelve questions of six dialogs; every third question does not count."""
    runs = []
    for name, wrong in (("a", {0}), ("b", {1, 4, 6, 9})):
        lines, scores = [], []
        for number in range(12):
            counted, first = float(number % 3 != 2), float(number % 2 == 0)
            right = float(number not in wrong)
            whole = float(first and not wrong & {number, number + 1})
            lines.append({"prediction": "x", "label": ["x"]})
            scores.append(
                {"exact_match": right, "cluster": number // 2}
                | {"ratios": {"quac_f1": [right * counted, counted], "heq_d": [whole, first]}}
            )
        metrics = {"val/quac_f1": 7 / 8, "val/heq_d": 5 / 6, "val/exact_match": 11 / 12}
        runs.append(write_run(name, task="incontext/quac", predictions={"val": lines}, metrics=metrics))
        write_scores(runs[-1], scores)
    f1, heq, exact = compare(runs[:1], runs[1:], Options(resamples=200))
    assert [f1.metric, heq.metric, exact.metric] == ["quac_f1", "heq_d", "exact_match"]
    assert (f1.ours, f1.theirs) == ([pytest.approx(7 / 8)], [pytest.approx(4 / 8)])
    assert (heq.ours, heq.theirs) == ([pytest.approx(5 / 6)], [pytest.approx(2 / 6)])
    assert (heq.examples, heq.clusters) == (12, 6)
    # as of a paired difference of means over six dialogs
    assert heq.interval.standard_error == pytest.approx(np.std([0, 0, 1, 1, 1, 0], ddof=1) / np.sqrt(6), rel=0.15)


def language_model(write_run: Callable[..., Path], name: str, nats: list[float], stride: str = "") -> Path:
    loss = sum(nats) / (8 * len(nats))
    perplexity = "perplexity_per_token" if stride else "perplexity"
    measures = {perplexity: np.exp(loss), "bits_per_byte": loss / np.log(2) / 4}
    metrics = {f"val/{key}{stride}": float(value) for key, value in measures.items()}
    if stride:  # of windows whose log-likelihoods are not kept
        metrics |= {"val/perplexity_per_token_stride_2": 3.0, "val/bits_per_byte_stride_2": 0.4}
    folder = write_run(name, task="pretrain/clm", predictions={"val": [{"prediction": "x"}]}, metrics=metrics)
    change_result(folder, digests={"data": {"validation": "da7a"}}, task_type=LANGUAGE)
    write_scores(folder, [{"sums": {"log_likelihood": -each, "tokens": 8.0}} for each in nats])
    return folder


@pytest.mark.parametrize("stride", ["", "_stride_4"])
def test_bits_per_byte_are_those_of_the_whole_split(
    stride: str, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = language_model(write_run, "a", NATS, stride)
    theirs = language_model(write_run, "b", [each + 1.2 for each in NATS], stride)
    found = {each.metric: each for each in compare([ours], [theirs])}
    assert set(found) == {"perplexity", f"bits_per_byte{stride}"}
    bits = found[f"bits_per_byte{stride}"]
    assert bits.ours == [pytest.approx(sum(NATS) / 32 / np.log(2) / 4)]
    assert bits.interval.difference == pytest.approx(-1.2 / 8 / np.log(2) / 4)
    assert bits.verdict == found["perplexity"].verdict == "better"
    assert cli.main(["compare", str(ours), "--with", str(theirs)]) == 0
    assert " 0.7101 0.7642 -0.0541 " in " ".join(capsys.readouterr().out.split())
