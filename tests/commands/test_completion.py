"""What a tab offers: commands, flags, groups with their options, keys with their values, and the keys of typed classes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protoformer import cli

ROOT = Path(__file__).parents[2]


def offered(line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(["completion", "words", *line.split(" ")]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tra", ["train", "translate"]),
        ("train mo", ["model.", "model="]),
        ("train model=gpt2_", [f"model=gpt2_{size}" for size in ("ladder", "large", "medium", "tiny", "xl")]),
        ("report s", ["scaling", "sweep"]),
        ("report scaling --p", ["--predict"]),
        ("train model=bert task=glue/m", ["task=glue/mnli", "task=glue/mrpc"]),
        ("train -m task=glue/rte,glue/m", ["task=glue/rte,glue/mnli", "task=glue/rte,glue/mrpc"]),
        ("train recipe.label", ["recipe.label_smoothing="]),
        ("train +trainer.lim", [f"+trainer.limit_{role}_batches=" for role in ("test", "train", "val")]),
        ("plan hardware.precision=", [f"hardware.precision={name}" for name in ("bf16", "fp16", "fp32", "tf32")]),
        ("train force=", ["force=false", "force=true"]),
        ("train --c", ["--cfg", "--config-dir"]),
        ("clean --", ["--cache", "--days", "--help", "--yes"]),
        ("plan model=bert model.drop", ["model.dropout="]),
        ("train task=squad/v2 task.data.", [f"task.data.{name}=" for name in ("max_question", "on_bad_row", "stride")]),
        ("train task.fol", ["task.fold=", "task.folds="]),
        ("train task.splits.t", ["task.splits.test=", "task.splits.train="]),
        ("train model=brt model.drop", []),
        ("predict outp", []),  # files
        ("nothing x", []),
    ],
)
def test_words_of_a_line(line: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert offered(line, capsys) == expected


def test_options_of_a_users_folder_are_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "reviews_of_mine.yaml").write_text("defaults: [_classification]\n")
    assert offered(f"train --config-dir {tmp_path} task=rev", capsys) == ["task=reviews_of_mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_valid(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "protoformer completion words" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=20)


def test_bash_completes_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    lines = {"protoformer tra": "train translate", "protoformer train task=glue/mn": "glue/mnli "}
    for line, expected in lines.items():
        code = f"""{script}
protoformer() {{ '{sys.executable}' -m protoformer.cli "$@"; }}
COMP_LINE='{line}' COMP_POINT={len(line)} COMPREPLY=()
_protoformer
printf '%s|' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
        assert done.stdout == "".join(f"{word}|" for word in ([expected] if "=" in line else expected.split())), (
            done.stderr
        )


def test_a_tab_is_quick_and_imports_nothing_heavy() -> None:
    code = """
import sys
from protoformer.cli import main
main(["completion", "words", "train", "model=bert", "model.d"])
sys.exit(str({"torch", "hydra", "omegaconf", "numpy", "rich", "pyarrow"} & set(sys.modules) or "") or 0)
"""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert time.perf_counter() - began < 3.0  # 0.2 s where nothing else runs
