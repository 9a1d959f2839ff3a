"""How fast the grader and the sandbox are, beside math-verify on the same pairs.

    python experiments/bench_grader.py --json FILE
    python experiments/bench_grader.py --json FILE --peer math_verify --peer-python PATH/TO/PYTHON

Pairs are graded one by one, for the first time (no cache), in two kinds: "simple", worked GSM8K solutions of four systems; "all", the labelled
cases of public graders, own and hostile ones ("ordinary": without the hostile ones, on which a peer may run into its time limit). A pair's time is its median over the rounds; the peer, math-verify 0.9.0 in an environment of
its own, takes turns with us on the same core, and both have graded once before. Both are also asked how many of the cases they get right.
The sandbox runs sympy snippets from two threads. Without DSM_DATA "simple" are worked problems of the generator, and --cases names the cases.
Left out on purpose: the start of processes (a second for sympy), several cores for the grader.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any, Literal

from bench_turns import plain, worker
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.errors import UserError
from dsm_jax.run import progress, require_writable, write_json

OURS = "dsm_jax"
SEEN_MS = {"math_verify": 2.3}  # a pair; what the peer has been seen to take at most
SNIPPET = "import sympy\nx = sympy.symbols('x')\nprint(sympy.factor(x**4 - 5*x**2 + {}), sympy.integrate(x**2, (x, 0, {})))"


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    simple: int = 1_000  # GSM8K-like pairs
    cases: Path | None = None  # labelled pairs (JSONL); $DSM_DATA/grader/cases.jsonl by default
    snippets: int = 200  # programs for the sandbox
    rounds: int = 3  # each grades every pair once with every grader
    json: Path | None = None  # file for the numbers
    peer: Literal["", "math_verify"] = ""
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.simple < 1 or self.snippets < 1:
            raise UserError(
                f"--rounds {self.rounds}, --simple {self.simple}, --snippets {self.snippets}: must be at least 1"
            )
        if self.peer and not shutil.which(self.peer_python):
            raise UserError(f"--peer-python {self.peer_python}: no such program, or it cannot be run")
        if self.json:
            require_writable(self.json, "--json")


def main(config: Bench) -> None:
    pairs = {"simple": simple_pairs(config.simple), "all": cases(config)}
    scripts = {OURS: (Path(sys.executable), "bench_grader_ours.py")}
    if config.peer:
        scripts[config.peer] = (config.peer_python, f"bench_grader_{config.peer}.py")
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in scripts}
    with ExitStack() as stack, progress((config.rounds + 1) * len(scripts), "grade") as bar:
        workers = {}
        for who, (python, script) in scripts.items():
            workers[who] = stack.enter_context(worker(python, script, 1, allocator=False))
            workers[who].ask({"pairs": pairs})
        for _ in range(config.rounds + 1):
            for who, one in workers.items():
                found[who].append(one.ask({"task": "report"}))
                bar.advance()
    results = {who: summary(rounds[1:], pairs["all"]) for who, rounds in found.items()}
    numbers = results[OURS] | sandbox_rate(config.snippets)
    if config.peer:
        numbers |= {f"peer_{name}": value for name, value in results[config.peer].items()}
        numbers["times_faster_simple"] = numbers["peer_ms_per_pair_simple"] / numbers["ms_per_pair_simple"]
        numbers["times_faster_ordinary"] = (
            numbers["peer_ms_per_pair_ordinary"] / numbers["ms_per_pair_ordinary"]
        )
        numbers["times_faster_all"] = numbers["peer_ms_per_pair_all"] / numbers["ms_per_pair_all"]
    show(config, numbers)
    if config.json:
        write_json(config.json, numbers | {"config": plain(config)})


def simple_pairs(count: int) -> list[dict[str, Any]]:
    """Worked solutions of GSM8K by four systems, or of the generator's problems."""
    if not os.environ.get("DSM_DATA"):
        problems = ProblemSet("train", seed=0)
        rows = [(problems[i].solution, problems[i].answer) for i in range(count)]
    else:
        file = Path(os.environ["DSM_DATA"]) / "labelled_outputs/gsm8k_openai_example_model_solutions.jsonl.gz"
        with gzip.open(file, "rt") as lines:
            solved = [json.loads(line) for line in lines]
        systems = [name for name in solved[0] if isinstance(solved[0][name], dict)]
        rows = [(row[name]["solution"], row["ground_truth"]) for row in solved for name in systems][:count]
    return [{"response": response, "gold": gold, "mode": "strict"} for response, gold in rows]


