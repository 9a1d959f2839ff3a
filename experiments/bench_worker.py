"""A worker of a benchmark: a line of JSON says what to build, each later one which task to time; a line answers each.

Standard library only: a peer imports this file in an environment of its own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

MATMUL = 1024  # rows, columns and depth of the matmul that the CPU's rate is measured by
OWN_ANSWERS = ("data", "report", "texts")  # tasks that are not timed: what they return is the answer
REPEATS = {
    "decode": 10,
    "fixed": 1,
    "geometric": 1,
    "whole": 1,
    "text": 1,
    "decontaminate": 1,
}  # calls in a measurement; two of the others

Tasks = Mapping[str, Callable[[], Any]]


def serve(
    build: Callable[[dict[str, Any]], Tasks], wait: Callable[[Any], Any] = lambda result: result
) -> None:
    """Answers until the input ends. build(request) gives the tasks; wait(result) returns when a task's is there.

    What is built is answered with the seconds that it took.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    start = time.perf_counter()
    tasks = build(json.loads(sys.stdin.readline()))
    print(json.dumps({"build_seconds": time.perf_counter() - start}), file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)["task"]
        answer = tasks[task]() if task in OWN_ANSWERS else timed(tasks[task], wait, REPEATS.get(task, 2))
        print(json.dumps(answer), file=answers, flush=True)


def timed(run: Callable[[], Any], wait: Callable[[Any], Any], repeats: int) -> dict[str, float]:
    """Per call, after one call that compiles or warms up."""
    wait(run())
    start, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(repeats):
        wait(run())
    return {
        "seconds": (time.perf_counter() - start) / repeats,
        "cpu_seconds": (_cpu_seconds() - cpu) / repeats,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _cpu_seconds() -> float:
    """Of this process, and of children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
