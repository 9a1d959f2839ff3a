"""How several processes of one run end together: SIGTERM to one stops all, and one that fails takes the others with it.

A thread of each process reads what the others say in the coordinator's store of keys. It passes SIGTERM on to its main
thread, which answers it like its own; a loop stops at a step that all have agreed on. A process that ends early says so:
the others get SIGTERM too, and one that waits in its devices for what never comes is ended after GRACE_S.
jax's own notice of SIGTERM is off: it would take the signal from Python, and answer it between two steps only.
Left out on purpose: a process that ends without a word (kill -9, a lost host). jax notices, after 100 s at the latest.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import jax
from jax._src.distributed import global_state  # its store of keys has no public name

from dsm_jax.errors import Preempted
from dsm_jax.run import ENDING, RECEIVED

POLL_S = 1.0  # between two looks at what the others say
GRACE_S = 20.0  # for a main thread to begin its end, once another process has ended
STOP = "dsm_jax/stop/"  # + process: the last step it went past when it heard of SIGTERM
LEFT = "dsm_jax/left/"  # + process: its exit code and last words


class _Others:
    """The other processes of the run, as this one sees them."""

    def __init__(self) -> None:
        self._client: Any = global_state.client
        self._own, self._count = global_state.process_id, global_state.num_processes
        self._lock, self._step, self._stopping = threading.Lock(), 0, False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        atexit.register(self._stop_watching)  # a thread in a call of jax would crash the interpreter's end

    def must_stop(self, step: int) -> bool:
        with self._lock:
            if not self._stopping:
                self._step = step
                return False
        while len(steps := self._said(STOP)) < self._count:
            if self._said(LEFT):
                raise Preempted("another process has ended")
            time.sleep(POLL_S)
        reached = step > max(steps.values())
        if reached:
            ENDING.set()
        return reached

    def leave(self, code: int, line: str) -> None:
        """Ends this process, once the first one, whose end is theirs all, has come as far."""
        self._stop_watching()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way
        try:
            if code == Preempted.exit_code:  # for another's mistake?
                code, line = self._reason() or (code, line)
            print(line, file=sys.stderr, flush=True)
            sys.stdout.flush()
            self._say(LEFT, [code, line])
            while self._own and 0 not in self._said(LEFT):  # it may be copying the run's folder
                time.sleep(POLL_S)
            shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            shutdown.start()
            shutdown.join(2 * GRACE_S)  # waits for all: else jax ends those that still work
        finally:
            os._exit(code)  # Python's own end would wait for the devices

    def _watch(self) -> None:
        ended_s = 0.0  # since another process ended
        while not self._over.wait(POLL_S):
            try:
                left = self._said(LEFT)
                if not self._stopping and (RECEIVED.requested or left or self._said(STOP)):
                    self._stop()
            except (
                jax.errors.JaxRuntimeError
            ):  # the network's; where the first process is gone, jax ends this one
                continue
            ended_s += POLL_S if left else 0
            if ended_s > GRACE_S and not ENDING.is_set():
                self.leave(*next(iter(left.values())))

    def _stop(self) -> None:
        with self._lock:
            self._say(STOP, self._step)
            self._stopping = True
        if not RECEIVED.requested and not ENDING.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _stop_watching(self) -> None:
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _reason(self) -> tuple[int, str] | None:
        """Exit code and line of a process that did not end by SIGTERM."""
        ends = self._said(LEFT).values()
        return next(((code, line) for code, line in ends if code != Preempted.exit_code), None)

    def _say(self, what: str, value: Any) -> None:
        self._client.key_value_set(f"{what}{self._own}", json.dumps(value), allow_overwrite=True)

    def _said(self, what: str) -> dict[int, Any]:
        """What each process has said of this, by its number."""
        found = self._client.key_value_dir_get(what)
        return {int(key.rpartition("/")[2]): json.loads(value) for key, value in found}


_others: _Others | None = None


def watch_others() -> None:
    """Begins to pass SIGTERM and early ends between this process and the others. Alone, and the second time, nothing."""
    global _others
    if _others is None and jax.distributed.is_initialized() and global_state.num_processes > 1:
        _others = _Others()


def must_stop(step: int) -> bool:
    """Whether SIGTERM has come to a process and this is the step to stop at, the same in all. A loop asks after each step."""
    return _others is not None and _others.must_stop(step)


def leave(code: int, line: str) -> None:
    """Ends this process and the others with this line and exit code. Alone it returns."""
    if _others is not None:
        _others.leave(code, line)
