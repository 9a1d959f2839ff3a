"""Shares with intervals: accuracy, means over problems, paired differences and their test. Pure numpy.

Every score carries its number of problems n and a 95% interval. Left out on purpose: corrections for many comparisons; an
interval that holds 0 says "undecided".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from dsm_jax.errors import UserError

Values = Sequence[float] | npt.NDArray[np.float64]  # one for each problem, 0 to 1
Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A mean over n problems with its 95% interval; shares lie in 0..1, differences in -1..1."""

    n: int
    value: float
    low: float
    high: float


def share(correct: Sequence[bool] | npt.NDArray[np.bool_]) -> Interval:
    """The share of True over n problems, with Wilson's 95% interval (Wilson 1927)."""
    outcomes = checked("share", correct)
    return wilson(outcomes.sum(), outcomes.size)


def wilson(successes: float, n: float, quantile: float = Z95) -> Interval:
    """Wilson's 95% interval of successes / n."""
    z = quantile
    p, shrink = successes / n, 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / shrink
    half = z / shrink * sqrt(p * (1 - p) / n + z**2 / (4 * n * n))
    low = 0.0 if p == 0 else max(0.0, centre - half)
    return Interval(round(n), float(p), float(low), float(1.0 if p == 1 else min(1.0, centre + half)))


def paired_difference(ours: Values, theirs: Values) -> Interval:
    """Mean of ours[i] - theirs[i] over the same n problems, scores in 0..1.

    95% interval: the normal one of the n differences, with one success and one failure added to each side
    (Agresti and Min 2005), so that few or no disagreements do not give an interval of width 0.
    """
    a, b = checked("paired_difference", ours), checked("paired_difference", theirs)
    if a.size != b.size:
        raise UserError(
            f"paired_difference: {a.size} scores against {b.size}: both must be of the same problems"
        )
    difference = a - b
    n = difference.size + 2
    mean = difference.sum() / n
    variance = (np.square(difference).sum() + 1) / n - mean**2
    half = Z95 * sqrt(variance / n)
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Interval(difference.size, float(difference.mean()), float(low), float(high))


def paired_test(ours: Values, theirs: Values) -> float:
    """Two-sided p-value that neither of two is better on the same n problems: signs of differences flipped.

    Where all differences have one size this is McNemar's exact test; else 100,000 drawn flips, always the same.
    """
    a, b = checked("paired_test", ours), checked("paired_test", theirs)
    if a.size != b.size:
        raise UserError(f"paired_test: {a.size} scores against {b.size}: both must be of the same problems")
    differences = (a - b)[a != b]
    if not differences.size:
        return 1.0
    if np.ptp(np.abs(differences)) < 1e-12:
        fewer = int(min((differences > 0).sum(), (differences < 0).sum()))
        return min(1.0, 2 * sum(comb(differences.size, i) for i in range(fewer + 1)) / 2**differences.size)
    return _flipped(differences, np.random.default_rng(0))


def _flipped(differences: npt.NDArray[np.float64], rng: np.random.Generator) -> float:
    """The share of sign flips whose sum is as far from 0; the observed one counts as one of them."""
    reached, total = 1, 1
    for _ in range(100):
        signs = rng.integers(0, 2, (1_000, differences.size)) * 2 - 1
        reached += int((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).sum())
        total += len(signs)
    return reached / total


def mean_share(values: npt.NDArray[np.float64], samples: int) -> Interval:
    """The mean of n problems' values in 0..1, each estimated from so many samples, with its 95% interval.

    Wilson's, of as many problems as would have this variance if each were right or wrong, with Student's quantile, since the
    variance is estimated. Of one sample a problem it is Wilson's own; so it is of one problem, where the sample says nothing
    of others.
    """
    n, p = values.size, float(values.mean())
    if samples == 1 or n == 1 or p in (0, 1):
        interval = wilson(p * n, n)
    else:
        spread = ((n - 1) * float(values.var(ddof=1)) + p * (1 - p)) / n  # with one more, right or wrong
        alike = n * samples  # values that hardly differ are no better known than their samples allow
        effective = min(n * p * (1 - p) / spread, alike) if spread > 0 else alike
        interval = wilson(p * effective, effective, quantile=_t95(n - 1))
    return Interval(n, p, interval.low, interval.high)


def _t95(freedom: int) -> float:
    """Two-sided 95% quantile of Student's t; from 5 degrees on by its expansion (Abramowitz and Stegun 26.7.5)."""
    if freedom < 5:
        return (12.7062, 4.30265, 3.18245, 2.77645)[freedom - 1]
    z, v = Z95, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def checked(name: str, values: Sequence[object] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise UserError(f"{name}: no problems were scored, give at least one")
    return array


def paired_bootstrap(differences: npt.NDArray[np.float64], *, replicates: int = 10_000) -> Interval:
    """The mean of differences [S, N], of N problems under each of S random seeds, with its 95% interval.

    The interval is the percentile one of a bootstrap that draws seeds and problems anew, both with replacement: it says what
    other seeds and other problems might give. Of one seed it says what other problems might.
    """
    values = checked("paired_bootstrap", differences)
    rng, mean = np.random.default_rng(0), values.mean()
    by_seed, by_problem = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    means = mean + _widening(values) * _drawn(by_seed, rng, replicates) + _drawn(by_problem, rng, replicates)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(values.shape[1], float(mean), float(low), float(high))


def _drawn(
    values: npt.NDArray[np.float64], rng: np.random.Generator, replicates: int
) -> npt.NDArray[np.float64]:
    """Means [replicates] of as many values, drawn with replacement; equal ones are drawn together."""
    found, counts = np.unique(values, return_counts=True)
    return rng.multinomial(values.size, counts / values.size, replicates) @ found / values.size


def _widening(values: npt.NDArray[np.float64]) -> float:
    """Of what seeds drawn anew deviate by, so that few seeds do not look like a certain thing.

    Student's quantile in the normal one's place, and the deviation of S - 1 in that of S; of the seeds' variance the part
    that is their own: what single problems do under a seed is drawn with the problems already.
    """
    seeds, problems = values.shape
    by_seed, by_problem = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    spread = problems * by_seed.var(ddof=1) if seeds > 1 else 0.0
    if spread == 0 or problems == 1:
        return 0.0
    rest = np.square(values - by_seed - by_problem + values.mean()).sum() / ((seeds - 1) * (problems - 1))
    own = max(0.0, 1 - rest / spread)
    return float(_t95(seeds - 1) / Z95 * sqrt(seeds / (seeds - 1) * own))
