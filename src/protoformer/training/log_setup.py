"""Logging set-up of a run: where the package's log lines go, on the terminal and in the run's log file."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  (it sets the levels of its loggers when it is imported: before they are set here)


class TerminalHandler(logging.StreamHandler):
    """Writes to what `sys.stderr` is at that moment: a progress bar stands in for it, so that lines go above the bar."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: object) -> None:
        """`sys.stderr` decides."""


def configure_logging(log_file: Path | None, rank: int) -> None:
    """Send this package's log lines from INFO on to stderr (rank 0) and to `log_file`; other libraries log from WARNING on.

    Lightning's INFO lines at start-up are left out: what they say is in `result.json` and `card.md`.
    """
    logger = logging.getLogger("protoformer")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    if rank == 0:
        terminal = TerminalHandler()
        terminal.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(terminal)
    if log_file is not None:
        file = logging.FileHandler(log_file, encoding="utf-8")
        file.setFormatter(logging.Formatter(f"%(asctime)s rank{rank} %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(file)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning uses a class of torch's pytree module that is deprecated
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # rows are memory-mapped and read in microseconds: more workers would only copy
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # a short run logs its last step all the same (Throughput, StepLogger)
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
