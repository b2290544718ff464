"""Predicted memory of training steps against measured memory, on the CPU; `python benchmarks/plan_memory.py` prints the table
of benchmarks/results/plan.md.

Each case is trained for three steps on full rows of one token, in processes of its own: one counts the bytes that torch's
allocator hands out (every allocation and release, by torch.profiler), another reads the resident set size that the kernel
reports, above the one after the imports.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from protoformer.assembly.model import build_module, builder_arguments
from protoformer.config.compose import compose
from protoformer.planning.plan import plan
from protoformer.planning.step_memory import with_lengths

GIB = 2**30
CASES = {
    "bert": ["model=bert", "task=glue/mnli", "task.max_len=128", "recipe.batch_size=8"],
    "gpt2": ["model=gpt2", "task=pretrain/clm", "task.max_len=512", "recipe.batch_size=2"],
    "transformer": ["model=transformer", "task=translate/wmt14_en_de", "task.max_len=64", "recipe.batch_size=512"],
    "bert, two micro-batches": [
        *("model=bert", "task=glue/mnli", "task.max_len=128", "recipe.batch_size=16", "hardware.micro_batch=8"),
    ],
    "gpt2, layers computed again": [
        *("model=gpt2", "task=pretrain/clm", "task.max_len=512", "recipe.batch_size=2"),
        "hardware.checkpoint_activations=true",
    ],
}


def config_of(overrides: list[str]) -> dict[str, Any]:
    return compose([*overrides, "hardware=cpu"])


def train(config: dict[str, Any], steps: int = 3) -> None:
    """Training steps of a run, on rows of one token without padding."""
    from protoformer.blocks.stacks import recompute_activations

    planned = plan(config)
    module: Any = build_module(config, builder_arguments(config["model"]))
    if config["hardware"]["checkpoint_activations"]:
        recompute_activations(module)
    module.connect(total_steps=steps)
    batches = [
        with_lengths(module.dummy_batch(planned.rows, planned.tokens_per_row), planned.tokens_per_row)
        for _ in range(steps * planned.accumulation)
    ]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=planned.accumulation,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))


def allocated_peak(config: dict[str, Any]) -> int:
    """Most bytes at once that torch's allocator has handed out while the model was built and trained."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        train(config)
    events = profiler.profiler.kineto_results.events()
    now = peak = 0
    for event in sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def resident_peak(config: dict[str, Any]) -> int:
    """Most bytes resident at once, above those after the imports."""
    before = _status("VmRSS")
    train(config)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    match = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def main() -> None:
    print("| case | predicted, GiB | tensors | predicted / tensors | resident | predicted / resident |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case, overrides in CASES.items():
        predicted = plan(config_of(overrides)).memory.total
        measured = [
            int(subprocess.run([sys.executable, __file__, name, *overrides], check=True, capture_output=True, text=True)
                .stdout.splitlines()[-1])
            for name in ("allocated_peak", "resident_peak")
        ]  # fmt: skip
        cells = "".join(f" {each / GIB:.2f} | {predicted / each:.3f} |" for each in measured)
        print(f"| {case} | {predicted / GIB:.2f} |{cells}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(globals()[sys.argv[1]](config_of(sys.argv[2:])))
    else:
        main()
