"""A training step of GPT-2 beside that of `transformers`: tokens a second, peak memory, and that both losses are the same.

    python benchmarks/gpt_training.py                                   # every shape
    python benchmarks/gpt_training.py --shapes small --turns 15

A step is the forward pass, the loss, the backward pass, the clip at 1.0 and torch's fused AdamW, in fp32 with dropout 0.1. Both
sides have the same random weights, the same batches and the same bare loop, and take turns in one process, a step each. What is
reported is the median over turns; for the ratio, the median of the ratios within turns, by wall clock and by CPU seconds (which
other work on the machine does not change). Memory is the peak of a process of its own that takes two steps (Linux),
above its memory before the model was built.

    python benchmarks/gpt_training.py --shapes small --lightning        # what Lightning's loop adds to ours
    python benchmarks/gpt_training.py --loss                            # the loss in chunks, and with whole logits
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoformer.batches import LanguageBatch
from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.models import weights
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights
from protoformer.modules.kinds.language_modeling import LanguageModule
from protoformer.optim.adamw import adamw
from protoformer.optim.groups import decay_groups
from protoformer.optim.optimization import Optimization

SIDES = ("ours", "transformers")


@dataclass(frozen=True)
class Shape:
    n_layers: int
    d_model: int
    n_heads: int
    vocab_size: int
    seq: int
    batch: int

    @property
    def tokens(self) -> int:
        return self.batch * self.seq


SHAPES = {
    "small": Shape(n_layers=4, d_model=256, n_heads=4, vocab_size=8192, seq=256, batch=16),
    "gpt2-512": Shape(n_layers=12, d_model=768, n_heads=12, vocab_size=50257, seq=512, batch=2),
    "gpt2-1024": Shape(n_layers=12, d_model=768, n_heads=12, vocab_size=50257, seq=1024, batch=1),
}
Loss = Callable[[Tensor], Tensor]  # ids -> mean negative log likelihood of each row's tokens but the first


def transformers_side(shape: Shape, dropout: float) -> tuple[nn.Module, Loss]:
    import transformers

    config = transformers.GPT2Config(
        n_layer=shape.n_layers,
        n_embd=shape.d_model,
        n_head=shape.n_heads,
        vocab_size=shape.vocab_size,
        n_positions=shape.seq,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).train()
    return model, lambda ids: model(input_ids=ids, labels=ids).loss


OPTIMIZATION = Optimization(lr=1e-4, betas=(0.9, 0.95), eps=1e-8)


def our_side(shape: Shape, dropout: float, state: dict[str, Tensor] | None = None) -> tuple[LanguageModule, Loss]:
    """With the other side's weights, where `state` gives them."""
    torch.manual_seed(0)
    decoder = gpt(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        d_ff=4 * shape.d_model,
        max_seq_len=shape.seq,
        dropout=dropout,
        norm="pre",
        scaled_residuals=True,
    )
    if state is not None:
        copies = {name: tensor.clone() for name, tensor in Gpt2Weights().from_hf(state)[0].items()}
        weights.load_into(decoder, copies, "transformers")
    module = LanguageModule(
        backbone=decoder, splits={"val": [], "test": []}, sample_tokens=0, optimization=OPTIMIZATION
    ).train()
    return module, lambda ids: _mean(module, ids)


def our_batch(ids: Tensor) -> LanguageBatch:
    targets = torch.full_like(ids, -1)
    targets[:, :-1] = ids[:, 1:]
    real = torch.ones_like(ids, dtype=torch.bool)
    return LanguageBatch(ids=ids, padding_mask=real, target_ids=targets, example_ids=torch.arange(len(ids)))


def _mean(module: LanguageModule, ids: Tensor) -> Tensor:
    loss = module.loss(our_batch(ids))
    return loss.total / loss.targets


class Taken(NamedTuple):
    """Seconds of a step: by the clock, and of the processors."""

    clock: float
    cpu: float


class Loop:
    """A bare training loop over random batches."""

    def __init__(self, model: nn.Module, loss: Loss, shape: Shape) -> None:
        self.model, self.loss, self.shape = model, loss, shape
        self.optimizer = adamw(decay_groups(model.parameters(), 0.01), lr=1e-4, betas=(0.9, 0.95), eps=1e-8)
        self.draw = torch.Generator().manual_seed(0)

    def step(self) -> Taken:
        ids = torch.randint(self.shape.vocab_size, (self.shape.batch, self.shape.seq), generator=self.draw)
        clock, cpu = time.perf_counter(), time.process_time()
        self.loss(ids).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Taken(time.perf_counter() - clock, time.process_time() - cpu)


