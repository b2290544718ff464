"""What a run leaves on the disk, and what `protoformer clean` may remove."""

import json
import os
from pathlib import Path

import pytest
import torch

from protoformer import cli
from protoformer.models.weights import read_pickle
from protoformer.runs.lock import RunLock

from .commands import SMALL, Workspace, error_line

SHORT = (*SMALL, "source.rows=60", "recipe.max_steps=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def checkpoints(workspace: Workspace) -> set[str]:
    (run,) = workspace.runs()
    return {file.name for file in (run / "checkpoints").iterdir()}


def test_a_finished_run_drops_the_optimizer(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workspace.run_here(*SHORT).returncode == 0
    assert checkpoints(workspace) == {"best.ckpt"}
    (run,) = workspace.runs()
    (run / "checkpoints" / "earlier").mkdir()  # as where it is killed after its result
    (run / "checkpoints" / "earlier" / "1.ckpt").touch()
    (run / "evaluation").mkdir()
    assert "already finished" in workspace.run_here(*SHORT, "trainer.keep_optimizer=true").stderr  # the same run
    assert checkpoints(workspace) == {"best.ckpt"}
    assert not (run / "evaluation").exists()
    assert cli.main(["predict", str(run), "--text", "he sleeps", "--pair", "she sleeps"]) == 0


def test_it_is_kept_when_asked_for(workspace: Workspace) -> None:
    assert workspace.run_here(*SHORT, "trainer.keep_optimizer=true").returncode == 0
    assert checkpoints(workspace) == {"best.ckpt", "last.ckpt"}


def test_the_only_weights_stay_without_their_optimizer(workspace: Workspace) -> None:
    done = workspace.run_here(*SHORT, "task.splits.validation=null")
    assert done.returncode == 0, done.stderr
    (run,) = workspace.runs()
    content = read_pickle(run / "checkpoints" / "last.ckpt")
    assert set(content) == {"state_dict", "global_step", "epoch"}
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())
    assert cli.main(["predict", str(run), "--text", "he sleeps", "--pair", "she sleeps"]) == 0


def test_a_run_that_never_began_leaves_nothing(workspace: Workspace) -> None:
    for overrides in (["model.tokenizer=nowhere.json"], ["source=local", "source.root=."], ["init_from=./nowhere"]):
        words = [word for word in SHORT if not word.startswith(("source", "init_from"))]
        words += [word for word in ("source=sample", "init_from=scratch") if word.split("=")[0] not in str(overrides)]
        done = workspace.run_here(*words, *overrides)
        assert done.returncode == 2
        assert error_line(done)
        assert not list((workspace.folder / "outputs").rglob("*")), overrides


def test_an_error_after_the_first_step_leaves_the_run(workspace: Workspace) -> None:
    assert workspace.run_here(*SHORT, "recipe.lr=1e38", "recipe.clip=null", "recipe.max_steps=5").returncode == 4
    assert len(workspace.runs()) == 1


def run_folder(outputs: Path, name: str, *, finished: bool, begun: bool = True, keep: bool = False) -> Path:
    run = outputs / "bert" / "glue" / "mrpc" / name
    (run / "checkpoints" / "snapshots").mkdir(parents=True)
    config = {"choices": {"model": "bert", "task": "glue/mrpc"}, "trainer": {"keep_optimizer": keep}}
    (run / "config.yaml").write_text(json.dumps(config))
    if begun:
        (run / "metrics.jsonl").write_text("{}\n")
        for file in ("last.ckpt", "best.ckpt", "averaged.ckpt", "snapshots/step-3.ckpt"):
            (run / "checkpoints" / file).write_bytes(bytes(2000))
    if finished:
        result = {"run_id": name, "model": "bert", "task": "glue/mrpc", "metrics": {}, "finished": "today"}
        (run / "result.json").write_text(json.dumps(result))
    return run


def files(outputs: Path) -> set[str]:
    return {file.relative_to(outputs).as_posix() for file in outputs.rglob("*") if file.is_file()}


def test_clean_lists_and_removes_and_keeps_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = tmp_path / "outputs"
    finished = run_folder(outputs, "finished", finished=True)
    kept = run_folder(outputs, "kept", finished=True, keep=True)
    unfinished = run_folder(outputs, "unfinished", finished=False)
    never = run_folder(outputs, "never", finished=False, begun=False)
    used = run_folder(outputs, "used", finished=False, begun=False)
    part = unfinished / "checkpoints" / ".last.ckpt.0123abcd.part"
    part.write_bytes(bytes(500))
    os.utime(part, (0, 0))
    notes = outputs / "bert" / "notes.txt"
    notes.write_text("mine")
    before = files(outputs)

    with RunLock(used):
        assert cli.main(["clean", str(outputs)]) == 0
        listed = capsys.readouterr().out
        assert files(outputs) == before | {"bert/glue/mrpc/used/lock"}
        assert [line.split("  ")[-1] for line in listed.splitlines()[:-1]] == [
            "(state of the optimizer of a finished run)",
            "(checkpoints of a finished run that were averaged)",
            "(a run that never began)",
            "(left by a process that died while writing)",
        ]
        assert "4.6 kB  in all; nothing is removed without --yes" in listed
        assert cli.main(["clean", str(outputs), "--yes"]) == 0
        assert "4.6 kB  removed" in capsys.readouterr().out
    gone = {"finished/checkpoints/last.ckpt", "finished/checkpoints/snapshots/step-3.ckpt", "never/config.yaml"}
    gone |= {f"unfinished/checkpoints/{part.name}"}
    assert files(outputs) == before - {f"bert/glue/mrpc/{name}" for name in gone}
    assert not never.exists()
    assert (finished / "result.json").exists()
    assert (kept / "checkpoints" / "last.ckpt").exists()
    assert (unfinished / "checkpoints" / "last.ckpt").exists()
    assert notes.exists()
    assert cli.main(["clean", str(outputs), "--yes"]) == 0  # the run that was in use has ended, and never began
    assert "a run that never began" in capsys.readouterr().out
    assert cli.main(["clean", str(outputs)]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert cli.main(["clean", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_caches_go_by_their_last_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROTOFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "outputs").mkdir()
    for name in ("old", "new"):
        entry = tmp_path / "cache" / "tokens" / name
        entry.mkdir(parents=True)
        (entry / "ids.npy").write_bytes(bytes(3000))
        if name == "old":
            os.utime(entry / "ids.npy", (0, 0))
            os.utime(entry, (0, 0))
    assert cli.main(["clean", str(tmp_path / "outputs"), "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert cli.main(["clean", str(tmp_path / "outputs"), "--cache", "--yes"]) == 0
    assert "3.0 kB  removed" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "cache" / "tokens").iterdir()] == ["new"]
