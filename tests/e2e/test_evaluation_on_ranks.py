"""Tasks that train nothing on two processes: the same examples, answers and scores as on one."""

import json
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.groups import option

from ..incontext.schemas import SCHEMAS
from .commands import ROOT, Workspace, result

MODEL = ["model=gpt2_tiny", "model.init_std=0.3", "hardware.threads=1", "tracking=none"]
PRETRAINING = ["task=pretrain/clm", "task.max_len=64", "recipe.batch_size=4", "recipe.max_steps=2", "recipe.warmup=1"]
STORIES = "The cat sat on the mat. It was a cat that sat; the mat was red.\n" * 20
# numbers of examples that two does not divide
TASKS = {
    "choices": ["task=incontext/copa", "task.shots=2", "task.draws=3", "source=sample", "source.rows=27"],
    "words": ["task=lm/lambada", "source=local", "source.root=data"],
    "answers": ["task=incontext/triviaqa", "source=local", "source.root=data", "task.data.max_new_tokens=4"],
    "windows": [
        "task=lm/files",
        "source=files",
        "source.files=[held.txt]",
        "task.max_len=48",
        "task.strides=[48,20]",
    ],
}


def local_rows(root: Path, task: str, split: str, count: int) -> None:
    """Invented rows of a task where its configuration looks for them."""
    rows_of = option("task", task, (ROOT / "conf",))["rows"]
    dataset, subset = rows_of["dataset"], rows_of.get("subset")
    folder = root / dataset / (subset or "")
    folder.mkdir(parents=True)
    rows = [SCHEMAS[dataset, subset](number) for number in range(count)]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def predictions(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = (folder / "predictions" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and all(isinstance(each, float) for each in value))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("pretrained"))
    rows = ["source=sample", "source.rows=40", "trainer.limit_val_batches=1"]
    done = workspace.run_here(*MODEL, *PRETRAINING, *rows, "hardware=cpu")
    assert done.returncode == 0, done.stderr
    (folder,) = workspace.runs()
    return folder


@pytest.mark.parametrize(
    "kind", ["choices", "answers", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("words", "windows"))]
)
def test_two_processes_evaluate_as_one_does(
    kind: str, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    local_rows(tmp_path / "data", "lm/lambada", "test", 7)
    local_rows(tmp_path / "data", "incontext/triviaqa", "validation", 5)
    (tmp_path / "held.txt").write_text(STORIES)
    workspace = Workspace(tmp_path)
    folders = []
    for hardware in ("cpu", "ddp_cpu"):
        words = [*MODEL, *TASKS[kind], f"init_from={pretrained}", f"hardware={hardware}"]
        done = workspace.run_here(*words, outputs=hardware)
        assert done.returncode == 0, done.stderr
        (folder,) = workspace.runs(hardware)
        folders.append(folder)
        assert not (folder / "evaluation").exists()
    one, two = (result(folder)["metrics"] for folder in folders)
    assert list(one) == list(two)
    assert two == pytest.approx(one, rel=1e-6, abs=1e-6, nan_ok=True)
    split = "val" if (folders[0] / "predictions" / "val.jsonl").exists() else "test"
    rows, others = (predictions(folder, split) for folder in folders)
    assert len(rows) == len(others) > 0
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            assert other[key] == (pytest.approx(value, rel=1e-6, abs=2e-5) if is_number(value) else value)
