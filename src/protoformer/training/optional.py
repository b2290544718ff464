"""What a finished run can do without: a card, a picture, a table for the tracker."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from protoformer.errors import InterruptedRunError

log = logging.getLogger(__name__)


@contextmanager
def optional(what: str, *raised: type[Exception]) -> Iterator[None]:
    """Whatever goes wrong inside costs `what` and a line in the log, never the run.

    Only `raised`, and the wish to stop, come through.
    """
    try:
        yield
    except (InterruptedRunError, *raised):
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        log.warning("%s: left out (%s%s)", what, type(error).__name__, f": {words}" if words else "")
