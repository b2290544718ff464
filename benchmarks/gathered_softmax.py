"""What it saves that the decoder and its softmax run on masked positions alone: memory and time of a pretraining step.

    python benchmarks/gathered_softmax.py                                  # bert_l2_h128 sizes, 32 rows of 128 tokens
    python benchmarks/gathered_softmax.py --rows 64 --d-model 256

Each way runs in a process of its own; memory is the process's peak above what it held before the first step.
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
from protoformer.modules.pretraining import PretrainingModule

WAYS = ("gathered", "full")
VOCABULARY = 30522


def batch(rows: int, seq: int) -> PretrainingBatch:
    torch.manual_seed(0)
    predictions = round(0.15 * seq)
    places = torch.stack([torch.randperm(seq)[:predictions].sort().values for _ in range(rows)])
    return PretrainingBatch(
        ids=torch.randint(5, VOCABULARY, (rows, seq)),
        padding_mask=torch.ones(rows, seq, dtype=torch.bool),
        segment_ids=torch.zeros(rows, seq, dtype=torch.long),
        pooler_position=torch.zeros(rows, dtype=torch.long),
        example_ids=torch.arange(rows),
        target_position=places,
        target_ids=torch.randint(5, VOCABULARY, places.shape),
        next_sentence=torch.zeros(rows, dtype=torch.long),
        targets=torch.tensor([places.numel(), rows]),
    )


def full_loss(module: PretrainingModule, given: PretrainingBatch) -> torch.Tensor:
    """The same sum of losses from logits of every position, those that are not masked ignored."""
    hidden = module.backbone(given["ids"], given["padding_mask"], given["segment_ids"])
    logits = module.head.masked(hidden.to_padded(), module.backbone.embeddings.token.weight)
    targets = torch.full(given["ids"].shape, -100).scatter(1, given["target_position"], given["target_ids"])
    words = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100)
    pooled = module.backbone.pooler(hidden, given["pooler_position"])
    pairs = functional.cross_entropy(module.head.next(pooled), given["next_sentence"], reduction="sum")
    return words + module.term_weights(given)[1] * pairs


def measure(way: str, rows: int, seq: int, d_model: int, steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    backbone = bert(
        vocab_size=VOCABULARY, d_model=d_model, n_layers=2, n_heads=d_model // 64, d_ff=4 * d_model, dropout=0.0
    )
    module, given = PretrainingModule(backbone=backbone, splits={"val": [], "test": []}), batch(rows, seq)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before, times, loss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], torch.zeros(())
    for _ in range(steps):
        begun = time.perf_counter()
        loss = module.loss(given).total if way == "gathered" else full_loss(module, given)
        loss.backward()
        times.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"mib": peak / 1024, "seconds": min(times), "loss": float(loss)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    for name, default in (("rows", 32), ("seq", 128), ("d-model", 128), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sizes = (options.rows, options.seq, options.d_model, options.steps)
    if options.way:
        print(json.dumps(measure(options.way, *sizes)))
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, *sys.argv[1:]]
        found[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{way:9} {found[way]['mib']:8.0f} MiB  {found[way]['seconds']:6.2f} s a step  loss {found[way]['loss']:.4f}"
        )
    memory, seconds = (found["full"][name] / found["gathered"][name] for name in ("mib", "seconds"))
    print(f"full takes {memory:.1f} times the memory and {seconds:.1f} times the time")
    if abs(found["full"]["loss"] / found["gathered"]["loss"] - 1) > 1e-5:
        raise SystemExit("the two losses differ")


if __name__ == "__main__":
    main()
