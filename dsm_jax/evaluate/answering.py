"""A benchmark under a protocol: problems are asked in chunks, judged, and kept; what is kept is not asked again.

A completion depends on its problem's place, its number, the seed and the chunk's other rows only in rounding, and chunks
are cut the same way each time: a run that was killed ends in the same rows. While a chunk is judged the next one is
sampled. Of several processes all sample; the first one judges and writes.
Left out on purpose: which prompts (prompts/), what is right (judge.py), scores (summary.py).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from dsm_jax.data.benchmarks import Problem
from dsm_jax.errors import UserError
from dsm_jax.evaluate.isabelle import IsabelleClient
from dsm_jax.evaluate.judge import judge
from dsm_jax.evaluate.prompts import Task
from dsm_jax.evaluate.samples import chunk_file, rows_in, write_samples
from dsm_jax.processes import is_first_process, json_from_first_process, on_first_process
from dsm_jax.run import progress, read_json, write_json
from dsm_jax.sample.request import LEAST_TEMPERATURE, Completion, Request, Tool
from dsm_jax.sample.sampler import Sampler


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    n: int = 1  # answers to each problem
    temperature: float = 0.0  # 0 takes the most likely token
    top_p: float = 1.0  # least mass of the most likely tokens that are kept
    max_new_tokens: int | None = None  # left out: the protocol's
    rng_seed: int = 0
    chunk: int = 512  # answers that are sampled, judged and kept together

    def __post_init__(self) -> None:
        least = {"n": 1, "chunk": 1, "rng_seed": 0, "max_new_tokens": 1}
        for name, low in least.items():
            if (value := getattr(self, name)) is not None and value < low:
                raise UserError(f"--sampling.{name.replace('_', '-')} is {value}; it must be at least {low}")
        if not (self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < math.inf):
            raise UserError(
                f"--sampling.temperature is {self.temperature}; it must be 0 (greedy) or at least {LEAST_TEMPERATURE}"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(
                f"--sampling.top-p is {self.top_p}; it must be above 0 and at most 1 (1 keeps all)"
            )
        if self.n > 1 and self.temperature == 0:
            raise UserError(
                f"--sampling.n is {self.n}, and at temperature 0 all answers are the same: give --sampling.temperature, such as 0.7"
            )


def claim(file: Path, fingerprint: str, asked: Mapping[str, tuple[Task, Sequence[Problem]]]) -> None:
    """Writes to `file` what the answers beside it are of. UserError where they are of another model, or other problems.

    fingerprint: Sampler.fingerprint(), which every process calls.
    """
    source = {
        "parameters": fingerprint,
        "problems": {name: _identity(task, problems) for name, (task, problems) in asked.items()},
    }
    if not file.exists():
        return write_json(file, source)
    there = read_json(file)
    for name, what in (("parameters", "another model"), ("problems", "other problems or prompts")):
        if there[name] != source[name]:
            raise UserError(
                f"{file.parent} holds answers of {what}: give another --out, or delete that folder"
            )


def forget_unchecked(folder: Path) -> None:
    """Removes the files with proofs that nobody checked: they are asked again, and get a verdict."""
    for file in sorted(folder.glob("*.jsonl")):
        if '"reason": "unchecked"' in file.read_text(encoding="utf-8"):
            file.unlink()


def _identity(task: Task, problems: Sequence[Problem]) -> str:
    """A short name of problems and prompts."""
    rows = [[problem.id, task.prompt(problem), problem.answer] for problem in problems]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def answer_benchmark(
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    folder: Path,
    sampling: Sampling,
    *,
    encode: Callable[[Problem], list[int]],
    tool: Tool | None = None,
    isabelle: IsabelleClient | None = None,
) -> None:
    """Answers what the folder does not hold yet; read_samples(folder) has all of it then.

    encode: the prompt's token ids. A problem whose prompt does not fit has rows with the finish "error". The caller sees
    to it that a folder is of one model, one set of problems and one sampling.
    """
    chunks = _chunks(problems, sampling)
    sizes = [len(chunk) * sampling.n for chunk in chunks]
    missing = json_from_first_process(lambda: _missing(folder, sizes))
    if not missing:
        return
    total, done = len(problems) * sampling.n, sum(map(len, chunks)) - sum(len(chunks[i]) for i in missing)
    shown = progress(total, f"{task.benchmark} {task.protocol}", done * sampling.n)
    with _in_the_background() as later, shown if is_first_process() else nullcontext() as bar:
        for number in missing:
            part = chunks[number]
            prompts = [encode(problem) for problem in part]
            requests = [
                _request(prompt, sampler, task, sampling, number * len(chunks[0]) + i)
                for i, prompt in enumerate(prompts)
            ]
            completions = sampler.generate(
                requests, tool=tool, on_finish=bar.advance if bar else lambda: None
            )
            texts = [sampler.tokenizer.decode(prompt) for prompt in prompts]
            later(_keep, chunk_file(folder, number), task, part, texts, completions, isabelle)


def _chunks(problems: Sequence[Problem], sampling: Sampling) -> list[Sequence[Problem]]:
    size = max(1, sampling.chunk // sampling.n)
    return [problems[at : at + size] for at in range(0, len(problems), size)]


def _missing(folder: Path, sizes: Sequence[int]) -> list[int]:
    """The chunks whose file is not there, or has not that many rows."""
    return [number for number, size in enumerate(sizes) if rows_in(chunk_file(folder, number)) != size]


def _request(prompt: list[int], sampler: Sampler, task: Task, sampling: Sampling, place: int) -> Request:
    """place: of the problem in the benchmark. As many new tokens as the model has room for, at most."""
    room = max(1, sampler.config.max_seq_len - len(prompt))
    return Request(
        prompt,
        n=sampling.n,
        max_new_tokens=min(sampling.max_new_tokens or task.max_new_tokens, room),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=task.stop,
        seed=sampling.rng_seed,
        prompt_id=place,
    )


def _keep(
    file: Path,
    task: Task,
    problems: Sequence[Problem],
    prompts: Sequence[str],
    completions: Sequence[Sequence[Completion]],
    isabelle: IsabelleClient | None,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_samples(file, judge(task, problems, prompts, completions, isabelle))


@contextmanager
def _in_the_background() -> Iterator[Callable[..., None]]:
    """Yields later(work, *arguments): the first process does it in a thread, one after the other; errors come at the next."""
    waiting: list[Future] = []

    def settle() -> None:
        while waiting:
            waiting.pop().result()

    with ThreadPoolExecutor(1) as pool:

        def later(work: Callable[..., None], *arguments: object) -> None:
            on_first_process(settle)
            if is_first_process():
                waiting.append(pool.submit(work, *arguments))

        yield later
        on_first_process(settle)
