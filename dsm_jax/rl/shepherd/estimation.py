"""Labels from what completions came to. Plain functions of hits; no sampler.

Left out on purpose: the last step, whose label is whether its solution is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dsm_jax.rl.shepherd.config import Estimate


def estimate(hits: Sequence[bool], kind: Estimate, n: int | None = None) -> float:
    """A step's label from the first n of its completions: hard, whether any is right; soft, the share of right ones."""
    counted = hits[:n]
    return float(any(counted)) if kind == "hard" else sum(counted) / len(counted)


class Searched(NamedTuple):
    """Where a binary search stands: the step to judge next, or the first bad one."""

    ask: int | None
    first_bad: int | None


def search(judged: Callable[[int], bool | None], steps: int) -> Searched:
    """For the first bad one of a wrong solution's steps, the last of which is bad (OmegaPRM, arXiv 2406.06592).

    judged: whether a step but the last is good, None where it is not known yet. Where good steps are followed by bad ones
    only, it asks for at most log2(steps), rounded up, and finds what judging all would.
    """
    low, high = 0, steps - 1
    while low < high:
        middle = (low + high) // 2
        good = judged(middle)
        if good is None:
            return Searched(middle, None)
        low, high = (middle + 1, high) if good else (low, middle)
    return Searched(None, low)


def labels_before(first_bad: int, steps: int) -> tuple[float, ...]:
    """1 for each step before the first bad one, 0 from it on."""
    return tuple(float(step < first_bad) for step in range(steps))
