"""Best-effort work at the end of a run: a card, an image, a table for the tracker. Its failure does not fail the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from protoformer.errors import InterruptedRunError

log = logging.getLogger(__name__)


@contextmanager
def best_effort(what: str, *reraised: type[Exception]) -> Iterator[None]:
    """An exception inside the block is logged as `what: left out (...)` and suppressed.

    InterruptedRunError and the types in `reraised` propagate.
    """
    try:
        yield
    except (InterruptedRunError, *reraised):
        raise
    except Exception as error:  # of any kind: the block is not worth a run
        message = " ".join(str(error).split())  # in one line
        log.warning("%s: skipped (%s%s)", what, type(error).__name__, f": {message}" if message else "")
