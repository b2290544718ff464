"""`protoformer generate`: complete prompts with a decoder, from a run, a folder of weights or the hub."""

import argparse

HELP = "complete prompts with a decoder, from a run, a folder of weights or a hub id"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("decoder", metavar="RUN_OR_WEIGHTS", help="a run folder, a Hugging Face folder, or a hub id (GPT, GPT-2)")
    add("--prompt", action="append", default=[], metavar="TEXT", help="a prompt; may be given several times")
    add(
        "--prompts",
        metavar="FILE",
        help="a file of prompts, one per line; or .jsonl, .csv, .parquet, ... with prompts under the name prompt",
    )
    add("--out", metavar="FILE.jsonl", help="write completions to this file, one per line (default: the terminal)")
    add("--max-new", "--max-new-tokens", type=int, default=64, metavar="N", help="maximum number of new tokens (default: "
        "%(default)s); when the model's positions are full, the last half of the text is read again")  # fmt: skip
    add("--temperature", type=float, metavar="X", help="0: greedy decoding (the default; with --top-k, --top-p or --samples "
        "it is 1)")  # fmt: skip
    add("--top-k", type=int, metavar="K", help="sample from the K most probable tokens")
    add(
        "--top-p",
        type=float,
        metavar="P",
        help="nucleus sampling: from the fewest tokens with a total probability of P",
    )
    add("--repetition-penalty", type=float, default=1.0, metavar="X", help="above 1: tokens of the text so far become less "
        "probable")  # fmt: skip
    add("--samples", type=int, default=1, metavar="N", help="completions of each prompt (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the sampling (default: %(default)s)")
    add("--stop", action="append", default=[], metavar="TEXT", help="a stop string; may be given several times")
    add("--beams", type=int, metavar="N", help="beam search with N beams instead of sampling")
    add("--length-penalty", choices=("power", "gnmt"), default="power", help="length penalty of beam search: len^alpha, or "
        "((5 + len) / 6)^alpha (default: %(default)s)")  # fmt: skip
    add("--alpha", type=float, default=1.0, metavar="X", help="exponent of the length penalty (default: %(default)s)")
    add("--stopping", choices=("first", "best_possible", "exhaustive"), default="best_possible", help="early stopping of beam "
        "search, once N hypotheses have finished: at once; when no other is better now; or when none can become better (the "
        "early_stopping of transformers: True, False, \"never\"; default: %(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=16, metavar="N", help="number of prompts per batch (default: %(default)s)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")


def run(options: argparse.Namespace) -> None:
    # not at the top: torch is slow to import
    from protoformer.decoding.beam import BeamParams
    from protoformer.decoding.sampling import SamplingParams
    from protoformer.inference import generate

    samples_anything = options.top_k is not None or options.top_p is not None or options.samples > 1
    sampling = SamplingParams(
        repetition_penalty=options.repetition_penalty,
        temperature=float(samples_anything) if options.temperature is None else options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    beam = None
    if options.beams is not None:
        beam = BeamParams(options.beams, options.length_penalty, options.alpha, options.stopping)
    request = generate.GenerationRequest(
        prompts=options.prompt,
        file=options.prompts,
        out=options.out,
        max_new_tokens=options.max_new,
        samples=options.samples,
        stop=options.stop,
        seed=options.seed,
        batch_size=options.batch_size,
        sampling=sampling,
        beam=beam,
        device=options.device,
    )
    generate.main(options.decoder, request)
