"""Errors caused by the user's input or environment, reported as one line without a traceback."""


class UserError(Exception):
    """Base class. The message says what is wrong, where, and what would work.

    The entry points print only the message and exit with `exit_code`.
    """

    exit_code: int = 2


class ConfigurationError(UserError):
    """An unknown or invalid config group, key or value."""


class DataError(UserError):
    """Unusable data; the message names file, row and column."""


class AbsentSplitError(DataError):
    """The files of one split are missing in a local folder."""


class WeightsError(UserError):
    """Unusable weights; the message names the tensors."""


class RunFolderError(UserError):
    """A run folder that another process uses, or that lacks the requested file."""


class DeviceMemoryError(UserError):
    """The memory of a device does not hold a micro-batch; the message says what to set."""


class MicroBatchError(DeviceMemoryError):
    """As DeviceMemoryError, where the micro-batch is automatic: the run continues with half of it when it is started again."""


class StaleResultError(UserError):
    """The code has changed since the run was started or finished (`reuse=true` or `force=true` decides)."""

    exit_code = 3


class DivergedError(UserError):
    """The loss or a gradient is not finite; the run stopped before the weights were updated."""

    exit_code = 4


class DiskFullError(UserError):
    """A file could not be written for lack of space; the same command continues once there is room."""

    exit_code = 5


class NotOverfittedError(UserError):
    """`debug=overfit`: the loss of one batch did not get near 0."""

    exit_code = 6


class InterruptedRunError(UserError):
    """A signal stopped the run after it saved its state; the same command continues it."""

    exit_code = 143


class LostRankError(UserError):
    """A process of a distributed run was killed; the same command continues the run."""

    exit_code = 1


class HungRankError(LostRankError):
    """Processes of a distributed run have waited for another one for too long."""
