"""Calls of a tool, each in a thread of its own, so that other rows decode meanwhile.

Of several processes the first one calls, and tells the others. A call that takes too long is given up; its thread may
stay until the program ends. Left out on purpose: isolation (evaluate/ has the sandbox).
"""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import NamedTuple

from dsm_jax.processes import broadcast_bytes, is_first_process
from dsm_jax.sample.request import Tool

POLL_S = 2.0  # longest wait at a time: other processes wait for the first one in a collective operation

Row = int  # the number of a row in its call


class Answer(NamedTuple):
    """What a call came to: text to insert, or an error in one line."""

    text: str
    error: str


class ToolCalls:
    """The calls under way, by row. of_several: whether several processes make the same calls, and the first one does."""

    def __init__(self, tool: Tool, *, of_several: bool = False):
        self.tool, self.of_several = tool, of_several
        self._deadlines: dict[
            Row, tuple[int, float]
        ] = {}  # row -> number of its call, and when it is given up
        self._started = 0
        self._ended: queue.SimpleQueue[tuple[int, Row, Answer]] = queue.SimpleQueue()

    @property
    def waiting(self) -> frozenset[Row]:
        return frozenset(self._deadlines)

    @property
    def _is_caller(self) -> bool:
        return not self.of_several or is_first_process()

    def start(self, row: Row, text: str) -> None:
        """Calls the tool with a completion's text so far."""
        self._started += 1
        self._deadlines[row] = self._started, time.monotonic() + self.tool.timeout_s
        if self._is_caller:
            threading.Thread(target=self._call, args=(self._started, row, text), daemon=True).start()

    def answers(self, *, wait: bool) -> dict[Row, Answer]:
        """The answers that have come, the same in every process. wait: at least one, where a call is under way."""
        found: dict[Row, Answer] = {}
        while self._deadlines and not found:
            found = self._collect(wait) if self._is_caller else {}
            if self.of_several:
                found = _from_first_process(found)
            for row in found:
                del self._deadlines[row]
            if not wait:
                break
        return found

    def _call(self, number: int, row: Row, text: str) -> None:
        try:
            said = self.tool.call(text)
            if isinstance(said, str):
                said.encode()  # half a character, which no tokenizer takes, is an error of the tool's
            answer = (
                Answer(said, "")
                if isinstance(said, str)
                else Answer("", f"gave {type(said).__name__}, not text")
            )
        except BaseException as error:  # noqa: BLE001 - whatever a callback raises is its row's
            answer = Answer("", " ".join(f"raised {type(error).__name__}: {error}".split()))
        self._ended.put((number, row, answer))

    def _collect(self, wait: bool) -> dict[Row, Answer]:
        found: dict[Row, Answer] = {}
        first = min(deadline for _, deadline in self._deadlines.values())
        pause = max(0.0, min(POLL_S, first - time.monotonic())) if wait else 0.0
        while True:
            try:
                number, row, answer = self._ended.get(timeout=pause) if pause else self._ended.get_nowait()
            except queue.Empty:
                break
            if self._deadlines.get(row, (0, 0.0))[0] == number:  # else it was given up before
                found[row] = answer
            pause = 0.0
        now = time.monotonic()
        for row, (_, deadline) in self._deadlines.items():
            if row not in found and now >= deadline:
                found[row] = Answer("", f"gave no answer within {self.tool.timeout_s:g} s")
        return found


def _from_first_process(found: dict[Row, Answer]) -> dict[Row, Answer]:
    said = json.loads(broadcast_bytes(json.dumps(found).encode()))
    return {int(row): Answer(*answer) for row, answer in said.items()}
