"""Rewards: plain Python functions from prompts and completions to numbers, called together, checked and weighted.

A reward is called as `reward(prompts, completions, **columns)`, each a list with one entry a row; it gets the columns that
it names, or all where it takes `**columns`. It returns one number a row, None where a row has none; it may be a coroutine
function. Rewards run on the host, at the same time, each in a thread, or with its rows shared out to processes of their
own. Ready-made ones stand in reward_functions.py. Left out on purpose: isolation (evaluate/ has the sandbox).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from dsm_jax.errors import UserError

Values = Sequence[float | None]
Reward = Callable[..., Values | Awaitable[Values]]


@dataclass(frozen=True)
class RewardOptions:
    """How rewards are called and joined."""

    weights: tuple[float, ...] = ()  # of each reward function; (): 1
    on_error: Literal["stop", "zero"] = "stop"  # a row whose reward raises, hangs or is no number: end, or 0
    timeout_s: float = 600.0  # of a call, and after an error of many rows of calling all of them one by one
    processes: int = 0  # that share the rows of a call, for slow rewards; 0: a thread of this one

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.weights)):
            raise UserError(f"weights is {self.weights}; they must be finite numbers")
        if not self.timeout_s > 0:
            raise UserError(f"timeout_s is {self.timeout_s}; it must be above 0")
        if self.processes < 0:
            raise UserError(f"processes is {self.processes}; it must be at least 0")


class Rows(NamedTuple):
    """What a reward is called with."""

    prompts: Sequence[str]
    completions: Sequence[str]
    columns: Mapping[str, Sequence[Any]]

    def part(self, rows: slice) -> Rows:
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Rows(self.prompts[rows], self.completions[rows], columns)


class Call(NamedTuple):
    """A reward under way for some rows, the first of which has the number `first`."""

    name: str
    reward: Reward
    rows: Rows
    first: int
    seconds: float  # that it may take
    result: Future[list]

    @property
    def size(self) -> int:
        return len(self.rows.completions)


class Scores(NamedTuple):
    """Rewards of the rows: float64 [B], NaN where there is none."""

    total: np.ndarray  # the weighted sum of those that there are
    by_name: dict[str, np.ndarray]
    failures: int  # rows that are 0 because a reward failed


class Rewards:
    """Several reward functions as one. Use it in a `with` block where it has processes."""

    def __init__(self, functions: Reward | Sequence[Reward], options: RewardOptions = RewardOptions()):
        self.functions = {_name(one): one for one in ([functions] if callable(functions) else functions)}
        self.options = options
        names = ", ".join(self.functions)
        if not callable(functions) and len(self.functions) < len(functions):
            raise UserError(f"two rewards have the same name: {names}; give each its own")
        if not self.functions:
            raise UserError("there is no reward; give a function")
        if options.weights and len(options.weights) != len(self.functions):
            raise UserError(
                f"rewards.weights: {len(options.weights)} weights for {len(self.functions)} rewards ({names}); give one each"
            )
        for name, one in self.functions.items() if options.processes else ():
            _require_sendable(name, one)
        self._pool: Any = None  # begins with the first call

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> Scores:
        """All functions' values. Raises UserError, naming reward and row, where one fails and on_error is stop."""
        if self.options.processes and not self._pool:
            self._pool = _pool(self.options.processes)
        rows = Rows(prompts, completions, columns)
        calls = {
            name: _in_thread(partial(self._values, name, one, rows)) for name, one in self.functions.items()
        }
        found = {name: call.result() for name, call in calls.items()}
        by_name = {name: values for name, (values, _) in found.items()}
        for _, problems in found.values():
            _warn(problems)
        weights = np.array(self.options.weights or [1.0] * len(by_name))
        stacked = np.stack(list(by_name.values()))
        total = np.where(np.isnan(stacked), 0.0, weights[:, None] * stacked).sum(axis=0)
        total[np.isnan(stacked).all(axis=0)] = np.nan
        return Scores(total, by_name, sum(len(problems) for _, problems in found.values()))

    def check(self, prompts: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
        """Calls each function with empty completions of some prompts, before any is sampled: what it raises may be due to
        them and is passed over, but a column that is missing, a wrong number of values and no answer are UserErrors."""
        rows = Rows(prompts, [""] * len(prompts), {**columns, "completion_ids": [[]] * len(prompts)})
        for name, reward in self.functions.items():
            taken = rows._replace(columns=_taken(name, reward, rows.columns))
            call = _in_thread(partial(call_reward, reward, taken))
            try:
                count = len(call.result(self.options.timeout_s))
            except Exception:  # noqa: BLE001
                if call.done():
                    continue
                raise UserError(
                    f"reward {name} gave nothing within {self.options.timeout_s:g} s for {_span(0, len(prompts))}"
                ) from None
            if count != len(prompts):
                raise UserError(_wrong_count(name, count, len(prompts)))

    def close(self) -> None:
        """Ends its processes."""
        if self._pool:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _values(self, name: str, reward: Reward, rows: Rows) -> tuple[np.ndarray, list[str]]:
        """One function's values, and a line for each row that failed."""
        rows = rows._replace(columns=_taken(name, reward, rows.columns))
        parts = np.array_split(np.arange(len(rows.completions)), max(self.options.processes, 1))
        slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts if part.size]
        seconds = self.options.timeout_s
        calls = [self._start(name, reward, rows.part(one), one.start, seconds) for one in slices]
        until = cache(lambda: time.monotonic() + seconds)  # counts from the first row that is called alone
        values, problems = np.zeros(len(rows.completions)), []
        for where, call in zip(slices, calls, strict=True):
            values[where], lines = self._checked(call, until)
            problems += lines
        return values, problems

    def _start(self, name: str, reward: Reward, rows: Rows, first: int, seconds: float) -> Call:
        if self._pool:
            result = self._pool.schedule(call_reward, args=(reward, rows), timeout=seconds)
        else:
            result = _in_thread(partial(call_reward, reward, rows))
        return Call(name, reward, rows, first, seconds, result)

    def _checked(self, call: Call, until: Callable[[], float]) -> tuple[np.ndarray, list[str]]:
        """The values of a call's rows. until(): when rows are no longer called one by one."""
        name, first, count = call.name, call.first, call.size
        try:
            # A process is ended by its pool; a thread can only be left alone.
            values = call.result.result(None if self._pool else call.seconds)
        except Exception as error:  # noqa: BLE001 - whatever a reward may raise, its row is the answer
            if isinstance(error, TimeoutError) and (self._pool or not call.result.done()):
                seconds = round(call.seconds, 2)
                return self._failed(
                    count, [f"reward {name} gave nothing within {seconds:g} s for {_span(first, count)}"]
                )
            if count > 1:
                return self._one_by_one(call, error, until)
            return self._failed(1, [f"reward {name}, row {first}: {_said(error)}"])
        if len(values) != count:
            return self._failed(count, [_wrong_count(name, len(values), count)])
        numbers = [_number(value) for value in values]
        wrong = [row for row, number in enumerate(numbers) if number is None]
        lines = [
            f"reward {name}, row {first + row}: {values[row]!r} is not a finite number; return a float or None"
            for row in wrong
        ]
        found = np.array([0.0 if number is None else number for number in numbers])
        return self._failed(count, lines, found) if lines else (found, [])

    def _one_by_one(
        self, call: Call, error: Exception, until: Callable[[], float]
    ) -> tuple[np.ndarray, list[str]]:
        """After an error of many rows: which of them fail alone. Where none does, they have failed together."""
        name, first, count = call.name, call.first, call.size
        values = np.zeros(count)
        lines: list[str] = []
        for row in range(count):
            if (left := until() - time.monotonic()) <= 0:
                late = (
                    f"reward {name}, {_span(first + row, count - row)}: called one by one after {_said(error)}, and not "
                    f"reached within {self.options.timeout_s:g} s"
                )
                return self._failed(count, [late] * (count - row) + lines, values)
            alone = self._start(name, call.reward, call.rows.part(slice(row, row + 1)), first + row, left)
            values[row : row + 1], problem = self._checked(alone, until)
            lines += problem
        if not lines:
            together = f"reward {name}, {_span(first, count)} together: {_said(error)}"
            return self._failed(count, [together])
        return values, lines

    def _failed(
        self, count: int, lines: list[str], values: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[str]]:
        if self.options.on_error == "stop":
            raise UserError(lines[0])
        return np.zeros(count) if values is None else values, lines


