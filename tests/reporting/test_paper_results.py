"""The published numbers: that they are whole, that they can be found, and that a wheel carries them."""

import math
from pathlib import Path

import pytest

from protoformer.reporting import paper_results
from protoformer.runs.upgrade import PERCENT_METRICS
from protoformer.scoring import glue

CONF = Path(__file__).parents[2] / "conf"


def test_every_row_is_whole_and_stands_once() -> None:
    rows = paper_results.rows()
    assert len(rows) == 384
    assert len({(row.paper, row.table, row.row, row.model, row.task, row.key) for row in rows}) == len(rows)
    for row in rows:
        assert all((row.paper, row.table, row.row, row.model, row.task, row.protocol)), row
        assert row.split.split("/")[0] in ("val", "test"), row
        if row.task.startswith("lm/"):
            continue
        if row.task.startswith("incontext/"):  # of small models and hard problems any number
            assert 0 < row.value <= (100 if row.metric != "perplexity" else 1000), row
            continue
        assert row.metric in {*PERCENT_METRICS, "score", "perplexity"}, row
        assert (10 if row.metric in {*PERCENT_METRICS, "score"} else 1) < row.value < 100, row


def test_table_3_is_found_by_what_a_run_changes() -> None:
    """arXiv 1706.03762, table 3: 18 rows beside the base, and the big model."""
    task, key = "translate/wmt14_en_de", "val/compound_bleu"
    rows = [row for row in paper_results.rows() if (row.table, row.model, row.key) == ("Table 3", "transformer", key)]
    assert len(rows) == 20
    base = {"n_layers": 6, "d_model": 512, "d_ff": 2048, "n_heads": 8, "dropout": 0.1}

    def actual(**model: object) -> list[float]:
        config = {"model": base | model, "recipe": {"label_smoothing": 0.1}}
        return [row.value for row in paper_results.ablation_variants("transformer", task, config) if row.key == key]

    assert actual(n_heads=1) == [24.9]
    assert actual(dropout=0) == actual(dropout=0.0) == [24.6]
    assert actual(positions="learned") == [25.7]
    assert actual(d_model=1024, d_ff=4096, n_heads=16, dropout=0.3) == [26.4]
    assert actual() == actual(d_model=512) == actual(n_heads=1, n_layers=2) == []
    assert actual(n_heads=4, d_model=32) == []  # a smaller model's heads are no row of the paper
    told = paper_results.caveats({"model": base | {"d_model": 32}, "choices": {"model": "transformer", "task": task}})
    assert told == ["it is none of the paper's variations: model.d_model=32 (512)"]
    varied = {"model": base | {"n_heads": 1}, "choices": {"model": "transformer", "task": task}}
    assert paper_results.caveats(varied) == []
    smoothed = paper_results.ablation_variants("transformer", task, {"recipe": {"label_smoothing": 0}})
    assert {row.key: row.value for row in smoothed} == {key: 25.3, "val/perplexity": 4.67}
    beside = paper_results.published_value("transformer", task, key, {"model": {"n_heads": 8}})
    assert beside is not None
    assert beside.value == 25.8


def test_glue_rows_name_tasks_metrics_and_splits_that_exist() -> None:
    from omegaconf import OmegaConf

    rows = [row for row in paper_results.rows() if row.task.startswith("glue/")]
    assert len(rows) > 50
    for row in rows:
        task = OmegaConf.load(CONF / "task" / f"{row.task}.yaml")
        stage, _, part = row.split.partition("/")
        splits = OmegaConf.to_container(task.splits)["validation" if stage == "val" else "test"]
        if row.metric == "score":
            assert isinstance(splits, dict) or len(task.module.metrics) > 1, row
            continue
        assert row.metric in task.module.metrics, row
        assert row.metric in glue.METRICS, row
        assert part in splits if part else isinstance(splits, str), row


def test_models_of_rows_exist() -> None:
    models = {row.model for row in paper_results.rows() if not row.model.startswith(("gpt", "prior"))}
    assert models == {"bert", "bert_large", "bert_base_cased", "bert_l6_h768", "transformer", "transformer_big"}
    assert all((CONF / "model" / f"{model}.yaml").exists() for model in models)


def test_numbers_are_found_by_model_task_and_split() -> None:
    rows = paper_results.published("bert", "glue/mnli", "test/mismatched")
    assert [(row.value, row.table) for row in rows] == [(83.4, "Table 1")]
    assert paper_results.published("bert", "glue/wnli") == []
    assert paper_results.published("bert_large", "glue/rte")[0].value == 70.1
    best = paper_results.published_value("bert", "glue/mrpc", "val/accuracy")
    assert best is not None
    assert (best.source, best.value) == ("BERT, Table 5", 86.7)  # the paper before a README
    assert paper_results.published_value("bert", "glue/mrpc", "val/f1") is None


