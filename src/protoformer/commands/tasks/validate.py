"""`protoformer validate`: prompts and running texts of tasks as the model reads them, and what is doubtful about them."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.config.compose import compose
from protoformer.config.groups import option, search_path
from protoformer.config.groups import options as options_of
from protoformer.config.names.suggest import advice
from protoformer.config.validate import OWN_DATA
from protoformer.errors import ConfigurationError, DataError, UserError, WeightsError
from protoformer.reporting.tables import make_console, print_table

if TYPE_CHECKING:
    from protoformer.data.prompts.datamodule import InContextDataModule
    from protoformer.data.prompts.findings import CheckedPrompts
    from protoformer.data.running_text.datamodule import PerplexityDataModule
    from protoformer.data.sources.source import RawTable, Role

HELP = "render prompts and texts of incontext/ and lm/ tasks, count their tokens, and find what is doubtful"
GROUPS, PROMPTS, TEXTS = ("incontext", "lm"), "in_context", "perplexity"  # groups of tasks, and their kinds
CHECKED, SHOWN = 50, 2  # rows, where --rows does not say how many
NOT_READ = "not read"
BEGINNING = 400  # characters of a text that are printed
COLUMNS = ("task", "version", "answer", "metrics", "rows", "choices", "tokens", "findings")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        nargs="?",
        default="",
        metavar="TASK",
        help="such as incontext/copa; incontext, lm, or nothing: a table of all",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py (task.shots=4 source=local source.root=DIR)"
    )
    parser.add_argument(
        "--rows", type=int, metavar="N", help=f"rows to check and print (default: check {CHECKED}, print {SHOWN})"
    )
    parser.add_argument("--row", metavar="FILE|JSON", help="rows of your own: a file, or an object in JSON")
    parser.add_argument("--model", default=None, metavar="NAME", help="whose tokenizer and positions (default: gpt2)")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer's file or folder (default: that of the model)")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder with further options; with its own train.yaml it replaces conf/"
    )


def run(options: argparse.Namespace) -> None:
    if "=" in options.task and not options.task.startswith("task="):  # no task, the first of the overrides
        options.task, options.overrides = "", [options.task, *options.overrides]
    name = options.task.removeprefix("task=").rstrip("/")
    if options.rows is not None and options.rows < 1:
        raise ConfigurationError(f"--rows {options.rows}: at least 1")
    folders = search_path()
    nodes = {each: option("task", each, folders) for each in options_of("task", folders)}
    tasks = [each for each, node in nodes.items() if node["kind"] in (PROMPTS, TEXTS)]
    chosen = [each for each in tasks if each == name]
    if not chosen:  # those of a group; data of one's own are validated by name
        published = [each for each in tasks if nodes[each]["rows"].get("dataset") != OWN_DATA]
        chosen = [each for each in published if not name or each.startswith(f"{name}/")]
    if not chosen:
        raise ConfigurationError(f"{name}: no in-context task, and none of lm/; {advice(name, [*GROUPS, *tasks])}")
    overrides = _overrides(options)
    if chosen == [name]:
        printed = _print_task if nodes[name]["kind"] == PROMPTS else _print_text
        printed(name, [f"task={name}", *overrides], options)
        return
    if options.row is not None:
        raise ConfigurationError(f"--row {options.row}: rows are of one data set; name one task")
    rows = [_table_row(each, [f"task={each}", *overrides], options.rows or CHECKED) for each in chosen]
    print_table(
        COLUMNS, [line for line, _ in rows], console=make_console(), right=("version", "rows", "choices", "tokens")
    )
    if reasons := [reason for _, reason in rows if reason]:
        print(f"{NOT_READ}: rows of {len(reasons)} of {len(rows)} tasks; the first: {reasons[0]}")


def _overrides(options: argparse.Namespace) -> list[str]:
    """The command line of a run: with a model, whose weights are not needed."""
    typed = {text.lstrip("+").partition("=")[0] for text in options.overrides}
    if wrong := next((text for text in options.overrides if "=" not in text), None):
        raise ConfigurationError(
            f"{wrong}: neither KEY=VALUE nor the one task; one task, or a folder of them, is validated"
        )
    for flag, key in (("model", "model"), ("tokenizer", "model.tokenizer")):
        if getattr(options, flag) is not None and key in typed:
            raise ConfigurationError(f"--{flag} and {key}= are two ways to say the same; give one")
    added = [] if "model" in typed else [f"model={options.model or 'gpt2'}"]
    added += [] if options.tokenizer is None else [f"model.tokenizer={options.tokenizer}"]
    return [*added, *options.overrides]


def _data(config: dict[str, Any]) -> Any:
    """The data module of a task, before any row is read: an InContextDataModule or a PerplexityDataModule."""
    # not at the top: torch is slow to import
    from protoformer.assembly.build import build_datamodule
    from protoformer.assembly.initial_weights import InitialWeights, find_initial_weights
    from protoformer.assembly.instantiate import instantiate
    from protoformer.assembly.model import resolve_model
    from protoformer.assembly.tokenizer import build_tokenizer

    source = instantiate(config, "source")
    initial = InitialWeights("scratch") if config["init_from"] == "auto" else find_initial_weights(config)
    if config["task"]["kind"] == PROMPTS:
        config["task"]["data"]["on_overflow"] = "drop_shots"  # what does not fit is a finding
    tokenizer = build_tokenizer(config, initial, source)
    return build_datamodule(resolve_model(config, initial, tokenizer).in_config(config), source, tokenizer)


def _rows(data: Any, limit: int, given: "RawTable | None" = None) -> "tuple[RawTable, Role]":
    """The first rows of the evaluated split, or given ones."""
    roles: tuple[Role, ...] = ("validation", "test")
    role, split = next((role, split) for role in roles for split in data.splits[role])
    raw = given or data.raw(role, split)
    return raw if raw.table.num_rows <= limit else raw.take(range(limit)), role


def _checked(data: "InContextDataModule", limit: int, given: "RawTable | None" = None) -> "CheckedPrompts":
    """The prompts of the first rows of the evaluated split, or of given ones."""
    from protoformer.data.prompts.findings import check

    return check(data, *_rows(data, limit, given))


def _table_row(task: str, overrides: Sequence[str], limit: int) -> tuple[tuple[str, ...], str | None]:
    """A task's line, and why its rows cannot be read."""
    config = compose(overrides)
    data = _data(config)
    if config["task"]["kind"] == TEXTS:
        return _text_row(task, config, data, limit)
    reader = data.prompt_reader
    first = (task, str(reader.version), reader.answer_type, ", ".join(config["task"]["module"]["metrics"]))
    try:
        checked = _checked(data, limit)
    except (DataError, WeightsError) as error:
        return (*first, "-", "-", "-", NOT_READ), str(error)
    choices = checked.choices
    texts = list(dict.fromkeys(_anonymous(each.text) for each in checked.findings))
    line = (
        *first,
        str(len({prompt.example.row for prompt, _ in checked.prompts})),
        str(choices[-1]) if len(choices) == 1 else f"{choices[0]} to {choices[-1]}",
        f"{checked.tokens:.0f}",
        f"{len(checked.findings)}: {'; '.join(texts[:2])}" if texts else "none",
    )
    return line, None


