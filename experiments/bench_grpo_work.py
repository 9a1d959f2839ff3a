"""What every worker of bench_grpo.py shares: the texts, the reward, and a training loop that goes on when asked.

Standard library only: a peer imports this file in an environment of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

BOS, PAD, EOS = 0, 1, 2  # ids; no row draws the first two, and the request says how often the third ends one


def text_of(ids: Sequence[int]) -> str:
    """Ids as a text of numbers, the special ones dropped."""
    return " ".join(str(one) for one in ids if one > EOS)


def ids_of(text: str) -> list[int]:
    return [int(word) for word in text.split()]


class Reward:
    """The share of even ids: cheap, and other in every row. Keeps how many tokens of text each call had."""

    __name__ = "even"

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Any) -> list[float]:
        ids = [ids_of(text) for text in completions]
        self.tokens.append(sum(map(len, ids)))
        return [sum(one % 2 == 0 for one in row) / max(len(row), 1) for row in ids]


class OneStepAtATime:
    """train(pause) in a thread of its own, where it calls pause() before each step; step() lets it do one."""

    def __init__(self, train: Callable[[Callable[[], None]], Any]):
        self._go, self._there = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(train,), daemon=True).start()
        self._wait()

    def step(self) -> None:
        self._go.release()
        self._wait()

    def _pause(self) -> None:
        self._there.release()
        self._go.acquire()

    def _run(self, train: Callable[[Callable[[], None]], Any]) -> None:
        try:
            train(self._pause)
            self._error = RuntimeError("the training loop has ended")
        except BaseException as error:  # noqa: BLE001 - raised where the step is asked for
            self._error = error
        self._there.release()

    def _wait(self) -> None:
        self._there.acquire()
        if self._error:
            raise self._error
