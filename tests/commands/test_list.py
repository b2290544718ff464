import subprocess
import sys
import time
from pathlib import Path

import pytest

from protoformer.commands import list
from protoformer.config.groups import CONF_VARIABLE, model, option, options, search_path

FOLDERS = search_path()


@pytest.fixture
def stub_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of options with a decoder that writes text alone and a task that needs spans."""
    (tmp_path / "kinds_of_stub.py").write_text(
        "class TextTemplate:\n    def text(self): ...\nclass SpanTemplate(TextTemplate):\n    def spans(self): ...\n"
        "class TextData:\n    template_method = 'text'\nclass SpanData:\n    template_method = 'spans'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = tmp_path / "conf"
    for name, text in {
        "train": "defaults: [_self_]\n",
        "model/small": "model: {template: {_target_: kinds_of_stub.TextTemplate}}\n",
        "model/wide": "# @package _global_\ndefaults: [small, override /family@_global_.family: spans, _self_]\n"
        "model: {d_model: 8, template: {_target_: kinds_of_stub.SpanTemplate}}\n",
        "task/_text": "kind: lm\ndata: {_target_: kinds_of_stub.TextData}\n",
        "task/set/lm": "defaults: [_text, _self_]\nrows: {dataset: some/set}\nsplits: {train: train}\n",
        "task/set/spans": "kind: span\ndata: {_target_: kinds_of_stub.SpanData}\nsplits: {train: null}\n",
        "hardware/auto": "# One device.\naccelerator: auto\n",
    }.items():
        (conf / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (conf / f"{name}.yaml").write_text(text)
    monkeypatch.setenv(CONF_VARIABLE, str(conf))
    return conf


def test_the_matrix_says_what_runs_with_what(stub_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list.main(["pairs"])
    heads, first, second = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()][1:]
    assert heads == ["kind", "(tasks)", "none", "spans"]
    assert first == ["lm", "(1)", "yes", "yes"]
    assert second == ["span", "(1)", "-", "yes"]


def test_the_matrix_of_the_real_models_fits_80_columns_and_has_no_column_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    list.main(["pairs"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    heads = " ".join(lines[1:3]).split()
    assert heads.count("transformer") == 2
    assert heads.count("encoder") == 1  # the second of them is the encoder alone


def test_bases_are_merged_and_families_read(stub_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list.main(["models", "tasks", "hardware"])
    text = capsys.readouterr().out
    assert "wide" in text
    assert "d_model 8" in text
    assert "some/set" in text
    assert "test only" in text
    assert "One device." in text
    assert option("model", "wide", search_path())["overrides"] == {"family": "spans"}


def test_every_option_of_the_real_groups_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    list.main()
    text = capsys.readouterr().out
    for group in ("model", "task", "hardware"):
        for name in options(group, FOLDERS):
            assert any(line.split()[:1] == [name] for line in text.splitlines()), name
    assert "24 layers, d_model 1024, 16 heads, d_ff 4096" in text
    assert "\x1b" not in text  # plain in a pipe


def test_what_is_listed_is_what_is_composed() -> None:
    from protoformer.config.compose import compose

    composed = compose(["model=bert_large", "task=glue/stsb"])
    listed = model("bert_large", FOLDERS)
    assert {key: composed["model"][key] for key in listed} == listed
    task = option("task", "glue/stsb", FOLDERS)
    assert composed["task"]["rows"] == task["rows"]
    assert composed["task"]["module"]["metrics"] == task["module"]["metrics"]


def test_the_list_takes_less_than_two_seconds_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from protoformer.cli import main; code = main(['list']); "
        "sys.exit(code or bool({'torch', 'lightning', 'numpy', 'hydra'} & set(sys.modules)))"
    )
    began = time.perf_counter()
    completed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    assert time.perf_counter() - began < 4  # two are promised; the machine has other work


def test_tasks_of_own_data_say_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    list.main(["tasks"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("classify ")]
    assert "your own (source.root)" in line


@pytest.mark.parametrize("width", ["80", "160"])
def test_names_of_tasks_are_whole_whatever_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    list.main(["tasks"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(width)
    first = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert set(options("task", FOLDERS)) <= set(first)
    assert sum(name.startswith("lm/") for name in first) >= 9
    assert sum(name.startswith("incontext/") for name in first) >= 40
    assert any(line.split() == ["lm/text8", "afmck/text8", "bits_per_character"] for line in lines)
    assert any(line.startswith("tasks: in_context (") and ", test only)" in line for line in lines)