def cases(config: Bench) -> list[dict[str, Any]]:
    """The labelled cases, wrapped as their form says; those whose label policy decides are timed, not counted."""
    path = config.cases or Path(os.environ.get("DSM_DATA", ".")) / "grader/cases.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give --cases FILE, or set DSM_DATA") from None
    found = []
    for row in rows:
        bare = row["form"] == "answer" and "\\boxed" not in row["pred"]
        found.append(
            {
                "response": f"The answer is \\boxed{{{row['pred']}}}." if bare else row["pred"],
                "gold": row["gold"],
                "mode": "strict" if row["form"] == "answer" else "flexible",
                "expected": None if row["contested"] else row["expected"],
                "hostile": row["source"].startswith("adversarial"),
            }
        )
    return found


def summary(rounds: list[dict[str, Any]], labelled: list[dict[str, Any]]) -> dict[str, float]:
    """Means over pairs of each pair's median over the rounds, ms; and the share of cases that are judged as labelled."""
    ms = {
        kind: [median(times) for times in zip(*(one[kind] for one in rounds), strict=True)]
        for kind in ("simple", "all")
    }
    right = [
        verdict == case["expected"]
        for verdict, case in zip(rounds[0]["verdicts"], labelled, strict=True)
        if case["expected"] is not None
    ]
    return {
        "ms_per_pair_simple": mean(ms["simple"]),
        "ms_per_pair_all": mean(ms["all"]),
        "ms_per_pair_ordinary": mean(
            time for time, case in zip(ms["all"], labelled, strict=True) if not case["hostile"]
        ),
        "median_ms": median(ms["all"]),
        "p99_ms": quantiles(ms["all"], n=100)[98],
        "max_ms": max(ms["all"]),
        "cases_right": mean(right),
    }


def sandbox_rate(snippets: int) -> dict[str, float]:
    """sympy programs a second from two threads; nothing where the sandbox is not there."""
    try:
        from dsm_jax.evaluate.sandbox import run_python
    except ImportError:
        return {}
    codes = [SNIPPET.format(number, number) for number in range(snippets)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run_python, codes[:4]))
        start = time.perf_counter()
        list(threads.map(run_python, codes))
        return {"sandbox_per_s": snippets / (time.perf_counter() - start)}


def show(config: Bench, numbers: dict[str, float]) -> None:
    console, table = Console(), Table(box=None)
    graders = [OURS, config.peer] if config.peer else [OURS]
    for column in ("", *graders):
        table.add_column(column, justify="right" if column else "left")
    for name in (
        "ms_per_pair_simple",
        "ms_per_pair_ordinary",
        "ms_per_pair_all",
        "median_ms",
        "p99_ms",
        "max_ms",
        "cases_right",
    ):
        table.add_row(name, *(f"{numbers[('' if who == OURS else 'peer_') + name]:.4g}" for who in graders))
    console.print(table)
    if config.peer:
        seen = SEEN_MS[config.peer]
        slow = (
            ": over 25% slower here, so look at its settings"
            if numbers["peer_ms_per_pair_simple"] > 1.25 * seen
            else ""
        )
        console.print(
            f"{config.peer} here {numbers['peer_ms_per_pair_simple']:.2f} ms a simple pair, seen before up to {seen}{slow}; "
            f"we are {numbers['times_faster_simple']:.1f} (simple), {numbers['times_faster_ordinary']:.1f} (ordinary) and "
            f"{numbers['times_faster_all']:.1f} (all) times as fast",
            highlight=False,
            soft_wrap=True,
        )
    if "sandbox_per_s" in numbers:
        console.print(f"sandbox: {numbers['sandbox_per_s']:.0f} sympy programs a second", highlight=False)


PRESETS = {"one_core": Bench("one_core"), "smoke": Bench("smoke", simple=50, snippets=4, rounds=1)}

if __name__ == "__main__":
    run_script(main, PRESETS)
