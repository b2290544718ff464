"""Errors that a user can act on: one readable line, no traceback."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what would do.

    The entry points print the message alone and leave with `exit_code`.
    """

    exit_code: int = 2


class ConfigurationError(UserError):
    """A config group, key or value that does not exist or does not fit."""


class DataError(UserError):
    """Rows that cannot be used; the message names file, row and column."""


class AbsentSplitError(DataError):
    """A local folder without the files of one split."""


class WeightsError(UserError):
    """Weights that cannot be used; the message names the tensors."""


class RunFolderError(UserError):
    """A run folder that is owned by a living process, or that does not hold what is asked of it."""


class StaleResultError(UserError):
    """A finished run whose code has changed since (reuse=true or force=true decides)."""

    exit_code = 3


class DivergedError(UserError):
    """The loss is not a number; the run stopped before the weights were touched."""

    exit_code = 4


class InterruptedRunError(UserError):
    """The run was asked to stop and has saved where it stands; the same command continues it."""

    exit_code = 143


class LostRankError(UserError):
    """A process of a distributed run was killed from outside; the same command continues the run."""

    exit_code = 1