def _text_row(
    task: str, config: Mapping[str, Any], data: "PerplexityDataModule", limit: int
) -> tuple[tuple[str, ...], str | None]:
    first = (task, "-", "every token", config["task"]["module"]["measure"])
    try:
        rows, role = _rows(data, limit)
        stats = data.encode(rows, role).stats
    except (DataError, WeightsError) as error:
        return (*first, "-", "-", "-", NOT_READ), str(error)
    average = stats["tokens"] / max(1, stats["texts"])
    finding = _unchanged(stats)
    return (*first, str(stats["rows"]), "-", f"{average:.0f}", f"1: {finding}" if finding else "none"), None


def _unchanged(stats: Mapping[str, int]) -> str:
    """What a de-tokeniser left as it was."""
    count = stats.get("ambiguous", 0)
    return f"{count} tokens have no inverse in the de-tokeniser" if count else ""


def _anonymous(text: str) -> str:
    """A finding without the words of its row."""
    return text.partition(": ")[0] if text.startswith("choice") else text.partition("'")[0].strip()


def _print_task(task: str, overrides: Sequence[str], options: argparse.Namespace) -> None:
    # not at the top: numpy and torch are slow to import
    from protoformer.data.prompts.rendering import prompt_texts

    config = compose(overrides)
    data = _data(config)
    given = None if options.row is None else _given_rows(options.row)
    checked = _checked(data, options.rows or CHECKED, given)
    print(f"{task}  {data.signature}  metrics: {', '.join(config['task']['module']['metrics'])}")
    shown = len(checked.prompts) if options.rows is not None or options.row is not None else SHOWN
    for prompt, pairs in checked.prompts[:shown]:
        example = prompt.example
        turn = f", turn {example.turn + 1}" if data.prompt_reader.turns else ""
        print(f"\nrow {example.row + 1}{turn}: {pairs[0].start} tokens of prompt, {prompt.used} shots")
        shots = prompt.shots[len(prompt.shots) - prompt.used :]
        for text in dict.fromkeys(prompt_texts(data.prompt_reader, example, shots)):
            print("\n".join(f"  | {line}" for line in text.split("\n")))
        for number, (completion, pair) in enumerate(zip(example.completions, pairs, strict=True)):
            mark = "*" if number == example.gold else " "
            print(f"{mark} {number + 1} {completion!r} ({len(pair.ids) - pair.start} tokens)")
        if example.answers:
            print(f"  right: {', '.join(map(repr, example.answers))}")
    print()
    for finding in checked.findings:
        print(f"row {finding.row + 1}: {finding.text}" if finding.row is not None else finding.text)
    examples = "1 prompt" if len(checked.prompts) == 1 else f"{len(checked.prompts)} prompts"
    print(f"{examples}, {checked.tokens:.0f} tokens on average; findings: {len(checked.findings) or 'none'}")


