"""Runs that diverged, lack a split, have several draws of shots, or files that cannot be read."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from protoformer import cli
from protoformer.errors import UserError
from protoformer.reporting.comparison import example_metrics
from protoformer.reporting.comparison.compare import Options, compare
from protoformer.reporting.comparison.examples import Predictions
from protoformer.significance import translation_metrics

from .run_cases import LABELS, change_result, classified, regressed, translated, write_scores
from .test_compare import TASK_TYPE, plain

QUICK = Options(resamples=200)


def test_what_is_no_number_is_left_out_and_the_other_metrics_stay(
    write_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perplexity of nan is neither better nor worse."""
    ours, theirs = (translated(write_run, name, seed) for seed, name in enumerate("ab"))
    write_scores(theirs, [{"sums": {"log_likelihood": loss, "tokens": 5.0}} for loss in (-1.0, math.nan, -1.0, -1.0)])
    assert [each.metric for each in compare([ours], [theirs], QUICK)] == ["bleu", "chrf"]
    assert cli.main(["compare", str(ours), "--with", str(theirs), "--resamples", "100"]) == 0
    assert f"val: perplexity is not compared, as that of {theirs} is no number" in capsys.readouterr().out
    large = [{"sums": {"log_likelihood": -1e5, "tokens": 5.0}}] * 4  # exp of 20,000
    write_scores(theirs, large)
    assert [each.metric for each in compare([ours], [theirs], QUICK)] == ["bleu", "chrf"]


def test_where_all_metrics_are_no_numbers_that_is_the_error(write_run: Any) -> None:
    ours, theirs = (regressed(write_run, name, seed) for seed, name in enumerate("ab"))
    metrics = dict.fromkeys(("val/pearson", "val/spearman"))
    change_result(theirs, metrics=metrics)
    write_scores(theirs, [{"sums": {"prediction": math.nan, "reference": float(i)}} for i in np.linspace(0, 5, 30)])
    with pytest.raises(UserError, match=r"val: spearman is not compared, as that of .*b is no number"):
        compare([ours], [theirs], QUICK)


