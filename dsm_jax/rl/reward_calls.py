"""Calling a reward: with the arguments that it names, in a thread or in processes of its own, its values as numbers.

A reward is called by name: with those of `prompts`, `completions` and the columns that are among its parameters, or with
all where it takes `**columns`. Only one whose parameters have other names (lambda p, c: ...) gets prompts and completions by
position. What it raises comes back in words, and values that are no numbers too: not everything can be sent from one process
to another. Left out on purpose: isolation (evaluate/ has the sandbox).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import multiprocessing
import pickle
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dsm_jax.errors import UserError

Values = Sequence[float | None]
Reward = Callable[..., Values | Awaitable[Values]]
Numbers = list[float | str]  # NaN: no reward; in words what is no finite number
TEXTS = ("prompts", "completions")
START_S = 60.0  # that a process may take to begin, its imports included
BROKEN = (
    "rewards.processes: the processes end or hang before they call a reward; put what the script runs under "
    '`if __name__ == "__main__":`, see that memory suffices for {count} of them, or set processes to 0'
)


class Failed(Exception):
    """What a reward raised, in words."""


class Arguments(NamedTuple):
    """What a reward is called with, each a sequence with one entry a row."""

    by_position: Sequence[Sequence[Any]]
    by_name: Mapping[str, Sequence[Any]]

    def part(self, rows: slice) -> Arguments:
        by_name = {name: values[rows] for name, values in self.by_name.items()}
        return Arguments([values[rows] for values in self.by_position], by_name)


def arguments(name: str, reward: Reward, given: Mapping[str, Sequence[Any]]) -> Arguments:
    """Those of a reward, among the columns and TEXTS. Raises UserError for one that it needs and that is not there."""
    parameters = list(inspect.signature(reward).parameters.values())
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    takes_more = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    is_by_name = any(one.name in TEXTS or (one in places[:2] and one.name in given) for one in named)
    by_position: list[Sequence[Any]] = []
    if not is_by_name and (places or (takes_more and not takes_all)):
        if len(places) < 2 and not takes_more:
            raise UserError(
                f"reward {name} has no parameter prompts or completions; write def {name}(completions, **columns)"
            )
        by_position = [given[text] for text in TEXTS]
        given = {column: values for column, values in given.items() if column not in TEXTS}
        named = [one for one in named if one not in places[:2]]
    for one in named:
        if one.name not in given and one.default is one.empty:
            there = ", ".join(column for column in given if column not in TEXTS) or "none"
            raise UserError(
                f"reward {name} takes the column {one.name}, which the prompts lack; there are: {there}"
            )
    if takes_all:
        return Arguments(by_position, given)
    return Arguments(by_position, {one.name: given[one.name] for one in named if one.name in given})


def call_reward(reward: Reward, asked: Arguments) -> Numbers:
    """What a reward returns, awaited where it has to be. Raises Failed."""
    try:
        by_name = {name: list(values) for name, values in asked.by_name.items()}
        values = reward(*map(list, asked.by_position), **by_name)
        if inspect.isawaitable(values):
            values = asyncio.run(_finished(values))
        if not isinstance(values, Iterable):
            raise Failed(f"it returned {_shown(values)}; return a list with a number for each completion")
        return [_number(value) for value in values]
    except (Exception, SystemExit) as error:
        raise Failed(said(error) + _where(error)) from error


async def _finished(values: Awaitable[Values]) -> Values:
    return await values


def _number(value: Any) -> float | str:
    if value is None:
        return math.nan
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except Exception:  # noqa: BLE001 - arrays and tensors raise all sorts
        number = math.nan
    return number if math.isfinite(number) else _shown(value)


def _shown(value: Any) -> str:
    try:
        return " ".join(repr(value).split())[:80]
    except Exception:  # noqa: BLE001 - such as an int of too many digits
        return f"a value of type {type(value).__name__}"


def said(error: BaseException) -> str:
    """An exception in one line."""
    return str(error) if isinstance(error, Failed) else " ".join(f"{type(error).__name__}: {error}".split())


def _where(error: BaseException) -> str:
    """The line that raised it, behind ours."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def in_thread(work: Callable[[], Any]) -> Future:
    """work() in a thread that does not hold up the end of the program."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@dataclass
class Job:
    """A call under way."""

    seconds: float  # that it may take
    until: float  # when it is given up
    future: Future[Numbers]
    packed: bytes = b""  # for another process: the reward and its arguments
    pool: Any = None


class Threads:
    """Calls in threads of this process, which can only be left alone where they hang."""

    def start(self, reward: Reward, asked: Arguments, seconds: float) -> Job:
        return Job(seconds, time.monotonic() + seconds, in_thread(partial(call_reward, reward, asked)))

    def look(self, job: Job) -> None:
        """Raises TimeoutError for one that takes too long."""
        if time.monotonic() > job.until:
            raise TimeoutError

    def begin(self) -> None:
        """There is nothing to begin, to drop or to close."""

    drop = close = begin


class Processes:
    """Calls in a pool of processes, which ends those that take too long. A pool that breaks is made anew, once between
    begin() and drop()."""

    def __init__(self, count: int):
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # so asks multiprocessing itself
            raise UserError(BROKEN.format(count=count))
        self.count = count
        self._pool: Any = None
        self._jobs: list[Job] = []
        self._lock = threading.Lock()
        self._spare = True

    def begin(self) -> None:
        """Before calls: where there is no pool, or an idle process was killed, it makes one."""
        self._spare = True
        if self._pool and not self._pool.active:
            self.close()
        self._pool = self._pool or _pool(self.count)

    def start(self, reward: Reward, asked: Arguments, seconds: float) -> Job:
        job = Job(seconds, math.inf, Future())
        try:
            job.packed = pickle.dumps((reward, asked))
        except Exception as error:  # noqa: BLE001 - whatever columns hold
            job.future.set_exception(Failed(said(error)))
            return job
        with self._lock:
            self._jobs.append(job)
            self._schedule(job)
        return job

    def look(self, job: Job) -> None:
        """Puts another future into the jobs of a broken pool. Raises UserError where that has happened before."""
        with self._lock:
            if job.pool is not self._pool or (job.pool.active and time.monotonic() < job.until):
                return
            if not self._spare:
                raise UserError(BROKEN.format(count=self.count))
            self._spare = False
            _end(self._pool)
            self._pool = _pool(self.count)
            for one in self._jobs:
                if not one.future.done():
                    self._schedule(one)

    def drop(self) -> None:
        """Ends the calls that are still under way."""
        with self._lock:
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()

    def close(self) -> None:
        if self._pool:
            _end(self._pool)
        self._pool = None

    def _schedule(self, job: Job) -> None:
        """The pool counts a job's seconds from its start on; it starts when those before it are done, or the pool hangs."""
        waiting = [one.seconds for one in self._jobs if not one.future.done()]
        rounds = math.ceil(len(waiting) / self.count)
        job.until = time.monotonic() + rounds * (max(waiting) + START_S)
        job.pool = self._pool
        try:
            job.future = self._pool.schedule(_call_packed, args=(job.packed,), timeout=job.seconds)
        except RuntimeError:  # it has just broken: look() finds that
            job.future = Future()


def _call_packed(packed: bytes) -> Numbers:
    """In a process of the pool; what cannot be imported there is the reward's failure, not the pool's."""
    try:
        reward, asked = pickle.loads(packed)
    except Exception as error:
        raise Failed(
            f"{said(error)}; define it at the top of a module, where other processes find it"
        ) from error
    return call_reward(reward, asked)


def _pool(count: int) -> Any:
    from pebble import ProcessPool  # only where somebody asks for it

    return ProcessPool(count, context=multiprocessing.get_context("spawn"))


def _end(pool: Any) -> None:
    pool.stop()
    pool.join()