def test_glue_averages_are_those_the_paper_prints() -> None:
    for model, average in (("bert", 79.6), ("bert_large", 82.1), ("gpt", 75.1)):
        rows = [row for row in paper_results.rows() if (row.table, row.model) == ("Table 1", model)]
        assert len(rows) == 9
        assert math.fsum(row.value for row in rows) / 9 == pytest.approx(average, abs=0.06), model


def test_gpts_numbers_are_of_tasks_that_there_are() -> None:
    rows = [row for row in paper_results.rows() if row.model == "gpt"]
    tasks = {row.task for row in rows}
    assert all((CONF / "task" / f"{task}.yaml").exists() for task in tasks)
    own = {row.task for row in rows if row.paper.startswith("GPT,") and row.table != "Table 5"}
    glue_tasks = {f"glue/{name}" for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")}
    assert own == glue_tasks | {"snli", "scitail", "story_cloze", "race/all", "race/middle", "race/high"}
    assert len(own - {"race/middle", "race/high"}) == 12


@pytest.mark.parametrize(
    ("row", "average"),
    [
        ("Transformer w/ aux LM (full)", 74.7),
        ("Transformer w/o pre-training", 59.9),
        ("Transformer w/o aux LM", 75.0),
        ("LSTM w/ aux LM", 69.1),
    ],
)
def test_the_ablation_averages_are_those_that_gpts_paper_prints(row: str, average: float) -> None:
    actual = [one for one in paper_results.rows() if (one.table, one.row, one.model) == ("Table 5", row, "gpt")]
    assert len(actual) == 8
    assert math.fsum(one.value for one in actual) / 8 == pytest.approx(average, abs=0.07)
    if "full" in row:  # the same as where they stand among the results
        for one in actual:
            best = paper_results.published_value("gpt", one.task, one.key)
            assert best is not None
            assert best.value == one.value


def test_values_are_printed_as_the_papers_print_them() -> None:
    result = {"task_type": {"percent_metrics": ["accuracy"]}}
    assert [paper_results.is_percent(key, result) for key in ("val/matched/accuracy", "val/score", "val/loss")] == [
        True,
        True,
        False,
    ]
    assert paper_results.format_metric(0.84071, percent=True) == "84.07"
    assert paper_results.format_metric(0.40321, percent=False) == "0.4032"
    assert paper_results.format_metric(362198.28, percent=False) == "362198.2800"
    assert paper_results.format_metric(13371386880.0, percent=False) == "1.337e+10"
    assert paper_results.format_metric(math.nan, percent=True) == "nan"
    assert paper_results.format_metric(None, percent=True) == "-"


def test_scores_are_told_from_losses() -> None:
    keys = ["train/loss", "val/loss", "val/matched/accuracy", "val/matched/loss", "val/score", "test/f1"]
    assert paper_results.score_keys(keys) == ["val/matched/accuracy", "test/f1"]


def test_other_numbers_of_rows_are_other_data() -> None:
    config = {"choices": {"model": "bert", "task": "glue/sst2"}, "task": {"train_examples": 67349}}

    def told(**rows: int) -> list[str]:
        return paper_results.caveats(config, {"data": {split: {"rows": n, "skipped": 2} for split, n in rows.items()}})

    assert told(train=67349, validation=872) == told(train=67351) == told(test=5) == []
    assert told(train=60, validation=20) == [
        "its train split has 60 rows, that of the data set 67,349",
        "its validation split has 20 rows, that of the data set 872",
    ]
    matched = {"data": {"validation/matched": {"rows": 9815}, "validation/mismatched": {"rows": 9815}}}
    mnli = {"choices": {"model": "bert", "task": "glue/mnli"}, "task": {"train_examples": None}}
    assert paper_results.caveats(mnli, matched) == [
        "its validation/mismatched split has 9,815 rows, that of the data set 9,832"
    ]


def test_a_head_of_a_text_is_other_data() -> None:
    config = {"choices": {"model": "gpt2", "task": "lm/enwik8"}}
    assert paper_results.caveats(config, {"data": {"test": {"bytes": 5_000_000}}}) == []
    assert paper_results.caveats(config, {"data": {"test": {"bytes": 99_852}}}) == [
        "its test split has 99,852 bytes, that of the data set 5,000,000"
    ]


@pytest.mark.parametrize(("shots", "value"), [(0, 33.7), (1, 33.0), (20, 33.5)])
def test_gpt3s_numbers_are_those_of_the_same_shots(shots: int, value: float) -> None:
    config = {"task": {"shots": shots}}
    row = paper_results.published_value("gpt3_small", "incontext/hellaswag", "val/accuracy_per_token", config)
    assert row is not None
    assert row.value == value
    other = paper_results.caveats(
        {"choices": {"model": "gpt3_small", "task": "incontext/hellaswag"}, "task": {"shots": 5}}
    )
    assert any("task.shots=5 (0)" in reason for reason in other)
