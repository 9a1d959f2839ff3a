"""Workers of a benchmark that take turns: started alike, pinned to the same cores, asked one after the other.

What a worker answers with stands in bench_worker.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.run import progress, require_writable

HERE = Path(__file__).parent
# Memory stays with the process, in huge pages: a step's time is else up to a tenth the kernel's, clearing pages.
ALLOCATOR = ":".join(
    f"glibc.malloc.{name}"
    for name in ("hugetlb=1", "arena_max=1", "mmap_max=0", "trim_threshold=17179869184")
)
Rounds = dict[str, list[dict[str, float]]]  # task -> one measurement a round


class Worker:
    """A process that answers a line of JSON with a line of JSON."""

    def __init__(self, process: subprocess.Popen[str], command: list[str]):
        self.process, self.command = process, command

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = self.process.stdout.readline()
        if not answer:
            raise UserError(f"{' '.join(self.command)} ended; what it said is above")
        return json.loads(answer)


@contextmanager
def worker(
    python: str | Path,
    script: str,
    threads: int,
    *,
    allocator: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """A script beside this one. threads: cores that it is pinned to; 0 leaves it as this process is. allocator: whether
    it has ALLOCATOR. env: what its environment has besides."""
    command = [str(python), str(HERE / script)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (_settings(threads, allocator) if threads else {}) | dict(env or {}),
    )
    if threads:  # before it starts any thread
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:threads])
    with process:
        yield Worker(process, command)
        assert process.stdin
        process.stdin.close()


def _settings(threads: int, allocator: bool) -> dict[str, str]:
    """The environment of a worker with so many threads on the CPU."""
    eigen = str(threads > 1).lower()
    return {
        "GLIBC_TUNABLES": ALLOCATOR if allocator else "",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def in_turns(workers: Mapping[str, Worker], tasks: Sequence[str], rounds: int) -> dict[str, Rounds]:
    """Worker -> task -> one measurement a round."""
    found: dict[str, Rounds] = {name: {task: [] for task in tasks} for name in workers}
    with progress(rounds * len(tasks) * len(workers), "measure") as bar:
        for _ in range(rounds):
            for task in tasks:
                for name, one in workers.items():
                    found[name][task].append(one.ask({"task": task}))
                    bar.advance()
    return found


class Options(Protocol):
    """What the benchmarks' options have in common."""

    model: ModelConfig
    threads: int
    json: Path | None
    peer: str
    peer_python: Path


def check_options(config: Options) -> None:
    """UserError where workers could not start or their numbers not be kept."""
    if config.threads < 0 or (config.peer and not config.threads):
        raise UserError(f"--threads is {config.threads}; a peer needs at least 1, and 0 is the accelerator")
    if config.threads > (cores := len(os.sched_getaffinity(0))):
        raise UserError(f"--threads is {config.threads}; there are {cores} cores")
    if config.peer and not shutil.which(config.peer_python):
        raise UserError(f"--peer-python {config.peer_python}: no such program, or it cannot be run")
    if config.model.lora.rank:
        raise UserError("--model.lora.rank: the benchmark is of the whole model; leave it out")
    if config.json:
        require_writable(config.json, "--json")


def beside_seen(peer: str, rate: float, seen: int) -> str:
    """A peer's tokens a CPU second here, beside those a second that it has been seen to reach."""
    slow = ": over 25% slower here, so look at its settings" if rate < 0.75 * seen else ""
    return f"{peer} here {rate:,.0f} tokens a CPU second; seen before, a second on 2 cores: {seen:,}{slow}"


def plain(value: Any) -> Any:
    """A dataclass as JSON can hold it."""
    return json.loads(json.dumps(asdict(value), default=str))
