"""Rewards: plain Python functions from prompts and completions to numbers, called together, checked and weighted.

A reward is called with keywords, `reward(prompts=..., completions=..., **columns)`, each a list with one entry a row; it
gets those that it names, or all where it takes `**columns` (reward_calls.py). It returns one number a row, None where a row
has none; it may be a coroutine function. Rewards run on the host, at the same time, each in a thread, or with its rows
shared out to processes of their own. Ready-made ones stand in reward_functions.py.
"""

from __future__ import annotations

import math
import pickle
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.rl.reward_calls import (
    Arguments,
    Failed,
    Job,
    Numbers,
    Processes,
    Reward,
    Threads,
    arguments,
    call_reward,
    in_thread,
    said,
)

SLICE_S = 0.2  # of waiting, between two looks at what else has happened


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


class Steps(NamedTuple):
    """The steps of B completions, one after the other: S in all."""

    counts: np.ndarray  # int [B], steps of each completion
    ends: np.ndarray  # int [S], the index in its completion of each step's last token
    rewards: np.ndarray  # float64 [S], the weighted sum; NaN where there is none
    by_name: dict[str, np.ndarray]  # float64 [S]

    def of_completions(self, values: np.ndarray) -> list[np.ndarray]:
        """Each completion's part of values [S]."""
        return np.split(values, np.cumsum(self.counts)[:-1])


class Scores(NamedTuple):
    """Rewards of the rows: float64 [B], NaN where there is none."""

    total: np.ndarray  # the weighted sum of those that there are; where only steps are judged, their mean
    by_name: dict[str, np.ndarray]  # of a reward of steps the mean of a completion's
    failures: int  # rows that are 0 because a reward failed
    steps: Steps | None = None  # where something judges steps


class Rewards:
    """Several reward functions as one. Use it in a `with` block where it has processes."""

    def __init__(self, functions: Reward | Sequence[Reward], options: RewardOptions = RewardOptions()):
        self.functions = {name_of(one): one for one in ([functions] if callable(functions) else functions)}
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
        self._caller = Processes(options.processes) if options.processes else Threads()

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        *,
        while_waiting: Callable[[], object] = lambda: None,
    ) -> Scores:
        """All functions' values. Raises UserError, naming reward and row, where one fails and on_error is stop.

        while_waiting: called several times a second; what it raises ends the call.
        """
        given = {**columns, "prompts": prompts, "completions": completions}
        over = threading.Event()
        self._caller.begin()
        try:
            calls = {name: self._in_thread(name, one, given, over) for name, one in self.functions.items()}
            found = {name: _result(call, while_waiting) for name, call in calls.items()}
        finally:
            over.set()
            self._caller.drop()
        by_name = {name: values for name, (values, _) in found.items()}
        for _, problems in found.values():
            _warn(problems)
        total = weighted(list(by_name.values()), self.options.weights)
        failed = {row for _, problems in found.values() for one in problems for row in one.rows}
        return Scores(total, by_name, len(failed))

    def check(
        self,
        prompts: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        *,
        while_waiting: Callable[[], object] = lambda: None,
    ) -> None:
        """Calls each function with empty completions of some prompts, before any is sampled: what it raises may be due to
        them and is passed over, but an argument that is missing is a UserError, and unless failures are to count as 0 so are
        a wrong number of values and no answer."""
        rows = range(len(prompts))
        given = {**columns, "completion_ids": [[] for _ in rows]}
        given |= {"prompts": prompts, "completions": [""] * len(prompts)}
        for name, reward in self.functions.items():
            asked = arguments(name, reward, given)
            if self.options.on_error == "zero":
                continue
            call = in_thread(partial(call_reward, reward, asked))
            try:
                count = len(_result(call, while_waiting, self.options.timeout_s))
            except TimeoutError:
                raise UserError(_nothing(name, self.options.timeout_s, rows)) from None
            except Failed:
                continue
            if count != len(prompts):
                raise UserError(_wrong_count(name, count, len(prompts)))

    def close(self) -> None:
        """Ends its processes."""
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _in_thread(
        self, name: str, reward: Reward, given: Mapping[str, Sequence[Any]], over: threading.Event
    ) -> Future:
        scoring = Scoring(name, reward, arguments(name, reward, given), self._caller, self.options, over)
        return in_thread(partial(scoring.values, len(given["completions"])))


class Problem(NamedTuple):
    """Why rows have no value of a reward."""

    rows: range
    text: str


Found = tuple[np.ndarray, list[Problem]]  # values of some rows, 0 where there is a problem


