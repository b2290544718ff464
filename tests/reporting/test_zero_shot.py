"""`protoformer report lm`: ours beside the paper's four sizes and the reproductions, "not run" where there is no run."""

from pathlib import Path

import pytest

from protoformer import cli
from protoformer.reporting.zero_shot import COLUMNS, ZeroShotRun, notes, protocols, published, table

CONF = Path(__file__).parents[2] / "conf"
TASKS = ("lambada", "cbt_cn", "cbt_ne", "wikitext2", "ptb", "enwik8", "text8", "wikitext103", "one_billion_word")


def test_numbers_are_of_tasks_and_models_that_there_are() -> None:
    assert {row.task for row in published()} == {f"lm/{name}" for name in TASKS}
    assert all((CONF / "task" / f"{row.task}.yaml").is_file() for row in published())
    models = {row.model for row in published()} - {"prior_best"}
    assert models == {"gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl"}


def test_what_was_not_run_is_not_run() -> None:
    rows = table([])
    assert {row[2] for row in rows} == {"not run"}
    of_paper = [row for row in rows if row[4]]
    assert len(of_paper) == 10  # the columns of table 3
    assert all(all(row[3 : 3 + len(COLUMNS)]) for row in of_paper)
    (wikitext2,) = (row for row in rows if row[:2] == ("lm/wikitext2", "perplexity_per_token_stride_1024"))
    assert wikitext2[3:] == ("39.14", "29.41", "22.76", "19.93", "18.34", "gpt2 29.94\ngpt2_large 19.44")


def test_a_number_of_ours_stands_beside_the_same_metric_alone() -> None:
    metrics = {"bits_per_byte_stride_1024": "1.2000", "bits_per_byte_stride_512": "1.1000"}
    runs = [
        ZeroShotRun(
            "gpt2", "tested-1", "lm/enwik8", metrics, {"windows": "of 1024 tokens"}, ["its test split has 9 bytes"]
        )
    ]
    rows = {row[:2]: row for row in table(runs)}
    assert rows["lm/enwik8", "bits_per_byte_stride_1024"][2:5] == ("gpt2 1.2000", "0.99", "1.16")
    assert rows["lm/enwik8", "bits_per_byte_stride_512"][2:5] == ("gpt2 1.1000", "", "")
    assert notes(runs) == ["gpt2 on lm/enwik8: windows of 1024 tokens; its test split has 9 bytes"]


def test_several_runs_of_a_model_are_told_apart() -> None:
    runs = [ZeroShotRun("gpt2", name, "lm/text8", {"bits_per_character": value}, {"windows": "a"}, [])
            for name, value in (("tested-1", "1.2"), ("tested-2", "2.9"))]  # fmt: skip
    runs.append(ZeroShotRun("gpt2", "tested-3", "lm/enwik8", {"bits_per_byte": "3.1"}, {"windows": "a"}, []))
    rows = {row[:2]: row[2] for row in table(runs)}
    assert rows["lm/text8", "bits_per_character"] == "gpt2 (tested-1) 1.2\ngpt2 (tested-2) 2.9"
    assert rows["lm/enwik8", "bits_per_byte"] == "gpt2 3.1"
    assert notes(runs)[1] == "gpt2 (tested-2) on lm/text8: windows a"


def test_each_published_number_has_its_protocol() -> None:
    text = "\n".join(protocols())
    assert "lm/wikitext2 perplexity_per_token_stride_1024, GPT-2, Table 3: zero-shot; stride, de-tokenisers" in text
    assert "huggingface/transformers, issue 13761: raw rows joined by two line ends" in text


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "lm", str(tmp_path), "--markdown", str(tmp_path / "lm.md")]) in (0, None)
    assert "not run" in capsys.readouterr().out
    assert "| lm/wikitext2 |" in (tmp_path / "lm.md").read_text()
    assert cli.main(["report", "lm", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
