"""Runs programs in the sandbox: one call, many calls, or a pool of one's own.

A pool starts a server (server.py) when a program finds none free, up to its number of workers, and starts another one for
a server that died. Threads may share it. Left out on purpose: Windows and macOS.
"""

import atexit
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Literal, Self

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox.limits import USUAL, Limits
from dsm_jax.evaluate.sandbox.result import ExecutionResult
from dsm_jax.evaluate.sandbox.worker import Worker, require_linux, start

Isolation = Literal["required", "none"]


def run_python(
    code: str,
    *,
    stdin: str = "",
    timeout_s: float = USUAL.timeout_s,
    memory_mb: int = USUAL.memory_mb,
    output_limit: int = USUAL.output_limit,
    isolation: Isolation = "required",
) -> ExecutionResult:
    """Runs a program by the process's pool. Whatever the program is and does, the answer is a result.

    timeout_s: wall-clock seconds. memory_mb: beyond that of the interpreter with numpy and sympy. output_limit: bytes of stdout,
    and of stderr. Raises UserError where the machine cannot isolate programs, unless isolation is "none": limits only, for
    programs you trust.
    """
    return _shared(isolation).run(code, stdin=stdin, limits=Limits(timeout_s, memory_mb, output_limit))


def run_many(
    programs: Sequence[str],
    *,
    workers: int | None = None,
    limits: Limits = USUAL,
    isolation: Isolation = "required",
    on_done: Callable[[int, ExecutionResult], None] | None = None,
) -> list[ExecutionResult]:
    """Results in the order of the programs. workers: at most so many at once; None: one a core.

    on_done(index, result) is called in the calling thread, as programs end.
    """
    if workers is None:
        return _shared(isolation).run_many(programs, limits=limits, on_done=on_done)
    with Sandbox(workers, isolation=isolation) as sandbox:
        return sandbox.run_many(programs, limits=limits, on_done=on_done)


class Sandbox:
    """A pool of servers, for a `with` statement. Servers start when they are needed.

    workers: programs that run at once; None: one a core of this process. Raises UserError for a bad number, or, with the first
    program, where the machine cannot isolate programs (see run_python).
    """

    def __init__(self, workers: int | None = None, *, isolation: Isolation = "required"):
        require_linux()
        if isolation not in ("required", "none"):
            raise UserError(f'sandbox: isolation {isolation!r} is unknown, use "required" or "none"')
        self.workers = len(os.sched_getaffinity(0)) if workers is None else workers
        if self.workers < 1:
            raise UserError(f"sandbox: {self.workers} workers; there must be at least 1")
        self._isolated = isolation == "required"
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()  # None: one that is to be started
        for _ in range(self.workers):
            self._free.put(None)

    def run(self, code: str, *, stdin: str = "", limits: Limits = USUAL) -> ExecutionResult:
        """As run_python; waits for a free server."""
        worker = self._free.get()
        try:
            if worker is None or not worker.is_alive():
                worker = start(isolated=self._isolated)
            return worker.run(code, stdin, limits)
        finally:
            self._free.put(worker)

    def run_many(
        self,
        programs: Sequence[str],
        *,
        limits: Limits = USUAL,
        on_done: Callable[[int, ExecutionResult], None] | None = None,
    ) -> list[ExecutionResult]:
        """As the function run_many."""
        with ThreadPoolExecutor(self.workers) as threads:
            index = {threads.submit(self.run, code, limits=limits): i for i, code in enumerate(programs)}
            try:
                for future in as_completed(index):
                    if on_done:
                        on_done(index[future], future.result())
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in index]

    def close(self) -> None:
        """Ends the servers that are free; call it when no program runs."""
        workers = [self._free.get() for _ in range(self._free.qsize())]
        for worker in workers:
            if worker:
                worker.close()
            self._free.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_pools: dict[tuple[int, str], Sandbox] = {}
_lock = threading.Lock()


def _shared(isolation: Isolation) -> Sandbox:
    """This process's pool; a forked process has one of its own."""
    with _lock:
        key = os.getpid(), isolation
        if key not in _pools:
            _pools[key] = Sandbox(isolation=isolation)
        return _pools[key]


@atexit.register
def _close_own() -> None:
    for (process, _), sandbox in _pools.items():
        if process == os.getpid():  # not those of the process this one was forked from
            sandbox.close()
