"""Shares with intervals: accuracy, paired differences, unbiased pass@k, majority votes. Pure numpy.

Every score carries its number of problems n and a 95% interval. Left out on purpose: p-values and corrections
for many comparisons; an interval that holds 0 says "undecided".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import numpy.typing as npt

from dsm_jax.errors import UserError

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
    outcomes = _checked("share", correct)
    return wilson(outcomes.sum(), outcomes.size)


def wilson(successes: float, n: int) -> Interval:
    """Wilson's 95% interval of successes / n; a mean of n values in 0..1 may stand for the share."""
    p, shrink = successes / n, 1 + Z95**2 / n
    centre = (p + Z95**2 / (2 * n)) / shrink
    half = Z95 / shrink * sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Interval(n, float(p), float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Mean of ours[i] - theirs[i] over the same n problems, scores in 0..1.

    95% interval: the normal one of the n differences, with one success and one failure added to each side
    (Agresti and Min 2005), so that few or no disagreements do not give an interval of width 0.
    """
    a, b = _checked("paired_difference", ours), _checked("paired_difference", theirs)
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


def pass_at_k(correct: Sequence[Sequence[bool]] | npt.NDArray[np.bool_], k: int) -> Interval:
    """Unbiased pass@k (Chen et al. 2021): the mean over problems of 1 - C(s - c, k) / C(s, k).

    correct: [N, S], S samples of each of N problems, S >= k. With S = k every problem is 0 or 1 and the
    interval is Wilson's; with more samples Wilson's interval of the mean is wider than needed.
    """
    outcomes = _checked("pass@k", correct)
    samples = outcomes.shape[1]
    _check_k("pass@k", k, samples)
    missed = [comb(samples - int(right), k) / comb(samples, k) for right in outcomes.sum(axis=1)]
    return wilson(float(len(missed) - sum(missed)), len(missed))


def majority_at_k(
    keys: Sequence[Sequence[str | None]], correct: Sequence[Sequence[bool]], k: int
) -> Interval:
    """maj@k: the share of problems whose most frequent answer among the first k samples is right.

    keys: [N, S], normalised answers (grader.answer_key); None is a sample without an answer: it does not
    vote. correct: [N, S]. Ties go to the answer seen first; a problem without any vote is wrong.
    """
    if len(keys) != len(correct):
        raise UserError(
            f"maj@k: answers of {len(keys)} problems, verdicts of {len(correct)}: use the same problems"
        )
    for row in keys:
        _check_k("maj@k", k, len(row))
    return share([_majority(row[:k], right[:k]) for row, right in zip(keys, correct, strict=True)])


def _majority(keys: Sequence[str | None], correct: Sequence[bool]) -> bool:
    votes = Counter(key for key in keys if key is not None)
    if not votes:
        return False
    winner, _ = votes.most_common(1)[0]  # of equals, the one counted first
    return bool(correct[keys.index(winner)])


def _checked(name: str, values: Sequence[object] | npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise UserError(f"{name}: no problems were scored, give at least one")
    return array


def _check_k(name: str, k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise UserError(f"{name}: k = {k} with {samples} samples a problem, choose k from 1 to {samples}")
