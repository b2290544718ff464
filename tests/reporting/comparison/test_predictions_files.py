"""Runs compared with files of another system's predictions."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.errors import UserError
from protoformer.reporting.comparison.compare import Comparison, Options, compare

from .run_cases import answered, change_result, chosen, classified, regressed, translated, write_scores

QUICK = Options(resamples=200)
Rows = list[dict[str, Any]]


def rows_of(run: Path, *keys: str, split: str = "val") -> Rows:
    """A run's own predictions, with these keys alone."""
    lines = [json.loads(line) for line in (run / "predictions" / f"{split}.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("id", "prediction", *keys) if key in line} for line in lines]


def file_of(tmp_path: Path, name: str, rows: Sequence[dict[str, Any]], split: str = "val") -> Path:
    file = tmp_path / "other" / name / f"{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def numbers(found: Sequence[Comparison]) -> list[tuple[object, ...]]:
    return [
        (each.metric, each.examples, each.clusters, each.ours, each.theirs, each.interval, each.randomized_p)
        for each in found
    ]


@pytest.mark.parametrize(
    ("write", "metrics"),
    [
        (classified, ["accuracy", "f1", "f1_macro", "matthews_correlation", "auroc"]),
        (answered, ["exact_match", "f1"]),
        (translated, ["bleu", "chrf"]),
        (chosen, ["accuracy_per_token"]),
    ],
)
def test_a_file_gives_the_numbers_of_the_run_that_wrote_it(
    write: Callable[..., Path], metrics: list[str], write_run: Callable[..., Path], tmp_path: Path
) -> None:
    ours, theirs = (write(write_run, name, seed) for seed, name in enumerate("ab", start=1))
    copies = [file_of(tmp_path, run.name, rows_of(run, "probabilities")) for run in (ours, theirs)]
    same = compare([ours], [copies[0]], QUICK)
    assert [each.metric for each in same] == metrics
    assert all(each.interval.difference == 0 and each.examples_needed is None for each in same)
    expected = [each for each in compare([ours], [theirs], QUICK) if each.metric in metrics]
    assert numbers(compare([ours], [copies[1]], QUICK)) == numbers(expected)
    assert any(each.interval.difference != 0 for each in expected)
    swapped = compare([copies[1]], [ours], QUICK)
    assert [each.interval.difference for each in swapped] == [-each.interval.difference for each in expected]


def test_numbers_of_a_file_are_compared_as_they_are(write_run: Callable[..., Path], tmp_path: Path) -> None:
    """A run's own file has four digits of each, its example scores have all."""
    ours, theirs = (regressed(write_run, name, seed) for seed, name in enumerate("ab"))
    file = file_of(tmp_path, "b", rows_of(theirs, "label"))
    expected, found = (compare([ours], [other], QUICK) for other in (theirs, file))
    assert [each.metric for each in found] == ["pearson", "spearman"]
    for a, b in zip(expected, found, strict=True):
        assert b.ours == a.ours
        assert b.theirs == pytest.approx(a.theirs, abs=1e-4)
        assert b.interval.p == pytest.approx(a.interval.p, abs=0.01)


def test_several_files_are_seeds_and_the_table_says_what_was_read(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [classified(write_run, f"a{seed}", seed) for seed in range(3)]
    theirs = [classified(write_run, f"b{seed}", seed + 10) for seed in range(3)]
    files = [file_of(tmp_path, run.name, rows_of(run, "label")) for run in theirs]
    found, expected = compare(ours, files), compare(ours, theirs)
    assert numbers(found) == numbers([each for each in expected if each.metric != "auroc"])
    assert {each.over for each in found} == {"both"}
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, files), "--resamples", "100"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "these runs with files" in out
    assert f"with: 3 files of another system's predictions ({files[0]} to {files[-1]})" in out
    assert "val: not compared, as files of predictions do not give them: auroc" in out
    mixed = compare([ours[0], files[0]], [ours[1], files[1]], Options(over="seeds", clusters="premise"))
    assert (len(mixed[0].ours), len(mixed[0].theirs), mixed[0].clusters) == (2, 2, 10)


def test_only_the_splits_that_files_name_are_compared(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = classified(write_run, "a", 1, "val_matched")
    for folder in ("predictions", "example_scores"):
        shutil.copy(run / folder / "val_matched.jsonl", run / folder / "val_mismatched.jsonl")
    file = file_of(tmp_path, "b", rows_of(run, split="val_mismatched"), "val_mismatched")
    (found,) = compare([run], [file], QUICK)
    assert (found.split, found.metric, found.interval.difference) == ("val_mismatched", "accuracy", 0.0)


def _changed(**changes: object) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows[:2], rows[2] | changes, *rows[3:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "no prediction of id 0 of "),
        (lambda rows: rows[:-3], "no prediction of id 37 and 2 others of "),
        (lambda rows: [*rows, rows[3]], "line 41: id 3 is on a line before, too"),
        (lambda rows: [*rows, {**rows[3], "id": 40}], "line 41: id 40 is none of the runs' 40 examples, 0 to 39"),
        (_changed(id="2"), 'line 3: id "2": the number of the example in its split, from 0'),
        (lambda rows: [{"prediction": "yes"}, *rows[1:]], "line 1: no id"),
        (lambda rows: [{"id": 0}, *rows[1:]], "line 1: no prediction"),
        (_changed(label="yes"), 'line 3: id 2 has the label "yes", that of the runs is "no"'),
        (_changed(prediction="maybe"), 'line 3: prediction "maybe" is none of no, yes'),
        (_changed(prediction=None), "line 3: prediction null is none of no, yes"),
        (_changed(probabilities={"no": 1.0}), "line 3: probabilities of other labels than no, yes"),
        (_changed(probabilities={"no": 0.9, "yes": 0.4}), "line 3: probabilities that are 1.300 in sum"),
        (_changed(probabilities={"no": "0.5", "yes": 0.5}), "line 3: probabilities that are no numbers from 0 to 1"),
        (_changed(probabilities=None), "39 of 40 examples have probabilities: all of them, or none"),
    ],
)
def test_lines_that_do_not_fit_the_runs_are_told(
    change: Callable[[Rows], Rows],
    message: str,
    write_run: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = classified(write_run, "a", 1)
    file = file_of(tmp_path, "b", change(rows_of(run, "label", "probabilities")))
    error = refused(capsys, run, "--with", file)
    assert error.count("\n") == 1
    assert f"{file}" in error
    assert message in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 0, "prediction": "yes"}\n{"id": 1,\n', "line 2: no JSON ("),
        ('\n{"id": 0, "prediction": "yes"}\n', "line 1: no JSON ("),
        ('["yes"]\n', 'line 1: no object like {"id": 0, "prediction": ...}'),
        ("", "no prediction of id 0 and 39 others"),
        (b"\xff\xfe\x00", "line 1: no JSON ("),
        ("[" * 100_000, "line 1: no JSON ("),
        ('{"id": 0, "prediction": "no"}\n\n \n', "no prediction of id 1 and 38 others"),
        (
            '{"id": 0, "prediction": "no", "probabilities": [0.5, 0.5]}',
            "line 1: probabilities [0.5, 0.5]: a number by label",
        ),
    ],
)
def test_what_is_no_json_is_told_by_line(
    text: str | bytes, message: str, write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = classified(write_run, "a", 1)
    file = file_of(tmp_path, "b", [])
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refused(capsys, run, "--with", file)


def test_files_that_no_run_can_be_compared_with_are_told(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = classified(write_run, "a", 1)
    file = file_of(tmp_path, "c", rows_of(run))
    dev = file_of(tmp_path, "c", rows_of(run), "dev")
    assert f"{dev}: dev is no split of {run}, whose splits are val;" in refused(capsys, run, "--with", dev)
    assert f"{file}: files of predictions alone" in refused(capsys, file, "--with", dev)
    assert f"{file} is on both sides" in refused(capsys, run, file, "--with", file)
    test = file_of(tmp_path, "c", rows_of(run), "test")
    predictions = {"val": rows_of(run, "label", "probabilities"), "test": rows_of(run, "label", "probabilities")}
    two = write_run("l", predictions=predictions, metrics={"val/accuracy": 0.5})
    assert f"{test}: the other side has no predictions of test" in refused(capsys, two, test, "--with", file)
    assert "no such file" in refused(capsys, run, "--with", tmp_path / "val.jsonl")
    table = tmp_path / "val.csv"
    table.write_text("id,prediction\n")
    assert f"{table}: neither a run folder nor a file of predictions" in refused(capsys, run, "--with", table)
    hidden = write_run("e", predictions={"val": [{"prediction": "yes"}]})
    assert f"{file}: val of {hidden} has hidden labels" in refused(capsys, hidden, "--with", file)
    numeric = regressed(write_run, "f", 1)
    words = file_of(tmp_path, "g", [{"id": 0, "prediction": "high"}])
    assert 'line 1: prediction "high" is no finite number' in refused(capsys, numeric, "--with", words)
    spans = file_of(tmp_path, "h", [{"id": 0, "prediction": 7}])
    assert "line 1: prediction 7 is no text" in refused(capsys, answered(write_run, "i", 1), "--with", spans)
    own = file_of(tmp_path, "j", [{"id": 0, "prediction": "choice 1a"}])
    assert "is none of choice 0a, choice 0b" in refused(capsys, chosen(write_run, "k", 1), "--with", own)


def test_language_models_have_no_predictions_to_compare(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run("a", task="pretrain/clm", predictions={"val": [{"prediction": "x"}]}, metrics={"val/loss": 2.0})
    write_scores(run, [{"sums": {"log_likelihood": -3.0, "tokens": 8.0}} for _ in range(2)])
    task_type = {
        "main_metrics": [],
        "percent_metrics": [],
        "free_text": True,
        "has_labels": False,
        "incomplete_data": {},
    }
    change_result(run, task_type=task_type)
    with pytest.raises(UserError, match="does not hold the log-likelihoods that language models are compared by"):
        compare([run], [file_of(tmp_path, "b", [{"id": 0, "prediction": "y"}])])


def refused(capsys: pytest.CaptureFixture[str], *words: Path | str) -> str:
    assert cli.main(["compare", *map(str, words)]) == 2
    return capsys.readouterr().err
