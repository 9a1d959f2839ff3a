"""Workers for the pairs that need symbolic mathematics: processes with a clock and a memory limit, killed when either runs out.

A worker is started when the first such pair comes, answers one pair at a time over its pipes, and is replaced after a kill. It is a fresh
interpreter and no fork, since jax's threads may live here. Threads may call decide() at once; each then has a worker of its own, up to
MAX_WORKERS. Left out on purpose: queues, shared memory, pickles.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MAX_WORKERS = max(1, min(4, os.cpu_count() or 1))
MEMORY = 2 << 30  # bytes of address space of a worker
START_S = 60.0
ROOT = Path(__file__).parents[3]


class _Worker:
    def __init__(self) -> None:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
        }
        environment["OPENBLAS_NUM_THREADS"] = "1"  # a thread's buffers count as address space
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dsm_jax.evaluate.grader.worker", str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.ready = False

    def ask(self, task: dict) -> bool | None:
        """The worker's answer, None where it took too long or died."""
        if not self.ready:
            self.ready = self._line(START_S) == "ready"
        if not self.ready:
            return None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return None
        line = self._line(task["timeout_s"])
        return {"true": True, "false": False}.get(line)

    def _line(self, timeout_s: float) -> str:
        assert self.process.stdout is not None
        descriptor, found = self.process.stdout.fileno(), b""
        end = time.monotonic() + timeout_s
        while not found.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(descriptor, 4096) if ready else b""
            if not piece:
                return ""
            found += piece
        return found.decode().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not written yet
                if pipe:
                    pipe.close()


class Pool:
    """Workers that are idle, and room for MAX_WORKERS at once."""

    def __init__(self) -> None:
        self.idle: list[_Worker] = []
        self.lock = threading.Lock()
        self.room = threading.BoundedSemaphore(MAX_WORKERS)
        self.owner = os.getpid()

    def decide(self, answer: str, gold: str, options: Sequence[str], timeout_s: float) -> bool | None:
        """Whether the pair is equal, with symbolic mathematics; None where time or memory ran out."""
        task = {"answer": answer, "gold": gold, "options": list(options), "timeout_s": timeout_s}
        with self.room:
            try:
                worker = self._take()
            except OSError:  # no process can be started
                return None
            try:
                equal = worker.ask(task)
            except BaseException:
                worker.kill()
                raise
            if equal is None:
                worker.kill()
                return None
            with self.lock:
                self.idle.append(worker)
            return equal

    def _take(self) -> _Worker:
        with self.lock:
            return self.idle.pop() if self.idle else _Worker()

    def close(self) -> None:
        """Ends the idle workers."""
        with self.lock:
            while self.idle:
                self.idle.pop().kill()


_pool: Pool | None = None
_pool_lock = threading.Lock()


def shared_pool() -> Pool:
    """The process's one pool; after a fork the child has its own."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool.owner != os.getpid():
            _pool = Pool()
        return _pool


@atexit.register
def close() -> None:
    """Ends the workers that this process started."""
    if _pool is not None and _pool.owner == os.getpid():
        _pool.close()
