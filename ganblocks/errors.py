"""What goes wrong while running things, for reasons that a user can mend."""

from __future__ import annotations

import signal


class DataError(ValueError):
    """A data set that cannot be trained on, with what is wrong and what to do."""


class UsageError(ValueError):
    """A name or an option that means nothing here."""


class RunError(ValueError):
    """A run folder that cannot be used as asked, or options that do not go with it."""


class Diverged(RuntimeError):
    """A training whose gradients are no longer finite."""


class Interrupted(KeyboardInterrupt):
    """A training that was asked to stop, after it saved its state; `exit_code` is the shell's for the signal."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum
