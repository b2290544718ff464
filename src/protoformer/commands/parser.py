"""Command lines: their parser, and user errors as one line with an exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from protoformer.atomic import FULL, full_disk
from protoformer.config import compose, schema
from protoformer.config.groups import CONF_VARIABLE, groups, search_path
from protoformer.config.names.foreign_names import foreign_key
from protoformer.config.names.suggest import advice, nearest
from protoformer.distributed.memory import LESS_MEMORY, is_out_of_memory
from protoformer.errors import ConfigurationError, DeviceMemoryError, DiskFullError, UserError

INTERRUPTED = 130
CLOSED_PIPE = 141
NO_HOME = "Could not determine home directory."  # pathlib's error for a user that does not exist
OLD_FLAGS = {"--draws": "--resamples", "--letters": "--alphabet"}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are user errors in one line."""

    _words: Sequence[str] = ()  # of the command line that is being parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split()[:1]
        if message.startswith("unrecognized") and unknown:
            raise ConfigurationError(self._unknown(unknown[0], given_value="=" in message))
        if message.startswith("the following arguments are required"):
            misspelt = self._unknown_flag()
            message = self._unknown(misspelt, given_value=False) if misspelt else f"{message}; {self._form()}"
        raise ConfigurationError(message)

    def _unknown_flag(self) -> str | None:
        """The first word in the form of a flag that is none, nor the beginning of one."""
        flags = " " + " ".join(self._option_string_actions)
        words = (word.partition("=")[0] for word in takewhile(lambda word: word != "--", self._words))
        return next((word for word in words if word[:2] == "--" and f" {word}" not in flags), None)

    def _unknown(self, word: str, given_value: bool) -> str:
        """What is wrong with a word that no argument takes: a misspelt flag, an override with hyphens, one word too many."""
        name = word.lstrip("-")
        if name == word:
            return f"{word}: one argument too many; {self._form()}"
        flags = [flag.removeprefix("--") for flag in self._option_string_actions if flag.startswith("--")]
        if any(action.dest == "overrides" for action in self._actions):
            known = {*groups(search_path()), *compose.keys_of(schema.Run)}
            if (meant := foreign_key(name)) is not None:
                return f"{word}: no such flag; {meant}"
            if "." in name or name in known or (given_value and nearest(name, flags) is None):
                return f"{word}: overrides have no hyphens, {name}=value (in a W&B sweep: ${{args_no_hyphens}})"
        new = OLD_FLAGS.get(word)
        if new in self._option_string_actions:
            return f"{word} has a new name; did you mean {new}?"
        return f"{word}: no such flag; {advice(word, [f'--{flag}' for flag in flags])}"

    def flags(self) -> list[str]:
        """All flags with two hyphens."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _form(self) -> str:
        return " ".join(self.format_usage().split())


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The arguments of a verb that composes a run."""
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="overrides as for train.py (model=bert task=glue/rte)"
    )
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder with further options; with its own train.yaml it replaces conf/"
    )


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`; a user error is one line on stderr, an interruption another.

    A folder of options that its words name is this command's alone.
    """
    folder = os.environ.get(CONF_VARIABLE)
    try:
        return work()
    except UserError as error:
        return print_error(error)
    except BrokenPipeError:  # `protoformer list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if error.errno in FULL:
            return print_error(DiskFullError(full_disk(Path(error.filename or "standard output"))))
        if is_out_of_memory(error):
            return print_error(DeviceMemoryError(f"out of memory; {LESS_MEMORY}"))
        if not error.filename:
            raise
        return print_error(UserError(f"{error.filename}: {error.strerror or error}"))
    except (RuntimeError, MemoryError) as error:
        if str(error) == NO_HOME:
            return print_error(
                UserError("a path begins with ~ and a name that is no user of this machine; write it out")
            )
        if not is_out_of_memory(error):
            raise
        return print_error(DeviceMemoryError(f"out of memory; {LESS_MEMORY}"))
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        os.environ.pop(CONF_VARIABLE, None)
        if folder is not None:
            os.environ[CONF_VARIABLE] = folder


def print_error(error: UserError) -> int:
    """Print a user error as one line on stderr and give its exit code."""
    print("error: " + printable(" ".join(str(error).split())), file=sys.stderr)
    return error.exit_code


def printable(text: str) -> str:
    """A text with control characters and halves of surrogate pairs escaped: what a file holds does not steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