def call_reward(reward: Reward, rows: Rows) -> list:
    """What a reward returns, awaited where it has to be."""
    values = reward(list(rows.prompts), list(rows.completions), **rows.columns)
    if inspect.isawaitable(values):
        values = asyncio.run(_finished(values))
    return list(values)


async def _finished(values: Awaitable[Values]) -> Values:
    return await values


def _taken(name: str, reward: Reward, columns: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    """The columns that a reward takes. Raises UserError for one that it needs and that is not there."""
    parameters = list(inspect.signature(reward).parameters.values())[2:]
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return columns
    needed = [
        one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL
    ]
    for column in needed:
        if column not in columns:
            there = ", ".join(columns) or "none"
            raise UserError(
                f"reward {name} takes the column {column}, which the prompts lack; there are: {there}"
            )
    return {one.name: columns[one.name] for one in parameters if one.name in columns}


def _require_sendable(name: str, reward: Reward) -> None:
    try:
        pickle.dumps(reward)
    except Exception as error:
        raise UserError(
            f"reward {name} cannot be sent to other processes ({_said(error)}); define it at the top of a module, "
            "or set processes to 0"
        ) from error


def _pool(processes: int) -> Any:
    from pebble import ProcessPool  # only where somebody asks for it

    return ProcessPool(processes, context=get_context("spawn"))


def _in_thread(work: Callable[[], Any]) -> Future:
    """work() in a thread that does not hold up the end of the program."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _number(value: Any) -> float | None:
    """NaN for None, which is no reward; None for what is no number."""
    if value is None:
        return math.nan
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except TypeError:
        return None
    return number if math.isfinite(number) else None


def _name(reward: Reward) -> str:
    return getattr(reward, "__name__", type(reward).__name__)


def _wrong_count(name: str, values: int, completions: int) -> str:
    return f"reward {name} returned {values} values for {completions} completions; return one number for each"


def _span(first: int, count: int) -> str:
    return f"row {first}" if count == 1 else f"rows {first} to {first + count - 1}"


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _warn(problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        print(f"warning: {problems[0]}: counted as 0{more}", file=sys.stderr)
