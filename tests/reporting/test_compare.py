"""Two ways held against each other by what their runs predicted."""

from pathlib import Path

import pytest

from protoformer import cli
from protoformer.reporting.compare import compare


def rows(right: int, of: int = 100) -> dict[str, list[dict]]:
    """A split with known labels, of which the first are told rightly, and one whose labels are hidden."""
    told = [{"prediction": "yes" if i < right else "no", "label": "yes"} for i in range(of)]
    return {"val": told, "test": [{"prediction": "yes"}]}


def test_seeds_are_averaged_and_a_gain_is_told(write_run, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [write_run(f"a{seed}", seed=seed, predictions=rows(right)) for seed, right in enumerate((90, 80))]
    theirs = [write_run(f"b{seed}", seed=seed, predictions=rows(right)) for seed, right in enumerate((60, 70))]
    (found,) = compare(ours, theirs)
    assert (found.split, found.metric, found.examples) == ("val", "accuracy", 100)
    assert (found.ours, found.theirs) == ([0.9, 0.8], [0.6, 0.7])
    assert found.difference.mean == pytest.approx(0.2)
    assert 0.1 < found.difference.low < 0.2 < found.difference.high < 0.3
    assert cli.main(["compare", *map(str, ours), "--with", *map(str, theirs), "--draws", "500"]) == 0
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


def refused(capsys: pytest.CaptureFixture[str], *words: Path | str) -> str:
    assert cli.main(["compare", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_compared_is_told(write_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_run("a", predictions=rows(50))
    other = write_run("b", predictions=rows(50, of=99))
    assert "did not predict the same rows of val" in refused(capsys, good, "--with", other)
    assert "stands on both sides" in refused(capsys, good, other, "--with", good)
    mrpc, rte = good, write_run("c", task="glue/rte", predictions=rows(50))
    assert "different tasks cannot be compared: glue/mrpc, glue/rte" in refused(capsys, mrpc, "--with", rte)
    assert "is not finished" in refused(capsys, good, "--with", write_run("d", finished=False))
    assert "did not predict that split" in refused(capsys, good, "--with", write_run("e"))
    assert "no split whose labels are known" in refused(capsys, write_run("f"), "--with", good)
    numbers = [write_run(name, task="glue/stsb", rows={"text_a": "a"}, predictions=rows(1)) for name in "gh"]
    assert "not means over examples" in refused(capsys, numbers[0], "--with", numbers[1])
    assert "holds no config.yaml" in refused(capsys, tmp_path, "--with", good)
    assert "--draws 0: at least one" in refused(capsys, good, "--with", other, "--draws", "0")
