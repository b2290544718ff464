"""What a run says besides its progress: our own log lines once, on the terminal and in the run's log file."""

import logging
import warnings
from pathlib import Path


def set_up(log_file: Path | None, rank: int) -> None:
    """Log lines of this package to stderr (rank 0) and to the run's file; other libraries speak from WARNING on.

    Lightning's start-up lines are INFO lines of its own handler: what they say stands in result.json and card.md.
    """
    own = logging.getLogger("protoformer")
    own.setLevel(logging.INFO)
    own.propagate = False
    for handler in list(own.handlers):
        own.removeHandler(handler)
        handler.close()
    if rank == 0:
        terminal = logging.StreamHandler()
        terminal.setFormatter(logging.Formatter("%(message)s"))
        own.addHandler(terminal)
    if log_file is not None:
        file = logging.FileHandler(log_file, encoding="utf-8")
        file.setFormatter(logging.Formatter(f"%(asctime)s rank{rank} %(levelname)s %(name)s: %(message)s"))
        own.addHandler(file)
    import lightning.pytorch  # noqa: F401  (sets its loggers' levels when it is imported)

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # torch's own pytree class warns about itself when Lightning asks whether something is a leaf
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # one process reads memory-mapped rows in microseconds: more workers would only copy
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # a short run logs its last step all the same (Throughput)
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
