"""Asks a model problems, grades its answers, and scores them: greedy, and maj@k and pass@k from samples.

Rows go to a JSONL file, one per problem, and beside it a JSON file tells what made them: parameters,
problems, sampling. Where both are there and that is the same, the rows are read, not made again. Of several processes all
sample; the first one grades, writes and reads. Left out on purpose: few-shot prompts, tools, benchmarks read from files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dsm_jax.evaluate.at_k import majority_at_k, pass_at_k
from dsm_jax.evaluate.grader import answer_key, grade, is_boxed
from dsm_jax.evaluate.scores import Interval, share
from dsm_jax.processes import (
    first_process_finds,
    from_first_process,
    is_first_process,
    on_first_process,
)
from dsm_jax.run import progress, read_json, write_json, write_text
from dsm_jax.sample.request import Completion, require_answers
from dsm_jax.sample.sampler import Sampler


class Problem(Protocol):
    """What the harness reads of a problem."""

    @property
    def id(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class Answers:
    """A problem's responses and their verdicts, one entry per sample."""

    id: str
    family: str
    level: int
    question: str
    answer: str
    responses: list[str]
    correct: list[bool]  # the grader's verdict, mode strict
    boxed: list[bool]  # ended by itself, with its answer in a closed box
    keys: list[str | None]  # the normalised answer, for votes


def answer_problems(
    sampler: Sampler,
    problems: Sequence[Problem],
    path: Path,
    *,
    prompt: Callable[[str], str],
    max_new_tokens: int,
    n: int = 1,
    temperature: float = 0.0,
    rng_seed: int = 0,
    description: str = "evaluate",
) -> list[Answers]:
    """n answers of each problem by the parameters in `sampler`, graded; kept in `path` and its .json."""
    prompts = [prompt(problem.question) for problem in problems]
    source = {
        "parameters": sampler.fingerprint(),
        "problems": _hash([_identity(problem) for problem in problems] + [prompts]),
        "n": n,
        "temperature": temperature,
        "rng_seed": rng_seed,
        "max_new_tokens": max_new_tokens,
    }
    if not first_process_finds(lambda: _is_kept(path, source)):
        shown = progress(len(problems) * n, description) if is_first_process() else nullcontext()
        with shown as bar:
            completions = sampler.generate(
                prompts,
                n=n,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=rng_seed,
                prompt_ids=range(len(problems)),
                on_finish=bar.advance if bar else lambda: None,
            )
        require_answers(completions)
        pairs = zip(problems, completions, strict=True)
        on_first_process(lambda: _write(path, [_graded(*pair) for pair in pairs], source))
    return _parsed(from_first_process(path.read_bytes))


def read_answers(path: Path) -> list[Answers]:
    """The rows that answer_problems wrote."""
    return _parsed(path.read_bytes())


def _parsed(rows: bytes) -> list[Answers]:
    lines = rows.decode().split("\n")[:-1]  # splitlines() would also split inside answers
    return [Answers(**json.loads(line)) for line in lines]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _identity(problem: Problem) -> list[str | int]:
    return [problem.id, problem.family, problem.level, problem.question, problem.answer]


def _is_kept(path: Path, source: dict) -> bool:
    sidecar = path.with_suffix(".json")
    return path.exists() and sidecar.exists() and read_json(sidecar) == source


def _write(path: Path, rows: Sequence[Answers], source: dict) -> None:
    """The old sidecar goes first, the new one comes last: it never stands beside rows of other parameters."""
    sidecar = path.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar.unlink(missing_ok=True)
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))
    write_json(sidecar, source)


def _graded(problem: Problem, completions: Sequence[Completion]) -> Answers:
    verdicts = [grade(completion.text, problem.answer) for completion in completions]
    return Answers(
        problem.id,
        problem.family,
        problem.level,
        problem.question,
        problem.answer,
        [completion.text for completion in completions],
        [bool(verdict.correct) for verdict in verdicts],
        [completion.finished and is_boxed(completion.text) for completion in completions],
        [None if verdict.extracted is None else answer_key(verdict.extracted) for verdict in verdicts],
    )


def greedy_scores(rows: Sequence[Answers]) -> dict[str, Interval]:
    """Of each problem's first answer: `greedy` accuracy, share `boxed`, and accuracy among those."""
    boxed = [row.boxed[0] for row in rows]
    scores = {"greedy": share([row.correct[0] for row in rows]), "boxed": share(boxed)}
    if any(boxed):
        scores["greedy_boxed"] = share([row.correct[0] for row in rows if row.boxed[0]])
    return scores


def sampled_scores(rows: Sequence[Answers], k: int) -> dict[str, Interval]:
    """maj@k and pass@k of the problems' samples."""
    correct = [row.correct for row in rows]
    return {
        f"maj@{k}": majority_at_k([row.keys for row in rows], correct, k),
        f"pass@{k}": pass_at_k(np.array(correct), k),
    }


def accuracy_by(rows: Sequence[Answers]) -> dict[tuple[str, int], Interval]:
    """Accuracy of the first answers by (family, level)."""
    kinds = sorted({(row.family, row.level) for row in rows})
    return {
        kind: share([row.correct[0] for row in rows if (row.family, row.level) == kind]) for kind in kinds
    }
