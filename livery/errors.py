"""What can go wrong in ways a user should read without a traceback, and the exit code of each."""

from __future__ import annotations


class LiveryError(Exception):
    """Something we understand well enough to explain. Shown as one message, never a traceback."""

    exit_code = 1


class UserError(LiveryError):
    """The user's data, configuration or files are wrong. The message says what, where, and the
    remedy."""


class TargetMissed(LiveryError):
    """Everything ran, but a score stayed below the target that was asked for."""

    exit_code = 3


class Interrupted(LiveryError):
    """The user stopped the run; what was done is saved and the message says how to go on."""

    exit_code = 130