def losses(shape: Shape) -> dict[str, float]:
    """Of one batch, without dropout."""
    theirs, their_loss = transformers_side(shape, 0.0)
    _, our_loss = our_side(shape, 0.0, theirs.state_dict())
    ids = torch.randint(shape.vocab_size, (shape.batch, shape.seq), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return {"ours": float(our_loss(ids)), "transformers": float(their_loss(ids))}


def times(shape: Shape, turns: int) -> dict[str, list[Taken]]:
    """Turn by turn, after one that does not count."""
    theirs, their_loss = transformers_side(shape, 0.1)
    ours, our_loss = our_side(shape, 0.1, theirs.state_dict())
    loops = {"ours": Loop(ours, our_loss, shape), "transformers": Loop(theirs, their_loss, shape)}
    taken: dict[str, list[Taken]] = {side: [] for side in SIDES}
    for turn in range(turns + 1):
        for side in SIDES[:: 1 if turn % 2 else -1]:
            step = loops[side].step()
            if turn:
                taken[side].append(step)
    return taken


class Clock(pl.Callback):
    """Notes the end of each step."""

    def __init__(self) -> None:
        self.ends: list[Taken] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(Taken(time.perf_counter(), time.process_time()))


def in_lightning(shape: Shape, turns: int) -> list[Taken]:
    """Of our steps within Lightning's loop, the first two left out."""
    module, _ = our_side(shape, 0.1)
    module.connect(total_steps=turns + 2)
    draws = torch.Generator().manual_seed(0)
    ids = [torch.randint(shape.vocab_size, (shape.batch, shape.seq), generator=draws) for _ in range(turns + 2)]
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=turns + 2,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches: Any = [our_batch(each) for each in ids]
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    later = zip(clock.ends[1:], clock.ends[2:], strict=False)
    return [Taken(b.clock - a.clock, b.cpu - a.cpu) for a, b in later]


def lightning_line(name: str, turns: int) -> str:
    shape = SHAPES[name]
    module, loss = our_side(shape, 0.1)
    loop = Loop(module, loss, shape)
    loop.step()
    steps_by_setting = {"bare": [loop.step() for _ in range(turns)], "in Lightning": in_lightning(shape, turns)}
    descriptions = [
        f"{setting} {shape.tokens / statistics.median(step.clock for step in steps):,.0f} tokens/s, "
        f"{statistics.median(step.cpu for step in steps):.3f} CPU seconds per step"
        for setting, steps in steps_by_setting.items()
    ]
    return f"{name}: {'; '.join(descriptions)}"


def memory_gib(which: str) -> float:
    """GiB of this process, now (VmRSS) or at its peak (VmHWM). (getrusage's peak would include the parent process.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 2**20


def peak(side: str, shape: Shape) -> float:
    """GiB."""
    if side == "transformers":
        import transformers.models.gpt2.modeling_gpt2  # noqa: F401  # its own size is none of the model's
    before = memory_gib("VmRSS")
    model, loss = our_side(shape, 0.1) if side == "ours" else transformers_side(shape, 0.1)
    loop = Loop(model, loss, shape)
    for _ in range(2):
        loop.step()
    return memory_gib("VmHWM") - before


def alone(*arguments: object) -> str:
    """What this file prints in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def softmax_cost(variant: str, tokens: int) -> str:
    """Of the loss and its gradients alone, at GPT-2's width and vocabulary."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, 768, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(50257, 768) * 0.02)
    targets, taken = torch.randint(50257, (tokens,)), []
    before, losses = memory_gib("VmRSS"), torch.empty(0)
    for _ in range(4):
        weight.grad = hidden.grad = None
        start = time.process_time()
        if variant == "chunks":
            losses = linear_cross_entropy(hidden, weight, targets)
        else:
            losses = functional.cross_entropy(functional.linear(hidden, weight), targets, reduction="none")
        losses.sum().backward()
        taken.append(time.process_time() - start)
    seconds = statistics.median(taken[1:])
    return (
        f"| {tokens:,} | {variant} | {memory_gib('VmHWM') - before:.2f} | {seconds:.2f} | {losses.mean().item():.6f} |"
    )


def row(name: str, shape: Shape, options: argparse.Namespace) -> str:
    first_losses = losses(shape)
    if abs(first_losses["ours"] / first_losses["transformers"] - 1) > 1e-5:
        raise SystemExit(f"{name}: the losses differ: {first_losses}")
    taken = times(shape, options.turns)
    cells = [f"{shape.tokens / statistics.median(step.clock for step in taken[side]):,.0f}" for side in SIDES]
    for which in Taken._fields:
        turns = zip(*([getattr(step, which) for step in taken[side]] for side in SIDES), strict=True)
        cells.append(f"{statistics.median(theirs / ours for ours, theirs in turns):.2f}")
    cells += [f"{float(alone('--peak', side, '--shapes', name, '--threads', options.threads)):.2f}" for side in SIDES]
    cells.append(f"{first_losses['ours']:.5f} / {first_losses['transformers']:.5f}")
    sizes = f"{shape.n_layers} x {shape.d_model}, {shape.vocab_size:,} words, {shape.batch} x {shape.seq} tokens"
    return f"| {sizes} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lightning", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--variant", choices=("chunks", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peak", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options.peak, SHAPES[options.shapes[0]]))
        return
    if options.variant:
        print(softmax_cost(options.variant, options.tokens))
        return
    if options.loss:
        print("| tokens | logits | peak GiB | CPU seconds | mean loss |\n| --- | --- | --- | --- | --- |")
        for tokens in (1024, 4096):
            for variant in ("chunks", "whole"):
                print(alone("--variant", variant, "--tokens", tokens, "--threads", options.threads), flush=True)
        return
    if options.lightning:
        for name in options.shapes:
            print(lightning_line(name, options.turns))
        return
    print(
        "| shape | tokens/s, ours | transformers | ratio | ratio of CPU seconds | peak GiB, ours | transformers | losses |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.shapes:
        print(row(name, SHAPES[name], options), flush=True)


if __name__ == "__main__":
    main()
