"""What a run prints at its end."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from protoformer.config.compose import compose
from protoformer.reporting import head, results
from protoformer.reporting.tables import counted, format_duration
from protoformer.runs import reader


def printed(folder: Path, width: int = 80) -> str:
    stream = io.StringIO()
    result = reader.read_result(folder)
    assert result is not None
    results.print_results(result, folder, Console(file=stream, width=width))
    return stream.getvalue()


def test_scores_stand_beside_the_papers_in_its_units(write_run) -> None:
    text = printed(write_run("mrpc-1a2b"))
    lines = [line.split() for line in text.splitlines()]
    cells = [[cell for cell in line if cell not in "│┃|"] for line in lines]
    assert ["val/accuracy", "84.00", "86.7", "BERT,", "Table", "5"] in cells
    assert ["val/f1", "88.00", "-"] in cells
    assert ["test/f1", "-", "88.9", "BERT,", "Table", "1"] in cells
    assert "115.6 examples/s, 6,200 tokens/s" in text
    assert "bert x glue/mrpc" in text


def test_piped_output_has_no_colour_and_paths_stay_whole(write_run) -> None:
    folder = write_run("long-" + "x" * 90)
    (folder / "card.md").write_text("")
    text = printed(folder)
    assert "\x1b" not in text
    assert str(folder) in text
    assert str(folder / "card.md") in text
    assert "curves.svg" not in text  # what does not exist is not named


def test_brackets_are_no_markup(write_run) -> None:
    assert "mrpc[bold]1" in printed(write_run("mrpc[bold]1"))


def test_other_weights_are_told(write_run) -> None:
    assert "it started from minilm, not from the model's published weights" in printed(
        write_run("x", init_from="minilm")
    )


def test_columns_of_published_numbers_stand_only_where_there_are_some(write_run) -> None:
    assert "printed in" in printed(write_run("a"))
    text = printed(write_run("b", task="classify"))
    assert "val/accuracy" in text
    assert "printed in" not in text


@pytest.mark.parametrize(
    ("epochs", "text"), [(0.0064, "0.006 epochs"), (0.06, "0.06 epochs"), (1.0, "1 epoch"), (2, "2 epochs")]
)
def test_epochs_are_counted_where_they_are_few(epochs: float, text: str) -> None:
    assert counted(epochs, "epoch") == text


def test_a_run_without_scores_prints_its_facts(write_run) -> None:
    text = printed(write_run("ax", task="glue/ax", metrics={}))
    assert "345 steps, 3 epochs, 1 min 35 s" in text
    assert "published" not in text


def test_a_result_of_the_needed_keys_alone_is_printed(write_run) -> None:
    folder = write_run("x")
    (folder / "result.json").write_text(json.dumps({"run_id": "x", "model": "m", "task": "t", "metrics": {}}))
    assert str(folder) in printed(folder)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.04, "4.0 s"), (42.4, "42 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("words", "is_said"), [(["debug=fast"], True), (["debug=fast", "tracking=wandb"], False), ([], False)]
)
def test_a_smoke_test_says_that_it_has_no_tracker(words: list[str], is_said: bool) -> None:
    config = compose(["model=bert_l2_h128", "task=glue/mrpc", *words])
    assert ("debug=fast: no tracker" in head.head_line(config, Path("out"))) == is_said
