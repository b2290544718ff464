"""Every key is listed with type, default and meaning, and docs/settings.md is up to date."""

from pathlib import Path

import pytest
import yaml

from protoformer import cli
from protoformer.commands import settings, train
from protoformer.config import schema
from protoformer.config.compose import compose
from protoformer.config.groups import search_path
from protoformer.config.reference.settings import Section, sections, with_defaults
from protoformer.config.validate import check, keys_of

ROOT = Path(__file__).parents[2]
PAIRS = (
    ["model=bert", "task=glue/mnli"],
    ["model=transformer", "task=translate/multi30k_en_de"],
    ["model=gpt2", "task=pretrain/clm"],
)


@pytest.fixture(scope="module")
def listed() -> list[Section]:
    return sections(search_path())


def test_the_page_is_up_to_date(listed: list[Section]) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings.markdown(listed), "out of date: run `make settings`"


def test_every_key_has_a_meaning(listed: list[Section]) -> None:
    assert [setting.key for section in listed for setting in section.settings if not setting.meaning] == []
    assert sum(len(section.settings) for section in listed) > 150


def test_every_key_of_a_composed_run_is_listed(listed: list[Section]) -> None:
    known = {setting.key for section in listed for setting in section.settings}
    for words in (
        ["model=bert", "task=glue/mnli"],
        ["model=transformer", "task=translate/multi30k_en_de"],
        ["model=gpt2", "task=pretrain/clm"],
    ):
        config = with_defaults(compose(words))
        for node in ("model", "task", "recipe", "trainer", "hardware", "tracking", "paths", "source"):
            for key in config[node]:
                assert key == "_target_" or f"{node}.{key}" in known | {section.node for section in listed}, key
        for node in ("rows", "data", "module"):
            for key in config["task"][node]:
                nested = isinstance(config["task"][node][key], dict) or key == "parts"
                assert key == "_target_" or nested or f"task.{node}.{key}" in known, key


def test_types_ranges_and_defaults_are_shown(listed: list[Section]) -> None:
    by_key = {setting.key: setting for section in listed for setting in section.settings}
    assert by_key["recipe.clip"].default == "1.0"
    assert by_key["hardware.precision"].type == "fp32 or tf32 or bf16 or fp16"
    assert by_key["trainer.log_every"][1:] == (
        "a whole number (at least 1)", "10", "optimizer steps between lines of metrics.jsonl",
    )  # fmt: skip
    assert by_key["task.module.alpha"].default == "0.6"
    assert {f"recipe.{name}" for name in keys_of(schema.Recipe)} - by_key.keys() == {"recipe.early_stopping"}


def test_the_command_filters_and_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "warmup"]) == 0
    out = capsys.readouterr().out
    assert "recipe.warmup = 0.0" in out
    assert "hardware." not in out
    assert cli.main(["settings", "nothing of this kind"]) == 2
    assert capsys.readouterr().err.startswith("error: nothing of this kind: no key and no meaning has this word")
    assert train.main(["--help", "all"]) == 0
    assert "recipe.weight_decay = 0.01" in capsys.readouterr().out


def test_cfg_job_prints_all_defaults_and_composes_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["model=bert", "task=glue/mnli", "--cfg", "job"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["recipe"]["weight_decay"] == 0.01
    assert printed["hardware"]["grace"] == 300
    assert printed["tracking"]["project"] == "protoformer"
    assert printed["model"]["dropout"] == 0.1
    assert printed["task"]["data"]["on_bad_row"] == "error"
    assert "choices" not in printed
    checked = check({**printed, "choices": {"model": "bert", "task": "glue/mnli"}})
    assert checked["recipe"] == compose(["model=bert", "task=glue/mnli"])["recipe"]
