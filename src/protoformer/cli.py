"""The `protoformer` command. Each verb is a file of `commands` with its help, its arguments and its `run`.

Verbs that compose a run (`train`, `plan`, `prepare`) take the overrides of train.py; the others take run folders.
Heavy imports happen only inside the verb that needs them.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from protoformer.commands.parser import Parser, guarded
from protoformer.config.groups import CONF_VARIABLE
from protoformer.config.names.suggest import advice
from protoformer.distributed import signals
from protoformer.errors import ConfigurationError

PROGRAM = "protoformer"
VERBS = {  # module of `commands`, in the order of the overview
    "train": "train", "sweep": "sweeps.run", "list": "list", "plan": "plan", "validate": "tasks.validate", "prepare": "prepare",
    "predict": "runs.predict", "evaluate": "runs.evaluate", "translate": "runs.translate", "attention": "runs.attention",
    "generate": "runs.generate",
    "report": "runs.report", "report scaling": "runs.scaling", "report data-size": "runs.data_size",
    "report sweep": "sweeps.report",
    "compare": "runs.compare", "probe heads": "probe.heads", "probe ablate": "probe.ablate", "probe layers": "probe.layers",
    "overlap": "overlap",
    "submission": "runs.submission", "export": "runs.export", "complexity": "complexity", "tokenizer": "tokenizer",
    "settings": "settings", "clean": "clean", "completion": "completion",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: sys.argv); returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:
        with signals.listen():  # before all other imports: a signal may come at any time
            from protoformer.commands import train

            return train.main(given[1:], f"{PROGRAM} train")
    return guarded(lambda: _dispatch(given))


def _dispatch(given: list[str]) -> int:
    verb, rest = split_verb(given or ["--help"])
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb not in VERBS:
        raise ConfigurationError(f"{verb}: no such command; {advice(verb, VERBS)}")
    command = _command(verb)
    if verb == "completion" and rest[:1] == ["words"]:  # any words, flags included: for the script of a shell
        command.print_candidates(rest[1:], VERBS)
        return 0
    parser = Parser(prog=f"{PROGRAM} {verb}", description=command.HELP, allow_abbrev=False)
    command.add_arguments(parser)
    options = parser.parse_intermixed_args(rest)
    folder = getattr(options, "config_dir", None)
    if folder is not None:
        os.environ[CONF_VARIABLE] = os.path.abspath(folder)
    return command.run(options) or 0


def split_verb(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that words begin with, of one word or two (`report scaling`), and the words after it."""
    two = " ".join(words[:2])
    return (two, list(words[2:])) if two in VERBS else (words[0], list(words[1:]))


def _command(verb: str) -> ModuleType:
    return importlib.import_module(f"protoformer.commands.{VERBS[verb]}")


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {_command(verb).HELP}" for verb in VERBS)
    return (
        f"usage: {PROGRAM} COMMAND ...\n\n{verbs}\n\n"
        f"`{PROGRAM} COMMAND --help` lists the arguments of a command; `{PROGRAM} train --help` lists groups and keys."
    )


if __name__ == "__main__":
    raise SystemExit(main())
