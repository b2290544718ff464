"""`protoformer generate`: a decoder goes on with texts: from a run, a folder or the hub."""

import argparse

HELP = "a decoder goes on with texts: from a run, a folder or the hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "decoder", metavar="RUN_OR_WEIGHTS", help="a run folder, a Hugging Face folder, or a hub id (GPT, GPT-2)"
    )
    add = parser.add_argument
    add(
        "--prompt", action="append", default=[], metavar="TEXT", help="a text to go on with; may be given several times"
    )
    add("--prompts", metavar="FILE", help="a prompt a line, or .jsonl with the key prompt")
    add("--out", metavar="FILE.jsonl", help="write completions there, a line each (default: the terminal)")
    add("--max-new", type=int, default=64, metavar="N", help="tokens to add at most (default: %(default)s); where the model's "
        "positions are full, the last half of the text is read anew")  # fmt: skip
    add("--temperature", type=float, metavar="X", help="0: the likeliest token each time (the default; with --top-k, --top-p "
        "or --samples it is 1)")  # fmt: skip
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens")
    add("--top-p", type=float, metavar="P", help="draw from the fewest tokens that hold a share P of the probability")
    add(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="above 1: what stands there already is less likely",
    )
    add("--samples", type=int, default=1, metavar="N", help="completions a prompt (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the draws (default: %(default)s)")
    add(
        "--stop", action="append", default=[], metavar="TEXT", help="a text at which to end; may be given several times"
    )
    add("--beams", type=int, metavar="N", help="look for the likeliest text along N ways instead")
    add("--length-penalty", choices=("power", "gnmt"), default="power", help="len^alpha, or ((5 + len) / 6)^alpha")
    add("--alpha", type=float, default=1.0, metavar="X", help="of the length penalty (default: %(default)s)")
    add("--stopping", choices=("first", "best_possible", "exhaustive"), default="best_possible", help="when a beam is over: "
        "with N ends, when no way is better now, or can be (default: %(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=16, metavar="N", help="prompts at once (default: %(default)s)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")


def run(options: argparse.Namespace) -> None:
    from protoformer.decoding.beam import Beam
    from protoformer.decoding.sampling import Choosing
    from protoformer.inference import generate

    chosen = {name: getattr(options, name) for name in ("repetition_penalty", "top_k", "top_p")}
    drawn = options.top_k is not None or options.top_p is not None or options.samples > 1
    chosen["temperature"] = options.temperature if options.temperature is not None else float(drawn)
    beam = None
    if options.beams is not None:
        beam = Beam(options.beams, options.length_penalty, options.alpha, options.stopping)
    kept = ("out", "max_new", "samples", "stop", "seed", "batch_size", "device")
    request = generate.Request(
        prompts=options.prompt,
        file=options.prompts,
        choosing=Choosing(**chosen),
        beam=beam,
        **{name: getattr(options, name) for name in kept},
    )
    generate.main(options.decoder, request)
