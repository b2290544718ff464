"""Trials in a pool of devices against the same trials one after another: wall clock, and the speed of training steps.

    python benchmarks/pool.py                             # a trial on each core: twice as many trials as cores
    python benchmarks/pool.py --pool 4 --trials 8         # a pool of four cores
    python benchmarks/pool.py --hardware gpu --pool all   # a trial on each GPU

A trial fine-tunes bert_l2_h128 from scratch on the built-in sample, with a seed of its own, on a core (`hardware.threads=1`) or
a GPU. `one after another` is `--multirun` without a pool, in one process that imports torch once. The pool starts a process for
each trial, and its time includes the estimate of memory before the first one. Efficiency is the quotient of both times over the
number of devices: 1.0 is linear. Both ways must give the same scores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMON = ("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "init_from=scratch", "tracking=none",
          "recipe.batch_size=32", "trainer.log_every=10")  # fmt: skip


def run(name: str, words: list[str], folder: Path) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of a command with outputs of its own, and the results of its trials in order of their seeds."""
    environ = {**os.environ, "PROTOFORMER_OUTPUTS": str(folder / name), "PROTOFORMER_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    completed = subprocess.run(
        [sys.executable, "train.py", "-m", *words], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if completed.returncode:
        raise SystemExit(f"{name} ended with exit code {completed.returncode}:\n{completed.stdout}\n{completed.stderr}")
    results = [json.loads(file.read_text(encoding="utf-8")) for file in (folder / name).rglob("result.json")]
    return seconds, sorted(results, key=lambda result: result["seed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument(
        "--pool", default=str(len(os.sched_getaffinity(0))), help="devices side by side (default: cores)"
    )
    parser.add_argument("--trials", type=int, help="number of trials (default: twice the devices)")
    parser.add_argument("--rows", type=int, default=2000, help="rows of the sample (default: 2000)")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    if options.hardware == "gpu" and options.pool == "all":
        import torch

        options.pool = str(torch.cuda.device_count())
    devices = int(options.pool)
    trials = options.trials or 2 * devices
    words = [*COMMON, f"hardware={options.hardware}", f"source.rows={options.rows}", f"recipe.epochs={options.epochs}"]
    words += ["hardware.threads=1", f"seed={','.join(map(str, range(1, trials + 1)))}"]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("cache", [*words[:-1], "seed=1", "recipe.epochs=1", "trainer.limit_train_batches=1"], folder)
        rows = {}
        for option, more in (("one after another", []), (f"pool of {devices}", [f"hardware.pool={devices}"])):
            rows[option] = run(option.replace(" ", "-"), [*words, *more], folder)
    alone, pooled = rows.values()
    print(f"{trials} trials of bert_l2_h128, {options.rows} rows, {options.epochs} epochs; load before: {load:.1f}")
    print("| way | seconds | examples a second in training steps |\n| --- | ---: | ---: |")
    for option, (seconds, results) in rows.items():
        speed = statistics.median(result["training"]["examples_per_s"] for result in results)
        print(f"| {option} | {seconds:.1f} | {speed:.1f} |")
    print(f"efficiency: {alone[0] / pooled[0] / devices:.2f} of linear")
    if [result["score"] for result in alone[1]] != [result["score"] for result in pooled[1]]:
        raise SystemExit("the scores differ")


if __name__ == "__main__":
    main()
