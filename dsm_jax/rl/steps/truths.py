"""The truth of each step of a solution to a generated problem: what labels and reward models are graded against.

A step is true where it and all before it are right (dsm_jax.data.steps). Left out on purpose: problems of other sources.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsm_jax.data.problems import Problem
from dsm_jax.data.steps import step_truths


def solution_truths(problem: Problem, text: str, ends: Sequence[int]) -> tuple[bool, ...]:
    """[K], of the steps that end at these offsets (segments.step_ends, however split) of any text at all."""
    of_lines = step_truths(problem, text)
    truths: list[bool] = []
    for end in ends:
        before = [line for line in text[:end].splitlines() if line.strip()]
        goes_on = any(line.strip() for line in text[end:].splitlines()[:1])  # the step ends within a line
        right = all(step_truths(problem, text[:end])) if goes_on else of_lines[len(before) - 1]
        truths.append(right and all(truths[-1:]))
    return tuple(truths)
