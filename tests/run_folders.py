"""Small run folders, as a run leaves them, without running one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    def write(
        run_id: str,
        model: str = "bert",
        task: str = "glue/mrpc",
        seed: int = 42,
        metrics: dict[str, float | None] | None = None,
        predictions: dict[str, list[dict[str, Any]]] | None = None,
        losses: list[float] | None = None,
        finished: bool = True,
        attempt: int = 1,
        rows: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        sizes: dict[str, Any] | None = None,
        kind: str = "classification",
        **changes: Any,
    ) -> Path:
        folder = tmp_path / "outputs" / model / task / (run_id if attempt == 1 else f"{run_id}-a{attempt}")
        (folder / "predictions").mkdir(parents=True)
        config = {
            "model": {"d_model": 768, "hf": {"repo": "google-bert/bert-base-uncased"}} | (sizes or {}),
            "task": {"kind": "classification", "rows": rows or {"labels": ["not_equivalent", "equivalent"]}},
            "recipe": {"lr": 5e-5, "batch_size": 32, "epochs": 3, **(recipe or {})},
            "trainer": {"max_epochs": (recipe or {}).get("epochs", 3), "limit_train_batches": None},
            "hardware": {"precision": "fp32", "devices": 1},
            "paths": {"outputs": str(tmp_path)},
            "seed": seed,
            "init_from": "auto",
            "choices": {"model": model, "task": task, "family": "bert", "source": "hub"},
        } | changes
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        curve = [
            {"step": 10 * place, "epoch": 0, "time": 1.0, "train/loss": loss} for place, loss in enumerate(losses or [])
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
        for name, lines in (predictions or {}).items():
            text = "".join(json.dumps({"id": place, "label": None} | line) + "\n" for place, line in enumerate(lines))
            (folder / "predictions" / f"{name}.jsonl").write_text(text)
        metrics = {"val/accuracy": 0.84, "val/f1": 0.88, "val/loss": 0.4} if metrics is None else metrics
        main = [value or 0.0 for key, value in metrics.items() if key.startswith("val/") and not key.endswith("loss")]
        result = {
            "run_id": run_id,
            "attempt": attempt,
            "model": model,
            "task": task,
            "family": "bert",
            "kind": kind,
            "seed": seed,
            "score": sum(main) / len(main) if main else None,
            "metrics": metrics,
            "best": {"step": 200, "epoch": 2},
            "training": {"steps": 345, "epochs": 3, "seconds": 95.0, "examples_per_s": 115.6, "tokens_per_s": 6200.0},
            "parameters": 109_483_778,
            "data": {"train": {"truncated": 3}, "validation": {"truncated": 0}},
            "digests": {"code": "c0de", "data": {"train": "da7a"}, "weights": "3e19"},
            "init_from": "auto",
            "versions": {"torch": "2.13.0"},
            "hardware": {"device": "cpu", "ranks": 1, "precision": "fp32"},
            "command": f"python train.py model={model} task={task} seed={seed}",
            "finished": "2026-01-02T03:04:05",
            "peak_memory_gib": 2.5,
        }
        if finished:
            (folder / "result.json").write_text(json.dumps(result))
        return folder

    return write
