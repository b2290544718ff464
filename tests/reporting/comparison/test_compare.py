"""Two groups of runs compared by what their examples recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from protoformer import cli
from protoformer.errors import UserError
from protoformer.reporting.comparison.compare import Options, compare
from protoformer.scoring.bleu import bleu
from protoformer.scoring.chrf import chrf

from .run_cases import change_result, write_scores

TASK_TYPE = {"main_metrics": [], "percent_metrics": [], "free_text": True, "has_labels": False, "incomplete_data": {}}


def rows(right: int, of: int = 100) -> dict[str, list[dict]]:
    """A split with known labels, of which the first are told rightly, and one whose labels are hidden."""
    labelled = [
        {"prediction": "yes" if i < right else "no", "label": "yes", "probabilities": {"no": 0.5, "yes": 0.5}}
        for i in range(of)
    ]
    return {"val": labelled, "test": [{"prediction": "yes"}]}


def plain(write_run: Any, name: str, right: int, of: int = 100, **changes: Any) -> Path:
    """A run with accuracy alone."""
    return write_run(name, predictions=rows(right, of), metrics={"val/accuracy": right / of}, **changes)


def test_seeds_are_averaged_and_a_gain_is_told(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [plain(write_run, f"a{seed}", right) for seed, right in enumerate((90, 88, 89))]
    theirs = [plain(write_run, f"b{seed}", right) for seed, right in enumerate((60, 61, 62))]
    (actual,) = compare(ours, theirs)
    assert (actual.split, actual.metric, actual.examples, actual.over) == ("val", "accuracy", 100, "both")
    assert (actual.ours, actual.theirs) == ([0.9, 0.88, 0.89], [0.6, 0.61, 0.62])
    assert actual.interval.difference == pytest.approx(0.28)
    assert 0.1 < actual.interval.low < 0.28 < actual.interval.high < 0.5
    assert actual.hierarchical is not None
    assert 0.1 < actual.hierarchical.low < 0.28
    assert actual.randomized_p == pytest.approx(
        2 / 20
    )  # all ways to deal three runs to each side, of which two are as far
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, theirs)]) == 0
    out = capsys.readouterr().out
    assert "89.00 ± 1.00 (n = 3)" in out
    assert "+28.00" in out
    assert " better" in out
    assert "val accuracy: half a point is shown, with a power of 80 %, by " in out
    assert cli.main(["compare", *map(str, theirs), "--with", *map(str, ours)]) == 0
    assert " worse" in capsys.readouterr().out


def test_what_is_drawn_is_chosen(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [plain(write_run, f"a{seed}", right) for seed, right in enumerate((60, 72, 65))]
    theirs = [plain(write_run, f"b{seed}", right) for seed, right in enumerate((58, 62, 50))]
    widths = {}
    for over in ("examples", "seeds", "both"):
        (actual,) = compare(ours, theirs, Options(over=over))
        widths[over] = actual.interval.high - actual.interval.low
        assert actual.over == over
    assert widths["examples"] < widths["both"]
    (actual,) = compare(ours, theirs, Options(over="seeds"))
    welch = stats.ttest_ind(actual.ours, actual.theirs, equal_var=False)
    assert actual.interval.p == pytest.approx(welch.pvalue)
    assert cli.main(["compare", str(ours[0]), "--with", str(theirs[0]), "--over", "seeds"]) == 2
    assert "--over seeds: takes two runs on each side at least" in capsys.readouterr().err


def test_a_small_difference_is_not_shown(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(plain(write_run, name, right)) for name, right in (("a", 61), ("b", 60))]
    assert cli.main(["compare", runs[0], "--with", runs[1]]) == 0
    assert "not shown" in capsys.readouterr().out


def test_spans_have_both_of_their_metrics_and_passages_are_drawn_whole(
    write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(text: str) -> dict[str, list[dict]]:
        texts = [{"question": str(number), "context": f"passage {number // 2}"} for number in range(6)]
        return {
            "val": [
                {"prediction": text, "label": ["the red cat"], "question": str(number), "texts": texts[number]}
                for number in range(5)
            ]
            + [{"prediction": "", "label": [], "question": "5", "texts": texts[5]}]
        }

    a, b = (
        write_run(name, task="squad/v2", predictions=answers(text), rows={"context": "context"}, metrics={})
        for name, text in (("a", "red cat"), ("b", "cat"))
    )
    exact, f1 = compare([a], [b])
    assert (exact.metric, exact.ours, exact.theirs) == ("exact_match", [1.0], [pytest.approx(1 / 6)])
    assert f1.theirs == [pytest.approx((5 * 2 / 3 + 1) / 6)]
    assert (f1.examples, f1.clusters) == (6, 3)
    assert cli.main(["compare", str(a), "--with", str(b)]) == 0
    assert "val: 6 examples of 3 passages" in capsys.readouterr().out


def test_scores_that_the_run_wrote_are_taken_whatever_its_kind(write_run) -> None:
    predictions = {"val": [{"prediction": "x", "label": "x"}, {"prediction": "y", "label": "z"}]}
    folders = [write_run(name, task="rank/documents", predictions=predictions, metrics={}) for name in "ab"]
    for folder, ranks in zip(folders, ((1.0, 0.5), (0.25, 0.25)), strict=True):
        write_scores(folder, [{"reciprocal_rank": rank} for rank in ranks])
    (actual,) = compare([folders[0]], [folders[1]])
    assert (actual.metric, actual.ours, actual.theirs) == ("reciprocal_rank", [0.75], [0.25])
    assert actual.interval.difference == 0.5
    write_scores(folders[1], [{"reciprocal_rank": 1.0}])
    with pytest.raises(UserError, match=r"example_scores/val\.jsonl does not have the rows"):
        compare([folders[0]], [folders[1]])


def test_correlations_and_f1_are_those_of_scikit_learn_and_scipy(write_run) -> None:
    draw = np.random.default_rng(0)
    gold, numbers = draw.integers(2, size=60), draw.normal(size=60).round(3)
    classified, regressed = [], []
    for name in "ab":
        predicted = np.where(draw.random(60) < 0.7, gold, 1 - gold)
        labels = [
            {"prediction": str(p), "label": str(g), "probabilities": {"0": 0.5, "1": 0.5}}
            for p, g in zip(predicted, gold, strict=True)
        ]
        of_labels = {
            "accuracy": float((predicted == gold).mean()),
            "f1": f1_score(gold, predicted),
            "matthews_correlation": matthews_corrcoef(gold, predicted),
        }
        metrics = {f"val/{key}": value for key, value in of_labels.items()}
        classified.append(write_run(name, predictions={"val": labels}, metrics=metrics))
        guesses = (numbers + draw.normal(size=60)).round(4)
        of_numbers = {"pearson": stats.pearsonr(guesses, numbers)[0], "spearman": stats.spearmanr(guesses, numbers)[0]}
        metrics = {f"val/{key}": float(value) for key, value in of_numbers.items()}
        lines = [{"prediction": float(p), "label": float(g)} for p, g in zip(guesses, numbers, strict=True)]
        regressed.append(write_run(name, task="glue/stsb", predictions={"val": lines}, metrics=metrics))
    for runs, names in ((classified, ["accuracy", "f1", "matthews_correlation"]), (regressed, ["pearson", "spearman"])):
        found = compare(runs[:1], runs[1:], Options(resamples=200))
        assert [each.metric for each in found] == names
        recorded = json.loads((runs[0] / "result.json").read_text())["metrics"]
        assert [each.ours[0] for each in found] == pytest.approx([recorded[f"val/{name}"] for name in names])
    change_result(regressed[0], metrics={"val/pearson": 0.1})
    with pytest.raises(UserError, match=r"has pearson 0\.\d+, result\.json 0\.1000: one of the two is not this run's"):
        compare(regressed[:1], regressed[1:])


def test_bleu_chrf_and_perplexity_of_translations(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    targets = ["the cat sat on the mat", "a dog ran over the road", "two men are talking", "she reads an old book"]
    guesses = (["the cat sat on a mat", *targets[1:]], ["a cat on mat", "the dog ran on the road", *targets[2:]])
    folders = []
    for name, texts in zip("ab", guesses, strict=True):
        lines = [{"prediction": text, "label": target} for text, target in zip(texts, targets, strict=True)]
        folder = write_run(
            name,
            task="translation/x",
            predictions={"val": lines},
            metrics={"val/bleu": bleu(texts, targets).score / 100},
        )
        change_result(folder, notes={"val": {"bleu": bleu(texts, targets).signature}})
        losses = [10.0, 8.0, 5.0, 6.0] if name == "a" else [12.0, 9.0, 5.5, 6.5]
        write_scores(folder, [{"sums": {"log_likelihood": -loss, "tokens": 5.0}} for loss in losses])
        folders.append(folder)
    found = {each.metric: each for each in compare(folders[:1], folders[1:])}
    assert set(found) == {"bleu", "chrf", "perplexity"}
    assert found["chrf"].ours[0] == pytest.approx(chrf(guesses[0], targets).score / 100)
    assert found["perplexity"].ours[0] == pytest.approx(np.exp(29 / 20))
    assert found["perplexity"].interval.difference < 0
    assert found["perplexity"].verdict == "better"  # every sentence is likelier
    assert cli.main(["compare", str(folders[0]), "--with", str(folders[1])]) == 0
    assert "perplexity" in capsys.readouterr().out


def corpus(write_run: Any, name: str, losses: list[float] | None, tokens: float = 8.0, digest: str = "da7a") -> Path:
    folder = write_run(name, task="pretrain/clm", metrics={"val/loss": 2.0}, predictions={"val": [{"prediction": "x"}]})
    change_result(folder, digests={"data": {"validation": digest}}, task_type=TASK_TYPE)
    if losses is not None:
        write_scores(folder, [{"sums": {"log_likelihood": -loss, "tokens": tokens}} for loss in losses])
    return folder


def test_language_models_are_compared_on_the_same_blocks(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = corpus(write_run, "a", [16.0, 14.0, 18.0] * 3), corpus(write_run, "b", [17.0, 15.5, 18.5] * 3)
    (actual,) = compare([ours], [theirs])
    assert (actual.metric, actual.examples, actual.verdict) == ("perplexity", 9, "better")
    assert actual.ours == [pytest.approx(np.exp(2))]
    for name, other in (
        ("c", {"tokens": 9.0}),
        ("d", {"digest": "0ther"}),
    ):
        folder = corpus(write_run, name, [17.0, 15.5, 18.5] * 3, **other)
        assert "did not predict the same rows of val: other texts" in refused(capsys, ours, "--with", folder)
    assert "1 and 9 examples" in refused(capsys, ours, "--with", corpus(write_run, "e", [1.0]))
    old = corpus(write_run, "f", None)
    assert "recorded no score of each example of val, as runs of earlier versions" in refused(
        capsys, old, "--with", ours
    )
    ones = [corpus(write_run, name, [16.0]) for name in "gh"]
    assert "one example of val alone" in refused(capsys, ones[0], "--with", ones[1])


def test_several_tasks_are_corrected(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [plain(write_run, "a", 70), plain(write_run, "a", 95, task="glue/rte")]
    theirs = [plain(write_run, "b", 62), plain(write_run, "b", 60, task="glue/rte")]
    found = compare(ours, theirs)
    assert [each.task for each in found] == ["glue/mrpc", "glue/rte"]
    assert found[0].corrected_p == found[0].interval.p  # the largest
    assert found[1].corrected_p == pytest.approx(2 * found[1].interval.p)
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, theirs)]) == 0
    assert "better, worse: Holm's p, corrected for the 2 rows of 2 tasks, is below 0.05" in capsys.readouterr().out


def test_examples_that_share_a_column_are_drawn_whole(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for name, right in (("a", 70), ("b", 60)):
        lines = [{**line, "texts": {"premise": str(i // 4)}} for i, line in enumerate(rows(right)["val"])]
        runs.append(write_run(name, predictions={"val": lines}, metrics={"val/accuracy": right / 100}))
    (alone,) = compare(runs[:1], runs[1:])
    (whole,) = compare(runs[:1], runs[1:], Options(clusters="premise"))
    assert (alone.clusters, whole.clusters) == (100, 25)
    assert whole.interval.standard_error > 1.3 * alone.interval.standard_error
    error = refused(capsys, runs[0], "--with", runs[1], "--clusters", "passage")
    assert "--clusters passage: no such column beside the predictions; there are label, premise" in error


def refused(capsys: pytest.CaptureFixture[str], *words: Path | str) -> str:
    assert cli.main(["compare", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_compared_is_told(write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = plain(write_run, "a", 50)
    other = plain(write_run, "b", 50, of=99)
    assert "did not predict the same rows of val: 99 and 100 examples" in refused(capsys, good, "--with", other)
    assert "is on both sides" in refused(capsys, good, other, "--with", good)
    assert f"{good} is named twice on one side" in refused(capsys, good, good, "--with", other)
    mrpc, rte = good, plain(write_run, "c", 50, task="glue/rte")
    assert "different tasks cannot be compared: glue/mrpc, glue/rte" in refused(capsys, mrpc, "--with", rte)
    assert "is not finished" in refused(capsys, good, "--with", write_run("d", finished=False))
    assert f"{tmp_path}/outputs/bert/glue/mrpc/e did not predict val, test" in refused(
        capsys, good, "--with", write_run("e")
    )
    without = plain(write_run, "m", 50)
    (without / "predictions" / "val.jsonl").unlink()
    (without / "example_scores").mkdir()
    scores = "".join(f'{{"id": {number}, "accuracy": 1.0}}\n' for number in range(100))
    (without / "example_scores" / "val.jsonl").write_text(scores)
    assert f"{without} has no predictions/val.jsonl, as {good} has" in refused(capsys, good, "--with", without)
    hidden = [write_run(name, predictions={"test": [{"prediction": "yes"}]}) for name in "ij"]
    assert "no metric of its runs can be computed" in refused(capsys, hidden[0], "--with", hidden[1])
    assert "has no config.yaml" in refused(capsys, tmp_path, "--with", good)
    assert "--resamples 0: at least one" in refused(capsys, good, "--with", other, "--resamples", "0")
    assert "did you mean --resamples?" in refused(capsys, good, "--with", other, "--draws", "9")
    changed = rows(50)
    changed["val"] = [{**line, "texts": {"sentence": "a"}} for line in changed["val"]]
    texts = [
        write_run(name, predictions={"val": [{**line, "texts": {"sentence": text}} for line in rows(50)["val"]]},
                  metrics={"val/accuracy": 0.5})
        for name, text in (("k", "one"), ("l", "another"))
    ]  # fmt: skip
    assert "other texts, labels or tokens" in refused(capsys, texts[0], "--with", texts[1])
    assert compare([texts[0]], [good])[0].examples == 100  # one of an earlier version kept no texts
