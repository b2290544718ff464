"""The card of a run, from a folder as a run leaves it."""

import json
from pathlib import Path

import pytest

from protoformer.errors import RunFolderError
from protoformer.reporting import card

pytestmark = pytest.mark.usefixtures("whole_runs")  # with pictures


def test_a_card_says_what_was_run_and_sets_it_beside_the_paper(write_run) -> None:
    folder = write_run("mrpc-1a2b", losses=[0.7, 0.5, 0.3])
    path = card.write_card(folder)
    text = path.read_text()
    assert path == folder / "card.md"
    assert "# bert on glue/mrpc" in text
    assert "| val/accuracy | 84.00 | 86.7 | BERT, Table 5 |" in text
    assert "| test/f1 | - | 88.9 | BERT, Table 1 |" in text
    assert "scored by the GLUE server" in text  # the protocol of the paper's number
    assert "No published number for val/f1" in text
    assert "python train.py model=bert task=glue/mrpc seed=42" in text
    assert "1 min 35 s" in text
    assert "109,483,778" in text
    assert "3 of train" in text
    assert "c0de" in text
    assert "da7a" in text
    assert "2.13.0" in text
    assert "This is not the paper's experiment" not in text
    assert "](curves.svg)" in text
    assert (folder / "curves.svg").read_text().startswith("<?xml")
    assert not list(folder.glob("*.part"))


def test_a_task_with_published_numbers_on_another_split_alone_says_so(write_run) -> None:
    text = card.write_card(write_run("rte", task="glue/rte", metrics={"val/accuracy": 0.66})).read_text()
    assert "**not directly comparable**" in text
    assert "| test/accuracy | - | 66.4 |" in text


def test_a_model_that_no_paper_prints_says_so(write_run) -> None:
    text = card.write_card(write_run("x", model="bert_l2_h128")).read_text()
    assert r"No published results of bert\_l2\_h128 on glue/mrpc are recorded." in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "scratch"}, "it was trained from scratch"),
        ({"init_from": "elsewhere/minilm"}, "it started from elsewhere/minilm"),
        ({"trainer": {"limit_train_batches": 3}}, r"trainer.limit\_train\_batches=3"),
        ({"choices": {"model": "bert", "task": "glue/mrpc", "source": "sample"}}, "built-in sample"),
    ],
)
def test_what_keeps_a_run_from_the_papers_experiment_is_named(write_run, changes: dict, message: str) -> None:
    text = card.write_card(write_run("x", **changes)).read_text()
    assert "This is not the paper's experiment" in text
    assert message in text


def test_a_task_without_a_dev_set_and_a_run_without_training_have_a_card(write_run) -> None:
    folder = write_run("ax", task="glue/ax", metrics={})
    (folder / "metrics.jsonl").unlink()
    text = card.write_card(folder).read_text()
    assert "This run has no scores." in text
    assert "curves.svg" not in text


def test_a_run_that_only_evaluates_has_no_recipe(write_run) -> None:
    folder = write_run("x", init_from="scratch")
    path = folder / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "training": {**content["training"], "steps": 0}}))
    text = card.write_card(folder).read_text()
    assert "its weights are random" in text
    assert "## Evaluation" in text
    assert "## Training" not in text
    assert "recipe." not in text


def test_text_is_shown_as_it_is(write_run) -> None:
    folder = write_run("a|b<i>*c*")
    result = json.loads((folder / "result.json").read_text())
    result["command"] = "python train.py '```' x=1"
    result["versions"] = {"x\ny": "1|2"}
    (folder / "result.json").write_text(json.dumps(result))
    text = card.write_card(folder).read_text()
    assert r"Run a\|b\<i\>\*c\*" in text
    assert "````sh\npython train.py '```' x=1\n````" in text
    assert r"| x y | 1\|2 |" in text


def test_numbers_that_are_not_a_number_are_printed(write_run) -> None:
    metrics = {"val/pearson": float("nan"), "val/spearman": float("nan")}
    text = card.write_card(write_run("nan", task="glue/stsb", metrics=metrics)).read_text()
    assert "| val/pearson | nan |" in text


def test_an_unfinished_run_has_no_card(write_run, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not finished"):
        card.write_card(write_run("x", finished=False))
    with pytest.raises(RunFolderError, match=r"has no config\.yaml"):
        card.write_card(tmp_path)
