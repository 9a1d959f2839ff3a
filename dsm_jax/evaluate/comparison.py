"""Two evaluations of the same problems, paired: the difference with its interval, a test, and which problems changed.

Left out on purpose: more than two at once, and corrections for many comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.evaluate.samples import Sample, by_problem
from dsm_jax.evaluate.scores import Interval, mean_share, paired_difference, paired_test


@dataclass(frozen=True)
class Comparison:
    """Of the problems that both have and whose gold answer can be scored."""

    ours: Interval
    theirs: Interval
    difference: Interval  # ours less theirs
    p: float  # two-sided, that neither is better
    gained: tuple[str, ...]  # ids of problems of which we have more answers right
    lost: tuple[str, ...]
    unpaired: int  # problems that only one of them has, or scores

    @property
    def verdict(self) -> str:
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "undecided"


def compare(ours: Sequence[Sample], theirs: Sequence[Sample], mode: str) -> Comparison:
    """Paired by id; of several answers to a problem the share that is right. UserError where no problem is in both."""
    first, second = _shares(ours, mode), _shares(theirs, mode)
    common = [name for name in first if name in second and first[name][0] == second[name][0]]
    if not common:
        raise UserError(
            "compare: no problem is in both; compare runs of the same benchmarks, protocols and --limit"
        )
    a, b = (np.array([shares[name][1] for name in common]) for shares in (first, second))
    return Comparison(
        mean_share(a, _answers(ours)),
        mean_share(b, _answers(theirs)),
        paired_difference(a, b),
        paired_test(a, b),
        tuple(name for name, x, y in zip(common, a, b, strict=True) if x > y),
        tuple(name for name, x, y in zip(common, a, b, strict=True) if x < y),
        len(first) + len(second) - 2 * len(common),
    )


def _shares(rows: Sequence[Sample], mode: str) -> dict[str, tuple[str, float]]:
    """Gold answer and share of right answers by problem."""
    return {
        one[0].id: (one[0].gold, float(np.mean([bool(row.correct[mode]) for row in one])))
        for one in by_problem(rows)
        if all(row.correct.get(mode) is not None for row in one)
    }


def _answers(rows: Sequence[Sample]) -> int:
    return max(row.sample for row in rows) + 1
