"""The `protoformer` command: what surrounds training. Each verb is a thin call of a function that does the work.

Verbs that compose a run (`train`, `plan`, `prepare`) take the overrides of train.py; the others take run folders.
Nothing heavy is imported before a verb asks for it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from protoformer.errors import ConfigurationError
from protoformer.runtime.entry import Parser, guarded
from protoformer.runtime.entry import main as train
from protoformer.runtime.options import CONF_VARIABLE
from protoformer.runtime.suggest import advice

PROGRAM = "protoformer"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: sys.argv) and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:
        return train(given[1:], f"{PROGRAM} train")
    return guarded(lambda: _dispatch(given))


def _dispatch(given: list[str]) -> int:
    verb, *rest = given or ["--help"]
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb not in VERBS:
        raise ConfigurationError(f"{verb}: no such command; {advice(verb, VERBS)}")
    found = VERBS[verb]
    parser = Parser(prog=f"{PROGRAM} {verb}", description=found.help, allow_abbrev=False)
    found.arguments(parser)
    options = parser.parse_intermixed_args(rest)
    folder = getattr(options, "config_dir", None)
    if folder is not None:
        os.environ[CONF_VARIABLE] = os.path.abspath(folder)
    found.run(options)
    return 0


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        f"usage: {PROGRAM} COMMAND ...\n\n{verbs}\n\n"
        f"`{PROGRAM} COMMAND --help` says what a command takes; `{PROGRAM} train --help` lists groups and keys."
    )


def _takes_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="as train.py takes them (model=bert task=glue/rte)"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with further options, or with its own train.yaml")


def _list_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="models, tasks, hardware, pairs (default: all)")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with further options, or with its own train.yaml")


def _list(options: argparse.Namespace) -> None:
    from protoformer.runtime import listing

    for name in options.sections:
        if name not in listing.SECTIONS:
            raise ConfigurationError(f"{name}: no such section; {advice(name, listing.SECTIONS)}")
    listing.main(options.sections)


def _prepare(options: argparse.Namespace) -> None:
    from protoformer.runtime import prepare

    prepare.main(options.overrides)


def _plan(options: argparse.Namespace) -> None:
    from protoformer.runtime import plan

    plan.main(options.overrides)


def _report_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", default=["outputs"], metavar="DIR", help="folders of runs (default: outputs)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a row a run to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the printed tables to FILE")


def _report(options: argparse.Namespace) -> None:
    from protoformer.runtime import report

    report.main(options.folders, csv=options.csv, markdown=options.markdown)


def _submission_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", choices=("glue",), help="whose server the files are for")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one a task")
    missing = parser.add_mutually_exclusive_group()
    missing.add_argument("--partial", action="store_true", help="write a zip although tasks or rows are missing")
    missing.add_argument("--fill", action="store_true", help="give every row of a missing task the same answer")
    parser.add_argument(
        "--out", default="submission.zip", metavar="FILE", help="the zip to write (default: %(default)s)"
    )


def _submission(options: argparse.Namespace) -> None:
    from protoformer.runtime import submission

    submission.main(options.runs, options.out, partial=options.partial, fill=options.fill)


def _export_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--to", choices=("hf",), default="hf", help="the layout: Hugging Face's (default)")
    parser.add_argument("out", metavar="DIR", help="the folder to write")


def _export(options: argparse.Namespace) -> None:
    from protoformer.runtime import export

    export.main(options.run, options.to, options.out)


def _tokenizer_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("train",), help="learn a vocabulary; the same files give the same one")
    parser.add_argument("files", nargs="+", metavar="FILE", help=".txt (a text a line), .parquet, .jsonl (column text)")
    parser.add_argument(
        "--kind", required=True, choices=("wordpiece", "bpe", "bytelevel"), help="as BERT's, GPT's or GPT-2's"
    )
    parser.add_argument(
        "--size", required=True, type=int, metavar="N", help="tokens, special ones and letters included"
    )
    parser.add_argument(
        "--out", default="tokenizer.json", metavar="FILE", help="the file to write (default: %(default)s)"
    )
    parser.add_argument("--cased", action="store_true", help="keep upper case and accents (bytelevel always does)")
    parser.add_argument(
        "--letters", type=int, default=1000, metavar="N", help="letters that are known, bytelevel: all (default: 1000)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def _tokenizer(options: argparse.Namespace) -> None:
    from protoformer.runtime import tokenizer_training

    tokenizer_training.main(
        options.files,
        options.kind,
        options.size,
        options.out,
        cased=options.cased,
        letters=options.letters,
        force=options.force,
    )


def _predict_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--text", required=True, help="the text, or the question; a pretraining run fills in each [MASK]"
    )
    parser.add_argument("--pair", metavar="TEXT", help="the second text of a pair, or the context of a question")
    parser.add_argument("--choice", action="append", default=[], metavar="TEXT", help="a way to go on; give several")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="how many guesses to print (default: %(default)s)"
    )


def _predict(options: argparse.Namespace) -> None:
    from protoformer.runtime import predict

    predict.main(options.run, predict.Question(options.text, options.pair, options.choice, options.top))


def _translate_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a translation run")
    parser.add_argument("--file", metavar="FILE", help="text, a line for each sentence (default: standard input)")
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: standard output)")
    parser.add_argument(
        "--beams", type=int, default=4, metavar="N", help="1: the likeliest token each time (default: 4)"
    )
    parser.add_argument("--alpha", type=float, default=0.6, help="of the length penalty ((5 + length) / 6)^alpha (0.6)")
    parser.add_argument("--extra", type=int, default=50, metavar="N", help="tokens more than the source has (50)")
    parser.add_argument("--n-best", type=int, metavar="N", help="write N ways of each: number ||| text ||| score")


def _translate(options: argparse.Namespace) -> None:
    from protoformer.runtime import translate

    names = ("file", "out", "beams", "alpha", "extra", "n_best")
    translate.main(options.run, translate.Options(**{name: getattr(options, name) for name in names}))


def _attention_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run folder, or weights: a folder or a hub id")
    parser.add_argument("--text", required=True, metavar="A", help="the text to look at")
    parser.add_argument("--text-b", metavar="B", help="the second text of a pair")
    parser.add_argument("--out", required=True, metavar="FILE", help="the page to write, such as page.html")
    parser.add_argument("--layers", type=_numbers, default=[], metavar="1,2", help="some of the layers (default: all)")
    parser.add_argument(
        "--padding", type=int, default=2, metavar="N", help="padding behind the text, to see its mask (default: 2)"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, such as 1,2") from None


def _attention(options: argparse.Namespace) -> None:
    from protoformer.runtime import attention

    wanted = attention.Looking(options.text, options.text_b, options.layers, options.padding)
    attention.main(options.source, wanted, options.out)


def _generate_takes(parser: argparse.ArgumentParser) -> None:
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


def _generate(options: argparse.Namespace) -> None:
    from protoformer.decoding.beam import Beam
    from protoformer.decoding.choosing import Choosing
    from protoformer.runtime import generate

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


def _compare_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of one way (its seeds)")
    parser.add_argument("--with", nargs="+", required=True, dest="others", metavar="RUN", help="those of the other way")
    parser.add_argument(
        "--draws", type=int, default=10_000, metavar="N", help="of the bootstrap (default: %(default)s)"
    )


def _compare(options: argparse.Namespace) -> None:
    from protoformer.runtime import compare

    compare.main(options.runs, options.others, options.draws)


def _complexity_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", nargs="+", type=int, metavar="N", help="lengths, in rising order (default: 32 to 2048)")
    parser.add_argument("--d", nargs="+", type=int, metavar="D", help="widths, in rising order (default: 64 to 512)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, in seconds")
    parser.add_argument(
        "--out", default="complexity", metavar="DIR", help="where page, CSV and figure go (default: %(default)s)"
    )


def _complexity(options: argparse.Namespace) -> None:
    from protoformer.runtime import complexity

    complexity.main(options.n, options.d, options.out, quick=options.quick, threads=options.threads)


def _train(options: argparse.Namespace) -> None:
    raise AssertionError("`train` reads its own command line")


class Verb(NamedTuple):
    """A command: its help, the arguments it takes, the call it makes."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


