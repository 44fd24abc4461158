"""Errors that a user can fix: their message names the place, the fact and the cure."""

from __future__ import annotations

import signal


class UserError(Exception):
    """An error that the command line prints without a traceback."""


class DataError(UserError, ValueError):
    """A data set that cannot be used, or a class or caption that a model does not have."""


class UsageError(UserError, ValueError):
    """An invalid option or name."""


class RunError(UserError, ValueError):
    """A run folder that cannot be used, or options that contradict the run in it."""


class DivergedError(UserError, RuntimeError):
    """A training whose gradients are no longer finite."""


class Interrupted(KeyboardInterrupt):
    """A training that a signal stopped after saving its state; `exit_code` is 128 plus the signal's number."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum
