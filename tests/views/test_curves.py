"""Learning curves from metrics.jsonl."""

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from protoformer.errors import RunFolderError
from protoformer.runs.metrics import read_curves
from protoformer.views import curves

SCORES = ("accuracy", "f1", "exact_match", "best_f1")


def draw(file: Path) -> Path:
    return curves.draw(file, SCORES)


def written(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def words(svg: Path) -> str:
    """The text of a picture; matplotlib draws letters as shapes, and writes the text beside them as a comment."""
    ET.parse(svg)
    return svg.read_text()


def run(n: int = 40) -> list[dict]:
    rows: list[dict] = [
        {"step": s, "epoch": 0, "time": 1.0, "train/loss": 1 / s, "train/lr": 1e-5 * s} for s in range(1, n)
    ]
    rows += [{"step": s, "val/accuracy": s / n, "val/loss": 0.3, "val/score": s / n} for s in range(10, n, 10)]
    return rows


def test_a_run_is_drawn_in_two_panels_with_its_best_step(tmp_path: Path) -> None:
    path = draw(written(tmp_path, run()))
    assert path == tmp_path / "curves.svg"
    text = words(path)
    for word in ("Loss", "Dev scores", "learning rate", "accuracy", "best: step 30"):
        assert f"<!-- {word} -->" in text, word


def test_numbers_of_another_scale_do_not_flatten_the_scores(tmp_path: Path) -> None:
    rows = run()
    rows += [{"step": 20, "val/perplexity": 300.0, "val/mlm_loss": 5.7, "val/null_threshold": -9.5}]
    text = words(draw(written(tmp_path, rows)))
    assert "<!-- accuracy -->" in text
    assert "<!-- dev -->" in text
    assert not any(word in text for word in ("perplexity", "mlm_loss", "null_threshold"))


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    first = draw(written(tmp_path / "a", run())).read_bytes()
    second = draw(written(tmp_path / "b", run())).read_bytes()
    assert first == second
    assert draw(written(tmp_path / "c", run(30))).read_bytes() != first


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], ["no training", "no scores on a dev set"]),
        ([{"step": 3, "train/loss": 0.5}], ["Loss", "no scores on a dev set"]),
        ([{"step": 0, "val/accuracy": 0.5, "val/score": 0.5}], ["no training", "best: step 0"]),
        ([{"step": 1, "train/loss": math.nan, "val/pearson": math.nan, "val/score": 0.0}], ["no training", "score"]),
        ([{"step": s, "train/loss": -1.0} for s in (1, 2)], ["Loss"]),
    ],
)
def test_little_and_undefined_numbers_are_drawn(tmp_path: Path, rows: list[dict], message: list[str]) -> None:
    text = words(draw(written(tmp_path, rows)))
    assert all(f"<!-- {word} -->" in text for word in message)


def test_a_continued_run_counts_the_later_line_of_a_step(tmp_path: Path) -> None:
    rows = [{"step": s, "train/loss": float(s)} for s in (1, 2, 3)] + [
        {"step": s, "train/loss": 10.0 * s} for s in (2, 3, 4)
    ]
    assert read_curves(written(tmp_path, rows)) == {"train/loss": ([1, 2, 3, 4], [1.0, 20.0, 30.0, 40.0])}


def test_a_line_cut_off_at_the_end_is_left_out_and_one_in_the_middle_named(tmp_path: Path) -> None:
    file = written(tmp_path, run(5))
    whole = read_curves(file)
    text = file.read_text()
    file.write_text(text + '{"step": 5, "train/lo')
    assert read_curves(file) == whole
    file.write_text('{"step": 5, "tr\n' + text)
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl, line 1"):
        read_curves(file)


def test_a_dev_loss_stands_beside_the_training_loss_of_the_same_meaning(tmp_path: Path) -> None:
    """Smoothing, and an auxiliary term, are in the training loss alone."""
    rows = [{**row, "train/plain_loss": 0.9 * row["train/loss"]} for row in run() if "train/loss" in row]
    text = words(draw(written(tmp_path / "smoothed", [*rows, {"step": 9, "val/loss": 0.3, "val/smoothed_loss": 0.4}])))
    assert "<!-- Loss -->" in text
    assert "<!-- Smoothed loss (trained on) -->" in text
    rows = [{**row, "train/task_loss": 0.5, "train/lm_loss": 3.0} for row in run() if "train/loss" in row]
    text = words(draw(written(tmp_path / "auxiliary", [*rows, {"step": 9, "val/loss": 0.3}])))
    assert "<!-- Loss of the task -->" in text
    assert "<!-- Loss of the language model -->" in text
    assert text.count("<!-- dev -->") == 1


def test_scores_are_drawn_times_100_and_a_headline_as_it_is(tmp_path: Path) -> None:
    rows = [{"step": s, "train/loss": 1.0, "val/accuracy": s / 10, "val/perplexity": 170.0 - s} for s in (1, 2, 3)]
    assert "<!-- 30 -->" in words(draw(written(tmp_path / "a", rows)))
    text = words(curves.draw(written(tmp_path / "b", rows), SCORES, headline="perplexity"))
    assert "<!-- Dev perplexity -->" in text
    assert "<!-- 168" in text
    assert "accuracy" not in text


def test_no_point_is_cut_at_the_upper_edge(tmp_path: Path) -> None:
    """The first and highest loss lies a tenth below the edge, as does the learning rate's peak."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    curves._draw_loss(axes, "Loss", ([1, 2, 3], [5.0, 2.0, 1.0]), [([2], [6.0])])
    assert axes.get_ylim() == (0, pytest.approx(6.6))