VERBS = {
    "train": Verb("train, fine-tune or test a model (the same as train.py)", _takes_overrides, _train),
    "list": Verb("models, tasks and hardware, and what runs with what", _list_takes, _list),
    "plan": Verb(
        "what a run would cost: parameters, FLOPs, memory, steps, time; without data", _takes_overrides, _plan
    ),
    "prepare": Verb(
        "fetch weights, tokenizer and data, and tokenise, for a run without a network", _takes_overrides, _prepare
    ),
    "predict": Verb(
        "what a trained run says of a text: fills in [MASK], labels, answers, chooses", _predict_takes, _predict
    ),
    "translate": Verb("lines of text by a trained translation run, in their order", _translate_takes, _translate),
    "attention": Verb("a page that shows what each head of a model looks at in a text", _attention_takes, _attention),
    "generate": Verb("a decoder goes on with texts: from a run, a folder or the hub", _generate_takes, _generate),
    "report": Verb("runs beside each other and beside the papers", _report_takes, _report),
    "compare": Verb(
        "how sure it is that some runs are better than others, by their predictions", _compare_takes, _compare
    ),
    "submission": Verb("predictions as the zip that a benchmark's server takes", _submission_takes, _submission),
    "export": Verb("a run's model as a folder that other libraries open", _export_takes, _export),
    "complexity": Verb(
        "what a layer of attention, recurrence or convolution costs: formulas, FLOPs, time",
        _complexity_takes,
        _complexity,
    ),
    "tokenizer": Verb("learn a vocabulary from files of text, for model.tokenizer=FILE", _tokenizer_takes, _tokenizer),
}


if __name__ == "__main__":
    raise SystemExit(main())
