"""Every difference between two run folders that is not one of clock, speed or memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from protoformer.models.weights import read_checkpoint

SPEED = ("_per_s", "mfu", "data_wait")
RESULT_KEYS = ("score", "metrics", "best", "averaged", "notes", "parameters", "data", "digests")
BYTES = ("predictions", "example_scores", "tokenizer", "samples.jsonl")


def differences(expected: Path, actual: Path) -> list[str]:
    """Names of what differs, empty where the runs are the same bit for bit."""
    found = []
    names, others = (
        sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()) for run in (expected, actual)
    )
    # a step that is saved once more has its shards in `last-<step>+`; what is in them is compared by last.ckpt
    if [name.replace("+/", "/") for name in names] != [name.replace("+/", "/") for name in others]:
        found.append(f"files: {sorted({*names} ^ {*others})}")
    for name in sorted({*names} & {*others}):
        first, second = expected / name, actual / name
        if name.endswith(".ckpt"):
            found += [f"{name}{path}" for path in _unequal(_checkpoint(first), _checkpoint(second))]
        elif name == "metrics.jsonl" and _metrics(first) != _metrics(second):
            found.append(f"{name}: {len(_metrics(first))} lines against {len(_metrics(second))}, or other numbers")
        elif name == "result.json":
            found += [f"{name}{path}" for path in _unequal(_result(first), _result(second))]
        elif name.startswith(BYTES) and first.read_bytes() != second.read_bytes():
            found.append(name)
    return found


def _checkpoint(file: Path) -> dict[str, Any]:
    content = read_checkpoint(file)  # of shards whole tensors: safetensors orders its header as it likes
    content.pop("loops", None)  # counters of a fit that had ended are set again by the one that finds it ended
    callbacks = content.get("callbacks", {})
    return {**content, "callbacks": {name: state for name, state in callbacks.items() if "Throughput" not in name}}


def _metrics(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "time" and not k.endswith(SPEED)} for line in lines]


def _result(file: Path) -> dict[str, Any]:
    result = json.loads(file.read_text(encoding="utf-8"))
    training = {key: result["training"][key] for key in ("steps", "epochs")}
    return {"training": training, **{key: result[key] for key in RESULT_KEYS}}


def _unequal(a: Any, b: Any, path: str = "") -> Iterator[str]:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield path
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            if key not in a or key not in b:
                yield f"{path}/{key}"
            else:
                yield from _unequal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (first, second) in enumerate(zip(a, b, strict=True)):
            yield from _unequal(first, second, f"{path}/{index}")
    elif a != b and not (a != a and b != b):  # nan is nan
        yield path
