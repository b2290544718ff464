"""Two ways held against each other by what their runs predicted."""

import json
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.errors import UserError
from protoformer.reporting.compare import compare


def rows(right: int, of: int = 100) -> dict[str, list[dict]]:
    """A split with known labels, of which the first are told rightly, and one whose labels are hidden."""
    labelled = [
        {"prediction": "yes" if i < right else "no", "label": "yes", "probabilities": {"yes": 0.5, "no": 0.5}}
        for i in range(of)
    ]
    return {"val": labelled, "test": [{"prediction": "yes"}]}


def test_seeds_are_averaged_and_a_gain_is_told(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [write_run(f"a{seed}", seed=seed, predictions=rows(right)) for seed, right in enumerate((90, 80))]
    theirs = [write_run(f"b{seed}", seed=seed, predictions=rows(right)) for seed, right in enumerate((60, 70))]
    (actual,) = compare(ours, theirs)
    assert (actual.split, actual.metric, actual.examples) == ("val", "accuracy", 100)
    assert (actual.ours, actual.theirs) == ([0.9, 0.8], [0.6, 0.7])
    assert actual.difference.mean == pytest.approx(0.2)
    assert 0.1 < actual.difference.low < 0.2 < actual.difference.high < 0.3
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, theirs), "--resamples", "500"]) == 0
    out = capsys.readouterr().out
    assert "85.00 ± 7.07 (n = 2)" in out
    assert "+20.00" in out
    assert "better" in out
    assert cli.main(["compare", *map(str, theirs), "--with", *map(str, ours)]) == 0
    assert "worse" in capsys.readouterr().out


def test_a_small_difference_is_none(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(name, predictions=rows(right))) for name, right in (("a", 61), ("b", 60))]
    assert cli.main(["compare", runs[0], "--with", runs[1]]) == 0
    assert "no difference is shown" in capsys.readouterr().out


def test_spans_have_both_of_their_metrics(write_run) -> None:
    def answers(text: str) -> dict[str, list[dict]]:
        return {"val": [{"prediction": text, "label": ["the red cat"]}, {"prediction": "", "label": []}]}

    task = {"kind": "span", "rows": {}}
    a, b = (
        write_run(name, task="squad/v2", predictions=answers(text)) for name, text in (("a", "red cat"), ("b", "cat"))
    )
    for folder in (a, b):
        config = (folder / "config.yaml").read_text().replace("kind: classification", f"kind: {task['kind']}")
        (folder / "config.yaml").write_text(config)
    exact, f1 = compare([a], [b])
    assert (exact.metric, exact.ours, exact.theirs) == ("exact_match", [1.0], [0.5])
    assert f1.theirs == [pytest.approx((2 / 3 + 1) / 2)]


def test_scores_that_the_run_wrote_are_taken_whatever_its_kind(write_run) -> None:
    predictions = {"val": [{"prediction": "x", "label": "x"}, {"prediction": "y", "label": "z"}]}
    for name, ranks in (("a", (1.0, 0.5)), ("b", (0.25, 0.25))):
        folder = write_run(name, task="rank/documents", predictions=predictions)
        file = folder / "example_scores" / "val.jsonl"
        file.parent.mkdir()
        file.write_text("".join(f'{{"id": {i}, "reciprocal_rank": {rank}}}\n' for i, rank in enumerate(ranks)))
    runs = file.parents[2]
    (actual,) = compare([runs / "a"], [runs / "b"])
    assert (actual.metric, actual.ours, actual.theirs, actual.difference.mean) == (
        "reciprocal_rank",
        [0.75],
        [0.25],
        0.5,
    )
    file.write_text('{"id": 7, "reciprocal_rank": 1.0}\n')
    with pytest.raises(UserError, match=r"example_scores/val\.jsonl does not have the rows"):
        compare([runs / "a"], [runs / "b"])


def refused(capsys: pytest.CaptureFixture[str], *words: Path | str) -> str:
    assert cli.main(["compare", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_compared_is_told(write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_run("a", predictions=rows(50))
    other = write_run("b", predictions=rows(50, of=99))
    assert "did not predict the same rows of val" in refused(capsys, good, "--with", other)
    assert "is on both sides" in refused(capsys, good, other, "--with", good)
    mrpc, rte = good, write_run("c", task="glue/rte", predictions=rows(50))
    assert "different tasks cannot be compared: glue/mrpc, glue/rte" in refused(capsys, mrpc, "--with", rte)
    assert "is not finished" in refused(capsys, good, "--with", write_run("d", finished=False))
    assert "did not predict that split" in refused(capsys, good, "--with", write_run("e"))
    assert "no split with known labels" in refused(capsys, write_run("f"), "--with", good)
    similar = {"val": [{"prediction": 2.5, "label": 3.0}]}
    numbers = [write_run(name, task="glue/stsb", rows={"text_a": "a"}, predictions=similar) for name in "gh"]
    assert "not means over examples" in refused(capsys, numbers[0], "--with", numbers[1])
    corpora = [write_run(name, task="pretrain/clm", predictions={}) for name in "ij"]
    for folder in corpora:
        file = folder / "result.json"
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "task_type": {**content.get("task_type", {}), "has_labels": False}}))
    error = refused(capsys, corpora[0], "--with", corpora[1])
    assert (
        "pretrain/clm: its runs predict no labelled examples, so they cannot be compared; comparable are runs of"
        in error
    )
    assert "has no config.yaml" in refused(capsys, tmp_path, "--with", good)
    assert "--resamples 0: at least one" in refused(capsys, good, "--with", other, "--resamples", "0")
    assert "did you mean --resamples?" in refused(capsys, good, "--with", other, "--draws", "9")