def _print_text(task: str, overrides: Sequence[str], options: argparse.Namespace) -> None:
    """A task of running text: how its first rows begin, and what is counted in them."""
    config = compose(overrides)
    data: PerplexityDataModule = _data(config)
    given = None if options.row is None else _given_rows(options.row)
    rows, role = _rows(data, options.rows or CHECKED, given)
    read = data.text_reader.read(rows, data.on_bad_row)
    stats = data.encode(rows, role).stats
    strides = " and ".join(map(str, data.strides))
    print(
        f"{task}  measure: {config['task']['module']['measure']}  windows of {data.max_len} tokens, strides {strides}"
    )
    text = read.texts[0][:BEGINNING] + ("..." if len(read.texts[0]) > BEGINNING else "")
    print("\n" + "\n".join(f"  | {line}" for line in text.split("\n")) + "\n")
    names = ("rows", "texts", "tokens", "words", "bytes", "characters")
    print(f"{', '.join(f'{stats[name]:,} {name}' for name in names)}; findings: {_unchanged(stats) or 'none'}")


def _given_rows(text: str) -> "RawTable":
    """Rows of a file, or of JSON. Raises UserError for what is neither."""
    import pyarrow as pa

    from protoformer.data.sources.source import RawTable, files_table

    if not text.lstrip().startswith(("{", "[")):
        path = Path(text).expanduser()
        if not path.is_file():
            raise UserError(f"--row {text}: no such file, and no object in JSON")
        return files_table([path], str(path), None)
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise UserError(f"--row: not valid JSON ({error})") from None
    rows = rows if isinstance(rows, list) else [rows]
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise UserError("--row: an object, or a list of objects, with the columns of the data set")
    try:
        return RawTable(pa.Table.from_pylist(rows), "--row", text)
    except pa.ArrowInvalid as error:
        raise UserError(f"--row: {error}") from None