def test_splits_that_a_run_lacks_are_named(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever side it is on."""
    ours, theirs = (classified(write_run, name, seed) for seed, name in enumerate("ab"))
    for folder in ("predictions", "example_scores"):
        (ours / folder / "test.jsonl").write_bytes((ours / folder / "val.jsonl").read_bytes())
    for sides in ((ours, theirs), (theirs, ours)):
        assert {each.split for each in compare(sides[:1], sides[1:], QUICK)} == {"val"}
        assert cli.main(["compare", str(sides[0]), "--with", str(sides[1]), "--resamples", "50"]) == 0
        assert f"test: not compared, as {theirs} did not predict it" in capsys.readouterr().out


def drawn(write_run: Any, name: str, seed: int) -> Path:
    """In-context choices of 20 rows under three draws of shots, the later of which are told better."""
    generator = np.random.default_rng(seed)
    lines = []
    for draw in range(3):
        for row in range(20):
            label = LABELS[row % 3 == 0]
            prediction = label if generator.random() < 0.4 + 0.2 * draw else LABELS[int(generator.integers(2))]
            line = {"row": row, "draw": draw, "prediction": prediction, "label": label, "log_probs": [-1.0, -2.0]}
            lines.append(line | {"prompt": "d19e57", "texts": {"completions": [" no", " yes"]}})
    right = [float(line["prediction"] == line["label"]) for line in lines]
    metrics = {
        "val/accuracy": float(np.mean(right)),
        "val/f1_macro": float(np.mean([f1_of(lines, k) for k in range(3)])),
    }
    folder = write_run(name, task="incontext/cb", predictions={"val": lines}, metrics=metrics)
    write_scores(folder, [{"accuracy": each, "cluster": place % 20} for place, each in enumerate(right)])
    return folder


def f1_of(lines: list[dict[str, Any]], draw: int) -> float:
    of_draw = [line for line in lines if line["draw"] == draw]
    columns = ([line[key] for line in of_draw] for key in ("label", "prediction"))
    return float(f1_score(*columns, average="macro"))


def test_metrics_of_draws_of_shots_are_means_over_them(write_run: Any) -> None:
    """As the run has them: F1 of all draws together is another number."""
    ours, theirs = (drawn(write_run, name, seed) for seed, name in enumerate("ab"))
    found = {each.metric: each for each in compare([ours], [theirs], QUICK)}
    assert list(found) == ["accuracy", "f1_macro"]
    assert (found["f1_macro"].examples, found["f1_macro"].clusters) == (60, 20)
    assert found["f1_macro"].ours == [
        pytest.approx(json.loads((ours / "result.json").read_text())["metrics"]["val/f1_macro"])
    ]
    rows = [json.loads(line) for line in (ours / "predictions" / "val.jsonl").read_text().splitlines()]
    metric = example_metrics._built("f1_macro", Predictions.of_rows(rows, {}))
    assert metric is not None
    counts = np.tile(np.random.default_rng(0).multinomial(20, [0.05] * 20), 3).astype(float)
    again = [row for row, count in zip(rows, counts, strict=True) for _ in range(int(count))]
    assert metric.values(counts[None])[0] == pytest.approx(np.mean([f1_of(again, draw) for draw in range(3)]))
    step = 1e-4 * np.random.default_rng(1).normal(size=60)
    up, down = metric.values(np.stack([1 + step, 1 - step]))
    assert (up - down) / 2 == pytest.approx(metric.influences() @ step / 60, rel=1e-3)


def test_predictions_are_exchanged_as_they_are(write_run: Any) -> None:
    """Not around the mean of each system: one that adds 3 to every number has the same correlation, and exchanged outputs of
    both have not."""
    ours, theirs = (regressed(write_run, name, 0) for name in "ab")
    scores = [json.loads(line) for line in (ours / "example_scores" / "val.jsonl").read_text().splitlines()]
    shifted = [
        {"prediction": line["sums"]["prediction"] + 3, "reference": line["sums"]["reference"]} for line in scores
    ]
    x, gold = (np.asarray([line["sums"][key] for line in scores]) for key in ("prediction", "reference"))
    write_scores(theirs, [{"sums": line} for line in shifted])
    (pearson, _) = compare([ours], [theirs], QUICK)
    assert pearson.interval.difference == pytest.approx(0, abs=1e-12)
    functions = [example_metrics.metrics.pearson(each, gold) for each in (x, x + 3)]
    both = functions[0].beside(functions[1])
    swapped = (np.arange(30) % 2 == 0).astype(float)
    exchanged = both.values(np.concatenate([1 - swapped, swapped])[None])[0]
    assert exchanged == pytest.approx(stats.pearsonr(np.where(swapped == 1, x + 3, x), gold)[0])


def test_blocks_of_tokens_have_no_columns(write_run: Any) -> None:
    lines = [{"prediction": "x", "texts": {"source": "a"}} for _ in range(2)]
    folders = [
        write_run(name, task="pretrain/clm", predictions={"val": lines}, metrics={"val/loss": 2.0}) for name in "ab"
    ]
    for folder in folders:
        change_result(folder, task_type=TASK_TYPE)
        write_scores(folder, [{"sums": {"log_likelihood": -loss, "tokens": 8.0}} for loss in (1.0, 2.0, 3.0)])
    with pytest.raises(UserError, match=r"--clusters source: the examples of .* are blocks of tokens, without columns"):
        compare(folders[:1], folders[1:], Options(clusters="source"))


def test_a_file_of_a_run_in_another_encoding_is_told_by_line(
    write_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (classified(write_run, name, seed) for seed, name in enumerate("ab"))
    file = theirs / "predictions" / "val.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], b'{"id": 1, "prediction": "\xe9"}', *lines[2:]]))
    assert cli.main(["compare", str(ours), "--with", str(theirs)]) == 2
    error = capsys.readouterr().err
    assert f"{file}, line 2: no prediction can be read" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("signature", "tokenizer"),
    [
        ("nrefs:1|case:mixed|eff:no|tok:ja-mecab-0.996-IPA|smooth:exp|version:2.6.0", "ja-mecab"),
        ("nrefs:1|case:mixed|eff:no|tok:ko-mecab-0.996/ko-0.9.2-KO|smooth:exp|version:2.6.0", "ko-mecab"),
        ("nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0", "zh"),
        ("", None),
    ],
)
def test_the_tokenizer_of_bleu_is_that_of_the_signature(
    signature: str, tokenizer: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature has the version of MeCab, too, which sacreBLEU does not take for a tokenizer's name."""
    taken = []
    monkeypatch.setattr(translation_metrics, "bleu", lambda *arguments: taken.append(arguments[2]))
    example_metrics.BUILDERS["bleu"](Predictions([{"prediction": "a", "label": "b"}], {"bleu": signature}, None))
    assert taken == [tokenizer]


def test_labels_in_another_order_are_told(write_run: Any) -> None:
    """F1 would be that of one label on one side, and of the other on the other."""
    ours, theirs = (classified(write_run, name, seed) for seed, name in enumerate("ab"))
    file = theirs / "predictions" / "val.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["probabilities"] = dict(reversed(row["probabilities"].items()))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        UserError, match=r"b has the labels yes, no, .*a no, yes: F1 and precision are those of the second"
    ):
        compare([ours], [theirs], QUICK)


