"""How many sympy programs a second the sandbox runs, beside a fresh interpreter for each, with and without bubblewrap.

    python experiments/bench_sandbox.py --json FILE

All take turns on the same cores, as many programs at once as there are cores; medians over the rounds, wall-clock time. A fresh
interpreter imports sympy for each program; with bubblewrap it is isolated as the sandbox's programs are, without one it is not.
Left out on purpose: programs that compute for long, which take the same time everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox import Sandbox, bubblewrap
from dsm_jax.run import require_writable, write_json

PROGRAMS = (
    "import sympy; x = sympy.symbols('x'); print(sympy.solve(x**2 - 5*x + 6))",
    "from sympy import *\nx, y = symbols('x y')\nprint(solve([x + y - 10, x - y - 2], [x, y]))",
    "from sympy import *\nx = symbols('x')\nprint(integrate(x*exp(x), (x, 0, 1)), diff(sin(x)**2, x))",
    "total = sum(n for n in range(1000) if n % 3 == 0 or n % 5 == 0)\nprint(total)",
    "from fractions import Fraction\nprint(sum(Fraction(1, n) for n in range(1, 20)))",
    "import numpy as np\nprint(np.linalg.det(np.array([[1, 2], [3, 4]])).round(6))",
)
Rate = Callable[[int], float]  # of so many programs


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    programs: int = 600  # of the sandbox's, each round
    fresh_programs: int = 24  # of a fresh interpreter's, each round
    workers: int = 0  # programs at once; 0: one a core
    rounds: int = 5  # each measures all once
    json: Path | None = None  # file for the numbers

    def __post_init__(self) -> None:
        for name in ("programs", "fresh_programs", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.workers < 0:
            raise UserError(f"--workers is {self.workers}; it must be 0 or more")
        if self.json:
            require_writable(self.json, "--json")


def main(config: Bench) -> None:
    workers = config.workers or len(os.sched_getaffinity(0))
    with Sandbox(workers) as sandbox:
        start = time.perf_counter()
        sandbox_per_s(sandbox, workers)
        starting = time.perf_counter() - start
        found: dict[str, list[float]] = {}
        for _ in range(config.rounds):
            for name, rate, count in measured(sandbox, config):
                found.setdefault(name, []).append(rate(count))
    result = {name: median(rates) for name, rates in found.items()}
    result |= {"ms_per_program": 1000 * workers / result["sandbox_per_s"], "start_s": starting}
    print_summary(workers, result)
    if config.json:
        write_json(config.json, result | {"workers": workers, "config": asdict(config) | {"json": None}})


def measured(sandbox: Sandbox, config: Bench) -> list[tuple[str, Rate, int]]:
    """Name, rate and number of programs of everything that takes turns."""
    fresh = [sys.executable, "-c"]
    rows: list[tuple[str, Rate, int]] = [
        ("sandbox_per_s", lambda count: sandbox_per_s(sandbox, count), config.programs),
        (
            "fresh_interpreter_per_s",
            lambda count: command_per_s(fresh, sandbox.workers, count),
            config.fresh_programs,
        ),
    ]
    if bubblewrap.is_installed():
        isolated = [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--tmpfs",
            "/dev/shm",
            *fresh,
        ]
        rows.append(
            (
                "bubblewrap_per_s",
                lambda count: command_per_s(isolated, sandbox.workers, count),
                config.fresh_programs,
            )
        )
    return rows


def sandbox_per_s(sandbox: Sandbox, count: int) -> float:
    """Programs a second, all of which must run to their end."""
    programs = [PROGRAMS[i % len(PROGRAMS)] for i in range(count)]
    start = time.perf_counter()
    results = sandbox.run_many(programs)
    seconds = time.perf_counter() - start
    if failed := [result for result in results if result.status != "ok"]:
        raise UserError(f"{len(failed)} of {count} programs failed, the first one so: {failed[0]}")
    return count / seconds


def command_per_s(command: list[str], workers: int, count: int) -> float:
    """Programs a second, each appended to the command, so many at once."""
    commands = [[*command, PROGRAMS[i % len(PROGRAMS)]] for i in range(count)]
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        for done in threads.map(lambda one: subprocess.run(one, capture_output=True, check=False), commands):
            if done.returncode:
                raise UserError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-300:]}")
    return count / (time.perf_counter() - start)


def print_summary(workers: int, result: dict[str, float]) -> None:
    say = Console(highlight=False, soft_wrap=True).print
    say(f"{workers} programs at once; the sandbox was ready after {result['start_s']:.1f} s")
    for name, text in (
        ("sandbox_per_s", "sandbox"),
        ("fresh_interpreter_per_s", "a fresh interpreter each"),
        ("bubblewrap_per_s", "a fresh interpreter in bubblewrap each"),
    ):
        if name in result:
            say(f"{text:40} {result[name]:7.1f} programs/s {1000 * workers / result[name]:7.1f} ms each")


PRESETS = {
    "cores": Bench("cores"),
    "smoke": Bench("smoke", programs=12, fresh_programs=2, rounds=1),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