@dataclass
class Scoring:
    """One reward's call for all rows: which of them fail, and why."""

    name: str
    reward: Reward
    asked: Arguments
    caller: Threads | Processes
    options: RewardOptions
    over: threading.Event  # nobody waits any more
    until: float = field(default=math.inf, init=False)  # when rows are no longer called one by one

    def values(self, count: int) -> Found:
        parts = np.array_split(np.arange(count), max(self.options.processes, 1))
        rows = [range(int(part[0]), int(part[-1]) + 1) for part in parts if part.size]
        jobs = [self._start(part, self.options.timeout_s) for part in rows]
        values = np.zeros(count)
        problems: list[Problem] = []
        for part, job in zip(rows, jobs, strict=True):
            values[part], found = self._checked(job, part)
            problems += found
        return values, problems

    def _start(self, rows: range, seconds: float) -> Job:
        return self.caller.start(self.reward, self.asked.part(slice(rows.start, rows.stop)), seconds)

    def _result(self, job: Job) -> Numbers:
        while not self.over.is_set():
            if done := wait([job.future], SLICE_S).done:
                return done.pop().result()
            self.caller.look(job)
        raise CancelledError

    def _checked(self, job: Job, rows: range) -> Found:
        """The values of a job's rows."""
        try:
            values = self._result(job)
        except TimeoutError:  # not the reward's own, that is Failed
            return self._failed([Problem(rows, _nothing(self.name, job.seconds, rows))])
        except (Failed, OSError) as error:  # OSError: its process has died
            if len(rows) > 1:
                return self._one_by_one(rows, said(error))
            return self._failed([Problem(rows, f"reward {self.name}, {_span(rows)}: {said(error)}")])
        if len(values) != len(rows):
            return self._failed([Problem(rows, _wrong_count(self.name, len(values), len(rows)))])
        numbers = np.array([0.0 if isinstance(value, str) else value for value in values])
        problems = [
            Problem(range(row, row + 1), f"reward {self.name}, row {row}: {value} is not a finite number; return a float or None")
            for row, value in zip(rows, values, strict=True)
            if isinstance(value, str)
        ]  # fmt: skip
        return self._failed(problems, numbers) if problems else (numbers, [])

    def _one_by_one(self, rows: range, error: str) -> Found:
        """After an error of many rows: which of them fail alone. Where none does, they have failed together."""
        if self.until == math.inf:  # counts from the first row that is called alone
            self.until = time.monotonic() + self.options.timeout_s
        values = np.zeros(len(rows))
        problems: list[Problem] = []
        for at, row in enumerate(rows):
            if (left := self.until - time.monotonic()) <= 0:
                late = (
                    f"reward {self.name}, {_span(rows[at:])}: called one by one after {error}, and not reached within "
                    f"{self.options.timeout_s:g} s"
                )
                return self._failed([Problem(rows[at:], late), *problems], values)
            alone = range(row, row + 1)
            values[at : at + 1], found = self._checked(self._start(alone, left), alone)
            problems += found
        if not problems:
            return self._failed([Problem(rows, f"reward {self.name}, {_span(rows)} together: {error}")])
        return values, problems

    def _failed(self, problems: list[Problem], values: np.ndarray | None = None) -> Found:
        """values: of all rows, where not all have failed."""
        if self.options.on_error == "stop":
            raise UserError(problems[0].text)
        return np.zeros(len(problems[0].rows)) if values is None else values, problems


def weighted(values: Sequence[np.ndarray], weights: Sequence[float] = ()) -> np.ndarray:
    """The sum of values [B] by weights (none: 1), NaN apart; NaN where all of them are."""
    stacked = np.stack(values)
    factors = np.array(weights or [1.0] * len(values))[:, None]
    total = np.where(np.isnan(stacked), 0.0, factors * stacked).sum(axis=0)
    total[np.isnan(stacked).all(axis=0)] = np.nan
    return total


def name_of(reward: object) -> str:
    """What a reward is called."""
    return getattr(reward, "__name__", type(reward).__name__)


def _result(call: Future, while_waiting: Callable[[], object], seconds: float = math.inf) -> Any:
    until = time.monotonic() + seconds
    while not wait([call], min(SLICE_S, seconds)).done:
        while_waiting()
        if time.monotonic() > until:
            raise TimeoutError
    return call.result()


def _require_sendable(name: str, reward: Reward) -> None:
    try:
        pickle.dumps(reward)
    except Exception as error:
        raise UserError(
            f"reward {name} cannot be sent to other processes ({said(error)}); define it at the top of a module, "
            "or set processes to 0"
        ) from error


def _nothing(name: str, seconds: float, rows: range) -> str:
    return f"reward {name} gave nothing within {round(seconds, 2):g} s for {_span(rows)}"


def _wrong_count(name: str, values: int, completions: int) -> str:
    return f"reward {name} returned {values} values for {completions} completions; return one number for each"


def _span(rows: range) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"


def _warn(problems: list[Problem]) -> None:
    if problems:
        others = sum(len(one.rows) for one in problems[1:])
        more = f" (and {others} more)" if others else ""
        print(f"warning: {problems[0].text}: counted as 0{more}", file=sys.stderr)
