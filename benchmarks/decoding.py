"""Tokens a second of greedy decoding: our decoder against `transformers`, the same random GPT-2, in one process.

Each takes its turn for a short stretch, over and over; medians are reported, so that what else the machine does falls on both.
A stretch is a whole call, the prompt's pass included. Texts must be the same. `python benchmarks/decoding.py --help`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import transformers

from protoformer.decoding.generation import complete
from protoformer.decoding.session import DecoderSession
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights


def pair(d_model: int, n_layers: int, n_heads: int, vocab: int) -> tuple[Decoder, transformers.GPT2LMHeadModel]:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=d_model, n_layer=n_layers, n_head=n_heads, vocab_size=vocab)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = gpt(**Gpt2Weights().sizes(config.to_dict())).eval()
    weights.load_into(ours, Gpt2Weights().from_hf(theirs.state_dict())[0], "theirs")
    return ours, theirs


def turns(ours: Decoder, theirs: transformers.GPT2LMHeadModel, ids: torch.Tensor, new: int, rounds: int) -> None:
    """Rounds of one stretch each, and what came of them."""
    prompts, batch = ids.tolist(), len(ids)
    how = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(ids)
    calls: dict[str, Callable[[], list[list[int]]]] = {
        "ours": lambda: complete(ours, prompts, max_new_tokens=new),
        "theirs": lambda: theirs.generate(ids, attention_mask=mask, **how)[:, ids.shape[1] :].tolist(),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    texts = {}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter(), time.process_time()
            texts[name] = call()
            spent[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    wall, busy = (
        {name: batch * new / statistics.median(one[place] for one in all) for name, all in spent.items()}
        for place in (0, 1)
    )
    same = "the same texts" if texts["ours"] == texts["theirs"] else "OTHER TEXTS"
    print(
        f"| {batch} | {wall['ours']:.1f} | {wall['theirs']:.1f} | {wall['ours'] / wall['theirs']:.2f} | "
        f"{busy['ours']:.1f} | {busy['theirs']:.1f} | {busy['ours'] / busy['theirs']:.2f} | {same} |",
        flush=True,
    )


def bound(ours: Decoder, rounds: int) -> None:
    """How fast the weights alone can be read, which a step at one row cannot beat."""
    matrices = [part for part in ours.parameters() if part.ndim == 2 and part is not ours.embeddings.position.weight]
    size, times = sum(part.nbytes for part in matrices), []
    with torch.inference_mode():
        rows = {width: torch.randn(1, width) for width in {part.shape[1] for part in matrices}}
        for _ in range(rounds):
            begun = time.perf_counter(), time.process_time()
            for part in matrices:
                torch.nn.functional.linear(rows[part.shape[1]], part)
            times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    wall, busy = (statistics.median(one[place] for one in times) for place in (0, 1))
    print(
        f"\nThe matrices alone, {size / 1e6:.0f} MB, by one row: {1 / wall:.1f} times a second ({size / wall / 1e9:.1f} GB/s), "
        f"{1 / busy:.1f} a second of processor time ({size / busy / 1e9:.1f} GB/s)."
    )


def products(ours: Decoder, rounds: int) -> None:
    """All the matrices by some rows, both ways round, in ms of processor time."""
    matrices = [part for part in ours.parameters() if part.ndim == 2 and part is not ours.embeddings.position.weight]
    print("| rows | x W^T, ms | W x^T, ms |\n|---|---|---|")
    with torch.inference_mode():
        for count in (1, 4, 8, 16, 32, 64):
            rows = {width: torch.randn(count, width) for width in {part.shape[1] for part in matrices}}
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                for turned, spent in zip((False, True), times, strict=True):
                    begun = time.process_time()
                    for part in matrices:
                        x = rows[part.shape[1]]
                        _ = part @ x.t() if turned else x @ part.t()
                    spent.append(1e3 * (time.process_time() - begun))
            print(f"| {count} | {statistics.median(times[0]):.1f} | {statistics.median(times[1]):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[768, 12, 12], metavar=("D_MODEL", "LAYERS", "HEADS"))
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=8, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=32, help="tokens to add in a stretch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", action="store_true", help="the matrices by some rows, both ways round, alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ours, theirs = pair(*options.shape, options.vocab)
    if options.products:
        products(ours, options.rounds)
        return
    print(
        f"{' x '.join(map(str, options.shape))}, {options.vocab} tokens, float32, {options.threads} threads, prompts of "
        f"{options.prompt}, {options.new} new tokens; tokens a second by the clock, then of processor time; torch "
        f"{torch.__version__}, transformers {transformers.__version__}\n\n"
        "| batch | ours | transformers | ratio | ours | transformers | ratio | |\n|---|---|---|---|---|---|---|---|"
    )
    for batch in options.batch:
        ids = torch.randint(options.vocab, (batch, options.prompt))
        complete(ours, ids.tolist(), max_new_tokens=2)  # warm
        theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False, pad_token_id=0)
        turns(ours, theirs, ids, options.new, options.rounds)
    bound(ours, 3 * options.rounds)
    room = DecoderSession(ours, max(options.batch), options.prompt + options.new)
    held = sum(cache.keys.nbytes + cache.values.nbytes for cache in room.caches)  # type: ignore[attr-defined]
    print(f"The cache of {max(options.batch)} texts: {held / 2**20:.1f} MiB, made once.")


if __name__ == "__main__":
    main()
