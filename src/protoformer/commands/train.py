"""`train.py` and `protoformer train`: the flags, then one run or a sweep of them (`multirun`); user errors are one line."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from protoformer.commands.multirun import PROGRAM, Session, run_jobs
from protoformer.commands.parser import Parser, guarded
from protoformer.commands.sweeps.checks import checked_sweep
from protoformer.config import compose
from protoformer.config.groups import CONF_VARIABLE, search_path
from protoformer.distributed import signals
from protoformer.distributed.children import end_with_named_parent
from protoformer.errors import ConfigurationError

HELP = "train, fine-tune or test a model (the same as train.py)"


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run a command line (default: sys.argv) and give its exit code; `program` is how the user called it
    (default: `python` and the path of train.py)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end_with_named_parent()
    with signals.listen():
        return guarded(lambda: _run(words, program or _program(sys.argv[0])))


def train_parser() -> Parser:
    """The flags of train.py, and the overrides."""
    parser = Parser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("overrides", nargs="*")
    return parser


def _program(script: str) -> str:
    """How to call this script again from the same folder."""
    return f"python {shlex.quote(script)}" if Path(script).name == "train.py" else PROGRAM


def _run(words: list[str], program: str) -> int:
    flags = train_parser().parse_intermixed_args(words)
    if flags.config_dir is not None:
        os.environ[CONF_VARIABLE] = os.path.abspath(flags.config_dir)
    folders = search_path()
    if flags.help:
        _print_help(flags.overrides, folders, program)
        return 0
    if not flags.overrides:
        raise ConfigurationError(
            f"no model and no task; give both, as in {program} model=bert task=glue/mnli, or see --help"
        )
    if flags.cfg and flags.multirun:
        raise ConfigurationError(f"--cfg={flags.cfg} shows one config; leave out -m, and name one value for each key")
    overrides = [*compose.rewritten(flags.overrides, folders, sweep=flags.multirun), *compose.further(folders)]
    sweep_size = 0
    if flags.cfg:
        config = compose.compose(flags.overrides)
        if flags.cfg == "job" and flags.package is None:
            _print_config(config)
            return 0
    if flags.multirun:
        sweep = checked_sweep(flags.overrides, folders)
        if any(config["hardware"]["pool"] is not None for config in sweep.configs):
            from protoformer.commands.sweeps.pooled import run_pool  # not at the top: most commands have no pool

            return run_pool(sweep)
        sweep_size, overrides = len(sweep.jobs), [*sweep.params, *overrides]
    switches = [f"--{name}" for name in ("multirun", "resolve") if getattr(flags, name)]
    for name in ("cfg", "package"):
        if getattr(flags, name) is not None:
            switches += [f"--{name}", getattr(flags, name)]
    return run_jobs([*switches, *overrides], folders, Session(program, sweep_size))


def _print_help(words: Sequence[str], folders: Sequence[Path], program: str) -> None:
    """The usual help, or with `--help all` every key."""
    # not at the top: slow to import
    from protoformer.commands import settings
    from protoformer.commands.list import usage
    from protoformer.config.reference.settings import sections

    print(settings.text(sections(folders)) if list(words) == ["all"] else usage(folders, program))


def _print_config(config: Mapping[str, object]) -> None:
    """The whole config of a run, all defaults included, as yaml."""
    # not at the top: slow to import
    import yaml

    from protoformer.config.reference.settings import with_defaults

    shown = {key: value for key, value in config.items() if key != "choices"}
    print(yaml.safe_dump(with_defaults(shown), sort_keys=False, allow_unicode=True), end="")
