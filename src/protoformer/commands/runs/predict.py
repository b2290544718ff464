"""`protoformer predict`: predictions for texts or for a whole file: labels, numbers, answers, choices, words for [MASK]."""

import argparse

from protoformer.errors import ConfigurationError

HELP = "predict for texts or a file: labels, numbers, answers, choices, words for [MASK]"
STANDARD_INPUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder, a Hugging Face folder, or a hub id")
    add("--text", action="append", default=[], help="the text, or the question; a masked language model fills in each "
        "[MASK]; may be given several times; -: lines of standard input")  # fmt: skip
    add("--pair", action="append", default=[], metavar="TEXT", help="the second text of a pair, or the context of a "
        "question: one for each --text")  # fmt: skip
    add("--choice", action="append", default=[], metavar="TEXT", help="a choice; repeat for each choice")
    add("--file", metavar="FILE", help="predict every row of a file: .csv, .tsv, .json, .jsonl, .parquet, .txt (a text a "
        "line); -: standard input")  # fmt: skip
    add("--out", metavar="FILE", help="the file to write, .jsonl or .csv; one that is there is continued (default: JSON "
        "lines on standard output)")  # fmt: skip
    add("--format", metavar="NAME", choices=("csv", "tsv", "json", "jsonl", "parquet", "txt"), help="format of standard "
        "input (default: JSON lines where it begins with { or [, else text lines)")  # fmt: skip
    add("--text-column", metavar="NAME", help="the column with the text or question (default: as in the run's data)")
    add("--pair-column", metavar="NAME", help="the column with the second text or the context")
    add("--choices-column", action="append", default=[], metavar="NAME", help="the column with lists of choices, or (given "
        "several times) a column for each")  # fmt: skip
    add("--on-bad-row", choices=("error", "skip"), default="error", help="skip: a row without a text gets the prediction "
        "null (default: error)")  # fmt: skip
    add("--force", action="store_true", help="replace --out instead of continuing it")
    add("--batch-tokens", type=int, default=8192, metavar="N", help="tokens of a batch, padding included: a lower number "
        "takes less memory, with the same predictions (default: %(default)s)")  # fmt: skip
    add("--top", type=int, default=5, metavar="N", help="how many predictions to give (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    if options.file is None and not options.text:
        raise ConfigurationError("nothing to predict: give --text TEXT, or --file FILE")
    if options.file is not None and (options.text or options.pair or options.choice):
        raise ConfigurationError("--file and --text: give one of them")
    if options.file is not None or options.text == [STANDARD_INPUT]:
        _predict_file(options)
        return
    if options.out is not None:
        raise ConfigurationError("--out is for --file; without one the predictions are printed")
    if options.pair and len(options.pair) != len(options.text):
        raise ConfigurationError(
            f"{len(options.text)} --text and {len(options.pair)} --pair: give one --pair for each --text"
        )
    # not at the top: torch is slow to import
    from protoformer.inference import predict
    from protoformer.modules.queries import Query

    pairs = options.pair or [None] * len(options.text)
    queries = [Query(text, pair, options.choice, options.top) for text, pair in zip(options.text, pairs, strict=True)]
    predict.main(options.run, queries, options.batch_tokens)


def _predict_file(options: argparse.Namespace) -> None:
    from protoformer.inference.files.columns import ColumnOptions
    from protoformer.inference.load import load
    from protoformer.inference.predict_file import FileRequest, predict_file

    if options.pair or options.choice:
        raise ConfigurationError("--text - reads texts alone; give pairs and choices by --file")
    request = FileRequest(
        file=options.file or STANDARD_INPUT,
        out=options.out,
        input_format=options.format or (None if options.file else "txt"),
        columns=ColumnOptions(options.text_column, options.pair_column, options.choices_column),
        on_bad_row=options.on_bad_row,
        top=options.top,
        force=options.force,
        batch_tokens=options.batch_tokens,
    )
    predict_file(load(options.run), request)
