"""A tiny encoder learns from the built-in sample: on new rows it beats what needs no reading.

MNLI is `experiment=demo`, pretraining stands in `test_tasks`. SQuAD v1 is learnt as far as where phrases begin and end and
which kind of phrase a question asks for, not which of the story's sentences it means.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import pytest

from protoformer.sample import generate
from protoformer.scoring import squad

from .commands import Workspace, result

MODEL = ("model=bert_l2_h128", "model.norm=pre", "model.init_std=0.07", "model.n_heads=8", "model.dropout=0")
RECIPE = ("recipe.lr=1e-3", "recipe.schedule=cosine", "recipe.eps=1e-8")
READING = ("model.top=bilstm", "task.max_len=128")  # the LSTM soon finds where phrases end
PLACE = ("source=sample", "init_from=scratch", "tracking=none", "hardware.threads=1")
SPLITS = ("task.splits.validation='validation[:500]'", "task.splits.test=null")

Rows = list[dict[str, Any]]


def seen(rows: int, epochs: int, batch: int = 64) -> tuple[str, ...]:
    """What is read in training: so many rows, so many times."""
    return f"source.rows={rows}", f"recipe.epochs={epochs}", f"recipe.batch_size={batch}"


def most_frequent(rows: Rows) -> float:
    """Accuracy of the most frequent label."""
    ((_, count),) = Counter(row["label"] for row in rows).most_common(1)
    return count / len(rows)


def nothing(rows: Rows) -> float:
    """A correlation with anything that is the same for every row."""
    return 0.0


def any_span(rows: Rows) -> float:
    """F1 of one to four words that follow one another in the context, wherever they stand."""
    told = generate("rajpurkar/squad", "plain_text", "validation", rows=len(rows)).to_pylist()
    assert [row["id"] for row in told] == [row["question"] for row in rows]
    random, scores = Random(0), []
    for row, context in zip(rows, (row["context"].split() for row in told), strict=True):
        start = random.randrange(len(context))
        scores.append(squad.f1(" ".join(context[start : start + random.randint(1, 4)]), row["label"]))
    return mean(scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "overrides", "metric", "least", "unread"),
    [
        ("glue/cola", seen(8000, 4), "matthews_correlation", 0.9, nothing),
        ("glue/sst2", seen(4000, 4), "accuracy", 0.9, most_frequent),
        ("glue/mrpc", seen(20000, 4), "accuracy", 0.72, most_frequent),
        ("glue/stsb", seen(10000, 4), "pearson", 0.7, nothing),
        ("glue/qqp", seen(10000, 4), "accuracy", 0.8, most_frequent),
        ("glue/qnli", seen(20000, 3), "accuracy", 0.8, most_frequent),
        ("glue/rte", seen(20000, 4), "accuracy", 0.63, most_frequent),
        ("glue/wnli", seen(6000, 4), "accuracy", 0.9, most_frequent),
        ("squad/v1", (*READING, *seen(48000, 1, batch=32)), "f1", 0.35, any_span),
        ("swag", seen(20000, 2, batch=32), "accuracy", 0.4, most_frequent),
    ],
)
def test_what_is_learnt_holds_on_new_rows(
    task: str, overrides: tuple[str, ...], metric: str, least: float, unread: Callable[[Rows], float], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    completed = workspace.run(*MODEL, *RECIPE, *PLACE, *SPLITS, f"task={task}", *overrides, seconds=2400)
    assert completed.returncode == 0, completed.stderr
    (folder,) = workspace.runs()
    lines = (folder / "predictions" / "val.jsonl").read_text(encoding="utf-8").splitlines()
    score = result(folder)["metrics"][f"val/{metric}"]
    assert score > max(least, unread([json.loads(line) for line in lines]) + 0.05)
