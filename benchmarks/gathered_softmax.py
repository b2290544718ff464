"""Memory and time of a pre-training step whose MLM head and softmax run on masked positions alone, and on all positions.

    python benchmarks/gathered_softmax.py                                  # bert_l2_h128 sizes, 32 rows of 128 tokens
    python benchmarks/gathered_softmax.py --rows 64 --d-model 256

Each variant runs in its own process; memory is the process's peak above its memory before the first step.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.models.bert import bert
from protoformer.modules.kinds.pretraining import PretrainingModule

VARIANTS = ("gathered", "full")
VOCABULARY = 30522


def batch(rows: int, seq: int) -> PretrainingBatch:
    torch.manual_seed(0)
    predictions = round(0.15 * seq)
    positions = torch.stack([torch.randperm(seq)[:predictions].sort().values for _ in range(rows)])
    return PretrainingBatch(
        ids=torch.randint(5, VOCABULARY, (rows, seq)),
        padding_mask=torch.ones(rows, seq, dtype=torch.bool),
        segment_ids=torch.zeros(rows, seq, dtype=torch.long),
        pooler_position=torch.zeros(rows, dtype=torch.long),
        example_ids=torch.arange(rows),
        target_position=positions,
        target_ids=torch.randint(5, VOCABULARY, positions.shape),
        next_sentence=torch.zeros(rows, dtype=torch.long),
        targets=torch.tensor([positions.numel(), rows]),
    )


def full_loss(module: PretrainingModule, inputs: PretrainingBatch) -> torch.Tensor:
    """The same sum of losses from logits of every position, unmasked ones ignored."""
    hidden = module.backbone(inputs["ids"], inputs["padding_mask"], inputs["segment_ids"])
    logits = module.head.masked(hidden.to_padded(), module.backbone.embeddings.token.weight)
    targets = torch.full(inputs["ids"].shape, -100).scatter(1, inputs["target_position"], inputs["target_ids"])
    mlm_loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100)
    pooled = module.backbone.pooler(hidden, inputs["pooler_position"])
    nsp_loss = functional.cross_entropy(module.head.next(pooled), inputs["next_sentence"], reduction="sum")
    return mlm_loss + module.term_weights(inputs)[1] * nsp_loss


def measure(variant: str, rows: int, seq: int, d_model: int, steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    backbone = bert(
        vocab_size=VOCABULARY, d_model=d_model, n_layers=2, n_heads=d_model // 64, d_ff=4 * d_model, dropout=0.0
    )
    module, inputs = PretrainingModule(backbone=backbone, splits={"val": [], "test": []}), batch(rows, seq)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before, times, loss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], torch.zeros(())
    for _ in range(steps):
        start = time.perf_counter()
        loss = module.loss(inputs).total if variant == "gathered" else full_loss(module, inputs)
        loss.backward()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"mib": peak / 1024, "seconds": min(times), "loss": float(loss)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    for name, default in (("rows", 32), ("seq", 128), ("d-model", 128), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sizes = (options.rows, options.seq, options.d_model, options.steps)
    if options.variant:
        print(json.dumps(measure(options.variant, *sizes)))
        return
    results = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--variant", variant, *sys.argv[1:]]
        results[variant] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{variant:9} {results[variant]['mib']:8.0f} MiB  {results[variant]['seconds']:6.2f} s per step  "
            f"loss {results[variant]['loss']:.4f}"
        )
    memory, seconds = (results["full"][name] / results["gathered"][name] for name in ("mib", "seconds"))
    print(f"full takes {memory:.1f} times the memory and {seconds:.1f} times the time")
    if abs(results["full"]["loss"] / results["gathered"]["loss"] - 1) > 1e-5:
        raise SystemExit("the two losses differ")


if __name__ == "__main__":
    main()
