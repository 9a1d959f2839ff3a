"""Batches made in threads while the steps before them run, and how long training had to wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Batch = TypeVar("Batch")
THREADS, DEPTH = 2, 4  # batches in the making, and how many steps ahead they begin


class ReadAhead(Generic[Batch]):
    """batch(step) by step, for steps below `steps`; what it gives does not depend on the threads. Use in a `with` block."""

    def __init__(self, batch: Callable[[int], Batch], steps: int):
        self._batch, self._steps = batch, steps
        self._coming: dict[int, Future[Batch]] = {}
        self._threads = ThreadPoolExecutor(THREADS, "read-ahead")
        self._waited = 0.0

    def __call__(self, step: int) -> Batch:
        for ahead in range(step, max(step + 1, min(step + DEPTH, self._steps))):
            if ahead not in self._coming:
                self._coming[ahead] = self._threads.submit(self._batch, ahead)
        start = time.monotonic()
        batch = self._coming.pop(step).result()
        self._waited += time.monotonic() - start
        return batch

    def waited(self) -> float:
        """Seconds spent waiting since the last call."""
        seconds, self._waited = self._waited, 0.0
        return seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._threads.shutdown(cancel_futures=True)
