"""The server's side of one running program: collects output, watches the clock and the output's size, kills, and judges.

What a program writes is bytes and nothing else. Left out on purpose: streaming; a caller gets the output when the program has ended.
"""

import contextlib
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field

from dsm_jax.evaluate.sandbox.limits import Limits
from dsm_jax.evaluate.sandbox.program import OUTCOMES, TRACEBACK
from dsm_jax.evaluate.sandbox.result import ExecutionResult

SLACK = 4 * TRACEBACK + 64  # bytes of stderr beyond the limit, for a traceback


@dataclass
class _Stream:
    """A pipe of the program's. Keeps the first `limit` bytes, or the last ones."""

    file: int
    limit: int
    keep_last: bool = False
    kept: bytearray = field(default_factory=bytearray)
    total: int = 0

    def read(self) -> bool:
        """Takes what is there; whether more may come."""
        try:
            data = os.read(self.file, 1 << 16)
        except BlockingIOError:
            return False
        self.total += len(data)
        self.kept += data
        over = len(self.kept) - self.limit
        if over > 0:
            del self.kept[slice(0, over) if self.keep_last else slice(self.limit, None)]
        return bool(data)

    @property
    def text(self) -> str:
        return self.kept.decode("utf-8", "replace")


@dataclass(frozen=True)
class Ends:
    """The server's ends of a program's pipes and of its report's socket, and the token that lies in that one."""

    stdout: int
    stderr: int
    report: socket.socket
    token: bytes


def watch(child: int, ends: Ends, limits: Limits, caller: socket.socket) -> ExecutionResult:
    """Waits until the process has ended or is killed. Takes over and closes the ends; the caller's only tells that it is there."""
    start = time.monotonic()
    out = _Stream(ends.stdout, limits.output_limit)
    err = _Stream(ends.stderr, limits.output_limit + SLACK, keep_last=True)
    over = _follow(child, out, err, caller.fileno(), start + limits.timeout_s)
    os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # without isolation it may have started others
    _, status = os.waitpid(child, 0)
    for stream in (out, err):
        while stream.total <= stream.limit and stream.read():
            pass
    over = "output" if any(stream.total > stream.limit for stream in (out, err)) else over
    exit_code = os.waitstatus_to_exitcode(status)
    outcome = _reported(ends.report, ends.token)
    for stream in (out, err):
        os.close(stream.file)
    return ExecutionResult(
        status=over or _status(outcome, exit_code),
        stdout=out.text,
        stderr=err.text,
        exit_code=exit_code,
        seconds=time.monotonic() - start,
        truncated=any(stream.total > stream.limit for stream in (out, err)),
    )


def _follow(child: int, out: _Stream, err: _Stream, caller: int, deadline: float) -> str:
    """Reads until the process ends ("") or must be killed ("timeout", "output"; "killed" where the caller has gone)."""
    ended, streams = os.pidfd_open(child), {stream.file: stream for stream in (out, err)}
    poll = select.poll()
    for file in (ended, caller, *streams):
        poll.register(file, select.POLLIN)
    for file in streams:
        os.set_blocking(file, False)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = [file for file, _ in poll.poll(min(left, 60) * 1000)]
            if ended in ready:
                return ""
            if caller in ready:  # it says nothing while a program runs
                return "killed"
            for file in ready:
                if not streams[file].read():
                    poll.unregister(file)
                if streams[file].total > streams[file].limit:
                    return "output"
        return "timeout"
    finally:
        os.close(ended)


def _reported(report: socket.socket, token: bytes) -> str:
    """The outcome where the message is the token and one known letter, as program.run sends it; else ""."""
    with report:
        report.setblocking(False)
        try:
            message = report.recv(len(token) + 2)
        except OSError:
            return ""
    return OUTCOMES.get(message[len(token) :], "") if message.startswith(token) else ""


def _status(outcome: str, exit_code: int) -> str:
    if exit_code == -signal.SIGXCPU:
        return "timeout"
    if exit_code < 0:
        return "killed"
    if outcome == "ok" and exit_code != 0:  # another thread left first
        return "exited"
    return outcome or "exited"
