"""The verbs of `protoformer`: each a thin call, proven with stand-ins for what they call."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from protoformer import cli
from protoformer.config.groups import CONF_VARIABLE

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []

    def main(*args: Any, **options: Any) -> None:
        calls.append((args, options))

    for room, name in (
        ("reporting", "report"), ("reporting", "submission"), ("inference", "export")
    ):  # fmt: skip
        stand_in = ModuleType(f"protoformer.{room}.{name}")
        stand_in.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
        monkeypatch.setattr(importlib.import_module(f"protoformer.{room}"), name, stand_in, raising=False)
    for name in ("plan", "prepare", "tokenizer"):  # the verb's own file does the work
        monkeypatch.setattr(f"protoformer.commands.{name}.main", main)
    monkeypatch.setenv(CONF_VARIABLE, "")
    return calls


@pytest.mark.parametrize(
    ("words", "args", "options"),
    [
        (
            "plan model=bert task=glue/mnli --card H100",
            (["model=bert", "task=glue/mnli"],),
            {"tokens_per_s": None, "card": "H100", "mfu": None},
        ),
        ("prepare model=bert task=glue/mnli", (["model=bert", "task=glue/mnli"],), {}),
        ("report", (["outputs"],), {"csv": None, "markdown": None}),
        ("report a b --csv x.csv", (["a", "b"],), {"csv": "x.csv", "markdown": None}),
        ("submission glue a b", (["a", "b"], "submission.zip"), {"partial": False, "fill": False}),
        ("submission glue a b --out c.zip --fill", (["a", "b"], "c.zip"), {"partial": False, "fill": True}),
        ("export run --to hf folder", ("run", "hf", "folder"), {}),
        (
            "tokenizer train --kind bpe --size 9 a.txt b.txt",
            (["a.txt", "b.txt"], "bpe", 9, "tokenizer.json"),
            {"cased": False, "alphabet_size": 1000, "force": False},
        ),
        (
            "tokenizer train a --kind wordpiece --size 9 --out x.json --cased --force --alphabet 5",
            (["a"], "wordpiece", 9, "x.json"),
            {"cased": True, "alphabet_size": 5, "force": True},
        ),
    ],
)
def test_a_verb_is_a_thin_call(called: Calls, words: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert cli.main(words.split()) == 0
    assert called == [(args, options)]


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    for verb in ("train", "list", "plan", "prepare", "report", "submission", "export", "tokenizer"):
        assert f"\n  {verb} " in text


@pytest.mark.parametrize("verb", ["list", "plan", "prepare", "report", "submission", "export", "tokenizer"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([verb, "--help"])
    assert left.value.code == 0
    assert f"usage: protoformer {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export a b c", "c: one argument too many; usage: protoformer export [-h] [--to {hf}] RUN DIR"),
        ("export a", "the following arguments are required: DIR; usage: protoformer export"),
        ("compare a --wth b", "--wth: no such flag; did you mean --with?"),
        ("compare a --resample 3", "the following arguments are required: --with; usage: protoformer compare"),
        ("compare -- --wth", "the following arguments are required: --with; usage: protoformer compare"),
        ("plan --confg-dir=x model=bert", "--confg-dir: no such flag; did you mean --config-dir?"),
        ("probe heads ~nobody-of-this-name/run --treebank sample", "a path begins with ~ and a name that is no user"),
        ("list --confg-dir=x", "--confg-dir: no such flag; did you mean --config-dir?"),
        ("report --cvs=x", "--cvs: no such flag; did you mean --csv?"),
        ("plan --seed=1 model=bert", "--seed: overrides have no hyphens, seed=value"),
        ("tokenizer trian x --kind bpe --size 3", "invalid choice: 'trian'"),
    ],
)
def test_wrong_arguments_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_train_is_train_py_under_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    assert "usage: protoformer train [flags] model=NAME" in capsys.readouterr().out


def test_a_folder_of_options_reaches_its_verb_and_no_other(
    called: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("protoformer.commands.plan.main", lambda *_, **__: seen.append(os.environ[CONF_VARIABLE]))
    assert cli.main(["plan", "--config-dir", str(tmp_path), "model=bert"]) == 0
    assert cli.main(["plan", "model=bert"]) == 0
    assert seen == [str(tmp_path), ""]
