"""The published numbers: that they are whole, that they can be found, and that a wheel carries them."""

import math
from pathlib import Path

import pytest

from protoformer.runtime import published
from protoformer.scoring import glue

CONF = Path(__file__).parents[2] / "conf"


def test_every_row_is_whole_and_stands_once() -> None:
    rows = published.rows()
    assert len(rows) == 87
    assert len({(row.paper, row.table, row.row, row.task, row.key) for row in rows}) == len(rows)
    for row in rows:
        assert all((row.paper, row.table, row.row, row.model, row.task, row.protocol)), row
        assert row.split.split("/")[0] in ("val", "test"), row
        assert row.metric in published.PERCENT, row
        assert 10 < row.value < 100, row


def test_glue_rows_name_tasks_metrics_and_splits_that_exist() -> None:
    from omegaconf import OmegaConf

    rows = [row for row in published.rows() if row.task.startswith("glue/")]
    assert len(rows) > 50
    for row in rows:
        task = OmegaConf.load(CONF / "task" / f"{row.task}.yaml")
        assert row.metric in task.module.metrics, row
        assert row.metric in glue.METRICS, row
        stage, _, part = row.split.partition("/")
        splits = OmegaConf.to_container(task.splits)["validation" if stage == "val" else "test"]
        assert part in splits if part else isinstance(splits, str), row


def test_models_of_bert_rows_exist() -> None:
    models = {row.model for row in published.rows() if not row.model.startswith("gpt")}
    assert models == {"bert", "bert_large", "bert_base_cased", "bert_l6_h768"}
    assert all((CONF / "model" / f"{model}.yaml").exists() for model in models)


def test_numbers_are_found_by_model_task_and_split() -> None:
    rows = published.published("bert", "glue/mnli", "test/mismatched")
    assert [(row.value, row.table) for row in rows] == [(83.4, "Table 1")]
    assert published.published("bert", "glue/wnli") == []
    assert published.published("bert_large", "glue/rte")[0].value == 70.1
    best = published.beside("bert", "glue/mrpc", "val/accuracy")
    assert best is not None
    assert (best.source, best.value) == ("BERT, Table 5", 86.7)  # the paper before a README
    assert published.beside("bert", "glue/mrpc", "val/f1") is None


def test_glue_averages_are_those_the_paper_prints() -> None:
    for model, average in (("bert", 79.6), ("bert_large", 82.1), ("gpt", 75.1)):
        rows = [row for row in published.rows() if (row.table, row.model) == ("Table 1", model)]
        assert len(rows) == 9
        assert math.fsum(row.value for row in rows) / 9 == pytest.approx(average, abs=0.06), model


def test_values_are_printed_as_the_papers_print_them() -> None:
    assert published.printed("val/matched/accuracy", 0.84071) == "84.07"
    assert published.printed("val/score", 0.5) == "50.00"
    assert published.printed("val/loss", 0.40321) == "0.4032"
    assert published.printed("val/pearson", math.nan) == "nan"
    assert published.printed("val/f1", None) == "-"


def test_scores_are_told_from_losses() -> None:
    keys = ["train/loss", "val/loss", "val/matched/accuracy", "val/matched/loss", "val/score", "test/f1"]
    assert published.score_keys(keys) == ["val/matched/accuracy", "test/f1"]
