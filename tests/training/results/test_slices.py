"""`views.slices`: columns of the data set are recorded for the card, and unknown ones refused before anything is trained."""

import datetime
import json
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.runs.identity import run_id
from protoformer.training.run import train

ROWS = 24
WORDS = [
    *("model=bert_l2_h128", "task=classify", "init_from=scratch", "tracking=none", "hardware=cpu", "hardware.threads=1"),
    *("model.d_model=16", "model.d_ff=32", "model.n_heads=2", "model.n_layers=1", "recipe.batch_size=8", "recipe.max_steps=1"),
    *("task.max_len=16", "task.splits.test=null", "task.rows.text=text"),
]  # fmt: skip


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A run on two files with a column beside text and label."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev"):
        rows = [
            {"text": f"word {name} {i} not", "label": "ab"[i % 2], "source": f"s{i % 3}", "level": i}
            for i in range(ROWS)
        ]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text(
        "\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word", "train", "dev", "not")) + "\n"
    )
    return [
        *WORDS,
        f"model.tokenizer={vocabulary}",
        "source=local",
        f"source.root={data}",
        f"paths.outputs={tmp_path}/o",
        f"paths.cache={tmp_path}/c",
    ]


def test_a_column_is_recorded_and_scored(words: list[str], tmp_path: Path) -> None:
    train(compose([*words, "views.slices=[source,level,negation]"]), "")
    folder = next(tmp_path.rglob("result.json")).parent
    rows = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
    assert [row["columns"] for row in rows] == [{"source": f"s{i % 3}", "level": i} for i in range(ROWS)]
    card = (folder / "card.md").read_text()
    assert "| source: s1 | 8 | " in card
    assert "| level: 6 to 11 | 6 | " in card
    assert "| negation: present | 24 | " in card


def test_columns_that_json_has_no_word_for_are_recorded_as_text(words: list[str], tmp_path: Path) -> None:
    data = tmp_path / "tables"
    data.mkdir()
    day = datetime.date(2024, 2, 29)
    rows = [
        {
            "text": f"word {i}",
            "label": "ab"[i % 2],
            "day": day,
            "price": Decimal("1.50"),
            "blob": b"x",
            "share": math.nan,
        }
        for i in range(ROWS)
    ]
    for name in ("train", "dev"):
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    train(compose([*words, f"source.root={data}", "views.slices=[day,price,blob,share]"]), "")
    folder = next(tmp_path.rglob("result.json")).parent
    first = json.loads((folder / "predictions" / "val.jsonl").read_text().splitlines()[0])
    assert first["columns"] == {"day": "2024-02-29", "price": "1.50", "blob": "b'x'", "share": None}
    assert "| day: 2024-02-29 | 24 | " in (folder / "card.md").read_text()


def test_an_unknown_column_is_refused_before_training(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"views\.slices: no column sauce .* there are text, label, source, level"
    ):
        train(compose([*words, "views.slices=[sauce]"]), "")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_they_are_no_part_of_a_runs_name(words: list[str]) -> None:
    assert run_id(compose([*words, "views.slices=[source]"])) == run_id(compose(words))
