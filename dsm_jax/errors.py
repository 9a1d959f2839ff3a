"""The two ways a run ends early on purpose; each knows the exit code of the script it ends."""


class UserError(Exception):
    """A user's mistake, told in one line: what, where, what to do. Scripts print it and exit 2."""

    exit_code = 2


class SharedError(UserError):
    """One that every process of the run raises at the same point: they may still save together."""


class Preempted(BaseException):
    """SIGTERM came and the state on disk is complete: the same command goes on from here. Scripts exit 75.

    Not an Exception, as KeyboardInterrupt is none: code that counts and skips bad input must not count this.
    """

    exit_code = 75
