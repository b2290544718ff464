"""Best-effort work at the end of a run: a card, an image, a table for the tracker. Its failure does not fail the run."""

import logging
from collections.abc import Callable, Iterator
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


class KeepGoing:
    """Mixin before a Lightning logger: its first error is one line in the log, and it logs nothing from then on.

    metrics.jsonl has all numbers, so a tracker is not worth a run.
    """

    gave_up = False

    def log_metrics(self, *args: object, **kwargs: object) -> None:
        self._try(super().log_metrics, *args, **kwargs)

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        self._try(super().log_hyperparams, *args, **kwargs)

    def log_graph(self, *args: object, **kwargs: object) -> None:
        self._try(super().log_graph, *args, **kwargs)

    def save(self) -> None:
        self._try(super().save)

    def after_save_checkpoint(self, *args: object) -> None:
        self._try(super().after_save_checkpoint, *args)

    def finalize(self, *args: object) -> None:
        self._try(super().finalize, *args)

    def _try(self, method: Callable[..., object], *args: object, **kwargs: object) -> None:
        if self.gave_up:
            return
        try:
            method(*args, **kwargs)
        except InterruptedRunError:
            raise
        except Exception as error:  # of any kind, from several libraries
            self.gave_up = True
            message = " ".join(str(error).split())
            log.warning("the tracker gave up (%s: %s); metrics.jsonl has all numbers", type(error).__name__, message)
