"""What a reader of the printed comparison is told: intervals, how checkpoints were chosen, the correction, what would do."""

import json
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.errors import UserError
from protoformer.reporting.comparison.compare import Options, compare

from .run_cases import classified, write_scores
from .test_compare import plain
from .test_predictions_files import file_of, rows_of


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert cli.main(["compare", *map(str, words), "--resamples", "100"]) == 0
    return capsys.readouterr().out


def with_evaluations(folder: Path, count: int) -> Path:
    """A run that chose the best of so many checkpoints."""
    lines = [{"step": step, "epoch": 0, "time": 1.0, "val/score": 0.5} for step in range(count)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((folder / "result.json").read_text()) | {"best": {"step": 1, "epoch": 0, "score": 0.5}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_both_has_each_of_its_parts(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [plain(write_run, f"a{seed}", right) for seed, right in enumerate((60, 72, 65))]
    theirs = [plain(write_run, f"b{seed}", right) for seed, right in enumerate((58, 62, 50))]
    (both,) = compare(ours, theirs)
    for over, part in (("examples", both.of_examples), ("seeds", both.of_seeds)):
        (alone,) = compare(ours, theirs, Options(over=over, resamples=2_000))
        assert part == alone.interval
        assert (alone.of_examples, alone.of_seeds, alone.hierarchical) == (None, None, None)
    out = printed(capsys, *ours, "--with", *theirs)
    assert both.of_seeds is not None
    low, high = (100 * bound for bound in (both.of_seeds.low, both.of_seeds.high))
    assert f"{low:+.2f} to {high:+.2f} over other seeds alone (p {both.of_seeds.p:.3f}), " in out
    assert " over other examples alone (p " in out
    assert " by a bootstrap of both, a rough check" in out


def test_over_seeds_the_spread_of_examples_is_no_obstacle(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """On the very same examples enough runs show any difference."""
    ours = [plain(write_run, f"a{seed}", right) for seed, right in enumerate((60, 61))]
    theirs = [plain(write_run, f"b{seed}", right) for seed, right in enumerate((50, 52))]
    (of_seeds,) = compare(ours, theirs, Options(over="seeds"))
    (both,) = compare(ours, theirs)
    assert of_seeds.seeds_needed == both.seeds_needed
    assert of_seeds.seeds_needed is not None
    assert 2 < of_seeds.seeds_needed < 1_000
    assert (of_seeds.examples_needed, of_seeds.seeds_needed_on_others) == (None, None)
    assert both.seeds_needed_on_others == float("inf")
    out = printed(capsys, *ours, "--with", *theirs, "--over", "seeds")
    assert f"by {of_seeds.seeds_needed} runs on each side on these examples\n" in out
    assert "on 100 other examples no number of runs" in printed(capsys, *ours, "--with", *theirs)


def test_a_difference_on_every_example_is_told(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, plain(write_run, "a", 100), "--with", plain(write_run, "b", 0))
    assert "val accuracy: the difference is the same on every example" in out
    out = printed(capsys, plain(write_run, "c", 60), "--with", plain(write_run, "d", 60))
    assert "val accuracy: both sides have the same score on every example" in out


def test_runs_without_spread_have_no_interval(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [plain(write_run, f"a{place}", right) for place, right in enumerate((60, 60, 58, 58))]
    out = printed(capsys, *runs[:2], "--with", *runs[2:], "--over", "seeds")
    assert "not known: no spread" in out
    assert "0.333  0.333         not shown" in out


def test_how_checkpoints_were_chosen_is_told(
    write_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [with_evaluations(classified(write_run, f"a{seed}", seed), 3) for seed in range(2)]
    theirs = [classified(write_run, f"b{seed}", seed + 5) for seed in range(2)]
    files = [file_of(tmp_path, run.name, rows_of(run)) for run in theirs]
    said = "checkpoints: these: the best on dev of 3 in each run; with: "
    biased = "; scores on val, by which they were chosen, are higher than on other data\n"
    assert f"{said}files do not say{biased}" in printed(capsys, *ours, "--with", *files)
    assert f"{said}not chosen{biased}" in printed(capsys, *ours, "--with", *theirs)
    with_evaluations(theirs[0], 5)
    assert f"{said}the best on dev of 5 in each run{biased}" in printed(capsys, *ours, "--with", *theirs)
    assert "checkpoints:" not in printed(capsys, theirs[1], "--with", files[0])


def test_files_of_several_tasks_are_of_the_task_whose_examples_they_have(
    write_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [classified(write_run, "a", 1), plain(write_run, "a", 95, task="glue/rte")]
    theirs = [classified(write_run, "b", 2), plain(write_run, "b", 60, task="glue/rte")]
    files = [file_of(tmp_path, f"{place}", rows_of(run, "label")) for place, run in enumerate(theirs)]
    expected = {(each.task, each.metric): each for each in compare(ours, theirs)}
    for order in (files, files[::-1]):
        found = compare(ours, order)
        assert {each.task for each in found} == {"glue/mrpc", "glue/rte"}
        assert all(each.interval == expected[each.task, each.metric].interval for each in found)
    out = printed(capsys, *ours, "--with", *files)
    assert "better, worse: Holm's p, corrected for the 5 rows of 2 tasks, is below 0.05" in out
    assert "glue/mrpc: val: not compared, as files of predictions do not give them: auroc" in out
    with pytest.raises(UserError, match="glue/rte is on one side alone"):
        compare(ours, files[:1])
    strange = file_of(tmp_path, "c", [{"id": 0, "prediction": "maybe"}])
    message = r"fits none of the tasks \(glue/mrpc: line 1: prediction \"maybe\" is none of no, yes; glue/rte: line 1: "
    with pytest.raises(UserError, match=message):
        compare(ours, [*files, strange])
    twin = plain(write_run, "d", 90, task="glue/wnli")
    unlabelled = file_of(tmp_path, "d", rows_of(theirs[1]))
    with pytest.raises(UserError, match="fits the examples of glue/rte and of glue/wnli: a label on each line tells"):
        compare([ours[1], twin], [unlabelled])


def test_metrics_of_one_task_are_not_corrected(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, classified(write_run, "a", 1), "--with", classified(write_run, "b", 2))
    assert "better, worse: p is below 0.05, not corrected for several rows" in out


def test_ranks_are_exchanged_too(write_run: Any) -> None:
    """AUROC has a randomised p beside the others."""
    found = {each.metric: each for each in compare([classified(write_run, "a", 1)], [classified(write_run, "b", 2)])}
    assert found["auroc"].randomized_p is not None
    assert 0 < found["auroc"].randomized_p <= 1


def test_sides_of_different_numbers_of_runs_have_no_pairs(write_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [plain(write_run, f"a{place}", right) for place, right in enumerate((60, 62, 58, 57, 55))]
    for run in runs:
        write_scores(run, [{"accuracy": float(place < 60)} for place in range(100)])
    out = printed(capsys, *runs[:2], "--with", *runs[2:])
    assert "outputs are not exchanged between sides of different numbers of runs, which have no pairs" in out
    assert "both sides have the same score on every example" in out
