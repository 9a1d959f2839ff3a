"""What a program left."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExecutionResult:
    """How a program ended and what it wrote.

    status:
      ok       it ran to its end
      error    an exception ended it; stderr ends in its traceback, which begins at the program's own frames
      memory   so did a MemoryError
      exited   it left early: sys.exit(), exit(), os._exit(), whatever the exit code
      timeout  killed, its time was up
      output   killed, it wrote more than output_limit bytes
      killed   a signal ended it (a crash in C code, the kernel short of memory)
    exit_code: of its process, negative for a signal; None where its server ended with it.
    seconds: wall-clock time, that of starting the process included.
    truncated: whether stdout (the beginning is kept) or stderr (the end is kept) is not whole.

    A program that only wants to stop early, or prints what looks like success, is never "ok": the runner proves the end with
    a token that lies in a socket, not in memory. Not excluded: a program that knows this runner's source, takes the token from
    the socket and sends it. So "ok" is no proof that a test appended to untrusted code has run; what was printed must be
    checked too.
    """

    status: str
    stdout: str
    stderr: str
    exit_code: int | None
    seconds: float
    truncated: bool
