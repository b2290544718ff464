"""Speed of greedy decoding in tokens a second: this decoder and `transformers`, the same random GPT-2, in one process.

The two take turns, one call each, over and over; medians are reported, so that other load on the machine affects both. A call
includes the pass over the prompt. The generated tokens must be equal. See `python benchmarks/decoding.py --help`.
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


def take_turns(ours: Decoder, theirs: transformers.GPT2LMHeadModel, ids: torch.Tensor, new: int, rounds: int) -> None:
    """Rounds of one call each; prints a row of the table."""
    prompts, batch = ids.tolist(), len(ids)
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(ids)
    calls: dict[str, Callable[[], list[list[int]]]] = {
        "ours": lambda: complete(ours, prompts, max_new_tokens=new),
        "theirs": lambda: theirs.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :].tolist(),
    }
    durations: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    texts = {}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter(), time.process_time()
            texts[name] = call()
            durations[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = (
        {name: batch * new / statistics.median(one[clock] for one in all) for name, all in durations.items()}
        for clock in (0, 1)
    )
    same = "the same texts" if texts["ours"] == texts["theirs"] else "DIFFERENT TEXTS"
    print(
        f"| {batch} | {wall['ours']:.1f} | {wall['theirs']:.1f} | {wall['ours'] / wall['theirs']:.2f} | "
        f"{cpu['ours']:.1f} | {cpu['theirs']:.1f} | {cpu['ours'] / cpu['theirs']:.2f} | {same} |",
        flush=True,
    )


def bound(ours: Decoder, rounds: int) -> None:
    """The time to read the weights alone, a lower bound for a step of one row."""
    matrices = [
        matrix for matrix in ours.parameters() if matrix.ndim == 2 and matrix is not ours.embeddings.position.weight
    ]
    size, times = sum(matrix.nbytes for matrix in matrices), []
    with torch.inference_mode():
        rows = {width: torch.randn(1, width) for width in {matrix.shape[1] for matrix in matrices}}
        for _ in range(rounds):
            start = time.perf_counter(), time.process_time()
            for matrix in matrices:
                torch.nn.functional.linear(rows[matrix.shape[1]], matrix)
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = (statistics.median(one[clock] for one in times) for clock in (0, 1))
    print(
        f"\nThe matrix products alone, {size / 1e6:.0f} MB, for one row: {1 / wall:.1f} per second "
        f"({size / wall / 1e9:.1f} GB/s), "
        f"{1 / cpu:.1f} a second of processor time ({size / cpu / 1e9:.1f} GB/s)."
    )


def products(ours: Decoder, rounds: int) -> None:
    """All matrices times some rows, in both orders of the product, in ms of processor time."""
    matrices = [
        matrix for matrix in ours.parameters() if matrix.ndim == 2 and matrix is not ours.embeddings.position.weight
    ]
    print("| rows | x W^T, ms | W x^T, ms |\n|---|---|---|")
    with torch.inference_mode():
        for count in (1, 4, 8, 16, 32, 64):
            rows = {width: torch.randn(count, width) for width in {matrix.shape[1] for matrix in matrices}}
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                for transposed, durations in zip((False, True), times, strict=True):
                    start = time.process_time()
                    for matrix in matrices:
                        x = rows[matrix.shape[1]]
                        _ = matrix @ x.t() if transposed else x @ matrix.t()
                    durations.append(1e3 * (time.process_time() - start))
            print(f"| {count} | {statistics.median(times[0]):.1f} | {statistics.median(times[1]):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[768, 12, 12], metavar=("D_MODEL", "LAYERS", "HEADS"))
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=8, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=32, help="new tokens of a call")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--products", action="store_true", help="only time the matrix products, in both orders")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ours, theirs = pair(*options.shape, options.vocab)
    if options.products:
        products(ours, options.rounds)
        return
    print(
        f"{' x '.join(map(str, options.shape))}, {options.vocab} tokens, float32, {options.threads} threads, prompts of "
        f"{options.prompt}, {options.new} new tokens; tokens per second of wall time, then of CPU time; torch "
        f"{torch.__version__}, transformers {transformers.__version__}\n\n"
        "| batch | ours | transformers | ratio | ours | transformers | ratio | |\n|---|---|---|---|---|---|---|---|"
    )
    for batch in options.batch:
        ids = torch.randint(options.vocab, (batch, options.prompt))
        complete(ours, ids.tolist(), max_new_tokens=2)  # warm
        theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False, pad_token_id=0)
        take_turns(ours, theirs, ids, options.new, options.rounds)
    bound(ours, 3 * options.rounds)
    session = DecoderSession(ours, max(options.batch), options.prompt + options.new)
    cache_bytes = sum(cache.keys.nbytes + cache.values.nbytes for cache in session.caches)  # type: ignore[attr-defined]
    print(f"The cache of {max(options.batch)} texts: {cache_bytes / 2**20:.1f} MiB, allocated once.")


if __name__ == "__main__":
    main()
