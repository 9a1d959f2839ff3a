"""The problems that an evaluation asks: of benchmark files, and of the generator.

Left out on purpose: how files are read (data/benchmarks.py), how problems are put (prompts/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dsm_jax.data.benchmarks import BENCHMARKS, Problem, own_name, read_benchmarks, read_own
from dsm_jax.data.problems import ProblemSet
from dsm_jax.errors import UserError

GENERATOR = "generator"
GENERATED = 1000  # problems of the generator's test split


def read_problems(names: Sequence[str], paths: Sequence[Path], limit: int = 0) -> dict[str, list[Problem]]:
    """The problems of each named benchmark; a file that is given itself, mine.jsonl, is the benchmark `mine`.

    limit: how many of each, spread evenly over its file; 0 for all. Raises UserError for an unknown name, a missing file (where to get it), and a bad row (where it is).
    """
    own = {own_name(path): path for path in paths if path.is_file()}
    files = [name for name in names if name in BENCHMARKS or name not in {GENERATOR, *own}]
    if files and not paths:
        raise UserError(
            f"--data: give the folder that holds the files of {', '.join(files)}, or set DSM_DATA to it"
        )
    found: Mapping[str, list[Problem]] = {name: [] for name in names}
    for problem in read_benchmarks(paths, files) if files else []:
        found[problem.benchmark].append(problem)
    for name in names:
        if name not in {GENERATOR, *files}:
            found[name].extend(read_own(own[name]))
    if GENERATOR in names:
        found[GENERATOR].extend(_generated(limit or GENERATED))
    return {name: _spread(_told_apart(problems), limit) for name, problems in found.items()}


def _generated(count: int) -> list[Problem]:
    return [
        Problem(
            GENERATOR,
            one.id,
            one.question,
            one.answer,
            one.solution,
            subject=one.family,
            level=str(one.level),
        )
        for one in ProblemSet("test").distinct(count)
    ]


def _told_apart(problems: Sequence[Problem]) -> list[Problem]:
    """Problems of one id, which some files have, get their place in the file behind it."""
    often = Counter(problem.id for problem in problems)
    return [
        replace(one, id=f"{one.id}#{place}") if often[one.id] > 1 else one
        for place, one in enumerate(problems)
    ]


def _spread(problems: list[Problem], limit: int) -> list[Problem]:
    if not 0 < limit < len(problems):
        return problems
    return [problems[i * len(problems) // limit] for i in range(limit)]
