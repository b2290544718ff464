"""`protoformer translate`: translate lines of text with a trained run."""

import argparse

from protoformer.errors import ConfigurationError

HELP = "translate text line by line with a trained run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a translation run, a Hugging Face folder (Marian), or a hub id")
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="a text to translate; may be given several times"
    )
    parser.add_argument(
        "--file", metavar="FILE", help="text to translate, one sentence per line (default: standard input)"
    )
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: standard output)")
    parser.add_argument(
        "--beams", type=int, default=4, metavar="N", help="size of the beam; 1: greedy decoding (default: 4)"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.6,
        help="exponent of the length penalty ((5 + length) / 6)^alpha (default: 0.6)",
    )
    parser.add_argument(
        "--max-extra-tokens",
        type=int,
        default=50,
        metavar="N",
        help="a translation has at most N tokens more than its source (default: 50)",
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=4000,
        metavar="N",
        help="source tokens of a batch, padding included: a lower number takes less memory (default: 4000)",
    )
    parser.add_argument(
        "--reference", metavar="FILE", help="translations to compare with, a line each: BLEU and chrF are printed"
    )
    parser.add_argument(
        "--n-best", type=int, metavar="N", help="write the N best of each line, as line ||| text ||| score"
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: torch is slow to import
    from protoformer.inference import translate

    if options.text and options.file:
        raise ConfigurationError("--text and --file: give one of them")
    request = translate.TranslationRequest(
        file=options.file,
        texts=options.text or (),
        out=options.out,
        beams=options.beams,
        alpha=options.alpha,
        max_extra_tokens=options.max_extra_tokens,
        n_best=options.n_best,
        batch_tokens=options.batch_tokens,
        reference=options.reference,
    )
    translate.main(options.run, request)