def test_attempts_of_one_run_are_no_seeds(write_run: Any) -> None:
    """A pattern such as seed42* finds both."""
    ours = [plain(write_run, "a", 60), plain(write_run, "a", 60, attempt=2)]
    theirs = [plain(write_run, "b", 50)]
    with pytest.raises(UserError, match=r"mrpc/a and .*mrpc/a-a2 are attempts of one run, a, not two seeds"):
        compare(ours, theirs, QUICK)
    assert compare(ours[:1], [ours[1], *theirs], QUICK)[0].theirs == [
        0.6,
        0.5,
    ]  # on both sides: two versions of the code


def test_runs_of_different_settings_on_one_side_are_told(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [plain(write_run, f"a{lr}", 60, recipe={"lr": lr}, seed=seed) for seed, lr in enumerate((1e-5, 2e-5))]
    theirs = [plain(write_run, f"b{seed}", 58 + seed, seed=seed) for seed in range(2)]
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, theirs), "--resamples", "50"]) == 0
    out = capsys.readouterr().out
    assert "these: runs of different settings (recipe.lr), taken for seeds of one system\n" in out
    assert "with: runs of different settings" not in out


def test_a_metric_of_ones_own_that_is_no_score_is_neither_better_nor_worse(
    write_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether more of it is better is not known, nor what a point of it is."""
    lines = [{"prediction": "x", "label": "x"} for _ in range(60)]
    folders = [write_run(name, task="rank/documents", predictions={"val": lines}, metrics={}) for name in "ab"]
    draw = np.random.default_rng(0)
    for folder, mean in zip(folders, (3.0, 9.0), strict=True):
        change_result(folder, task_type=TASK_TYPE | {"has_labels": True, "percent_metrics": ["mrr"]})
        write_scores(
            folder, [{"mrr": 0.5, "edit_distance": float(mean + each)} for each in draw.normal(size=60).round(2)]
        )
    score, distance = compare(folders[:1], folders[1:], QUICK)
    assert (score.metric, score.is_percent, score.verdict) == ("mrr", True, "not shown")
    assert (distance.metric, distance.is_percent, distance.verdict) == ("edit_distance", False, "lower")
    assert cli.main(["compare", str(folders[0]), "--with", str(folders[1]), "--resamples", "50"]) == 0
    out = capsys.readouterr().out
    assert f"{distance.ours[0]:.4f}" in out
    assert "edit_distance: half a point" not in out
