"""How good step scores are, and step labels: against the truth of each step. Pure numpy.

S solutions, each with the scores [K] of its steps, their truths (true: this step and all before it are right), and its
problem. Each measure has a 95% interval by bootstrap over problems, since the steps of a solution, and the solutions
of a problem, are alike. A measure that the data cannot tell (one class only) is None. Left out on purpose: where scores
come from; choosing the threshold on what is measured (first_error_threshold is for other solutions than those).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dsm_jax.errors import UserError
from dsm_jax.evaluate.scores import Interval

Floats = npt.NDArray[np.float64]
REPLICATES = 1000
BINS = 10


@dataclass(frozen=True)
class Scored:
    """Scores and truths of solutions, their steps one after the other."""

    scores: Floats  # [steps]
    truths: npt.NDArray[np.bool_]  # [steps]
    solution: npt.NDArray[np.int64]  # [steps], from 0 to S - 1
    problem: npt.NDArray[np.int64]  # [S], from 0 on
    starts: npt.NDArray[np.int64]  # [S], index of each solution's first step

    @property
    def problems(self) -> int:
        return int(self.problem.max()) + 1


@dataclass(frozen=True)
class StepMeasures:
    """n of an interval is the number of problems."""

    steps: int
    solutions: int
    problems: int
    threshold: float  # a step counts as true where its score is at least this
    auc: Interval | None  # over all steps
    auc_within: Interval | None  # mean over the solutions that have true and false steps
    mixed: int  # so many of these
    accuracy: Interval | None
    majority: Interval | None  # what the more frequent label alone would reach
    balanced_accuracy: Interval | None  # mean of the accuracies on true and on false steps
    first_error_f1: Interval | None
    calibration_error: Interval | None  # None where scores are not within 0..1


def scored(
    scores: Sequence[Sequence[float] | Floats],
    truths: Sequence[Sequence[bool] | npt.NDArray[np.bool_]],
    problems: Sequence[Hashable],
) -> Scored:
    """Of S solutions: scores and truths of their steps, and what tells their problems apart. Raises UserError where they
    do not fit, or there is no step."""
    lengths = [len(row) for row in scores]
    if lengths != [len(row) for row in truths] or len(lengths) != len(problems):
        raise UserError("step measures: scores, truths and problems are not of the same solutions and steps")
    if not sum(lengths) or not all(lengths):
        raise UserError(
            "step measures: a solution without a step, or none at all; give those that have steps"
        )
    flat = np.concatenate([np.asarray(row, np.float64) for row in scores])
    if not np.isfinite(flat).all():
        raise UserError("step measures: a score is not a finite number; look at the model that gave it")
    names = {name: index for index, name in enumerate(dict.fromkeys(problems))}
    return Scored(
        flat,
        np.concatenate([np.asarray(row, bool) for row in truths]),
        np.repeat(np.arange(len(lengths)), lengths),
        np.array([names[name] for name in problems]),
        np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
    )


def step_measures(data: Scored, *, threshold: float = 0.5, replicates: int = REPLICATES) -> StepMeasures:
    """All measures, at the threshold that those have which need one."""
    within, mixed = _aucs_within(data)

    def measure(value: Callable[[Floats], float]) -> Interval | None:
        return bootstrap(data, value, replicates)

    unit = data.scores.min() >= 0 and data.scores.max() <= 1
    return StepMeasures(
        data.scores.size,
        data.problem.size,
        data.problems,
        threshold,
        measure(_auc_of(data.scores, data.truths, data.solution)),
        measure(lambda weights: _mean(within, weights * mixed)),
        int(mixed.sum()),
        measure(_mean_of((data.scores >= threshold) == data.truths, data.solution)),
        measure(lambda weights: _majority(data.truths, weights[data.solution])),
        measure(lambda weights: _balanced(data.scores >= threshold, data.truths, weights[data.solution])),
        measure(_first_error_f1_of(data, threshold)),
        measure(_calibration_error_of(data, BINS)) if unit else None,
    )


def auc(scores: Floats, truths: npt.NDArray[np.bool_]) -> float:
    """The chance that a true step scores above a false one, ties counted half; nan where there is only one kind."""
    return _auc_of(scores, truths, np.arange(len(scores)))(np.ones(len(scores)))


def first_errors(data: Scored, threshold: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int [S] twice: the first step, from 0 on, whose score is below the threshold; the first false one. -1: none."""
    return _first(data.scores < threshold, data), _first(~data.truths, data)


def first_error_threshold(data: Scored) -> float:
    """The threshold with the best first-error F1 on these solutions: choose it on others than those that are measured.

    Any threshold between two neighbouring scores does the same: it is the middle of the best such stretch, of the lowest
    where several are best. Raises UserError where not both right and wrong solutions are there.
    """
    first = _first(~data.truths, data)
    wrong, values = first >= 0, np.unique(data.scores)
    if wrong.all() or not wrong.any():
        raise UserError(
            "first-error threshold: it needs solutions with a false step and solutions without one"
        )
    place = np.arange(data.scores.size) - data.starts[data.solution]
    earlier = np.where(wrong[data.solution], place < first[data.solution], True)
    least = np.minimum.reduceat(np.where(earlier, data.scores, np.inf), data.starts)  # of the steps before it
    # An error is found by thresholds above its own score, up to the least one before it.
    error, before = data.scores[(data.starts + first)[wrong]], least[wrong]
    found = _below(error[error < before], values) - _below(before[error < before], values)
    passed = np.sum(~wrong) - _below(least[~wrong], values)
    best = int(np.argmax(_harmonic(found / wrong.sum(), passed / np.sum(~wrong))))
    middle = (values[max(0, best - 1)] + values[best]) / 2
    return float(middle if best and middle > values[best - 1] else values[best])


def calibration(
    data: Scored, *, bins: int = BINS, replicates: int = REPLICATES
) -> list[tuple[float, Interval]]:
    """Of each bin of equal width of scores in 0..1 that has steps: their mean score, and the share that is true (n steps).

    What evaluate.figures.calibration_curves draws.
    """
    place = _bins(data.scores, bins)
    found = []
    for index in np.unique(place):
        inside = place == index
        true = bootstrap(data, _mean_of(data.truths[inside], data.solution[inside]), replicates)
        if true is not None:
            steps = Interval(int(inside.sum()), true.value, true.low, true.high)
            found.append((float(data.scores[inside].mean()), steps))
    return found


def bootstrap(
    data: Scored, value: Callable[[Floats], float], replicates: int = REPLICATES
) -> Interval | None:
    """A measure of weights [S] of the solutions, with its 95% interval: problems drawn with replacement, always the same.

    None where the measure is nan on the data itself. Draws of which it is nan (one class only) are left out.
    """
    point = value(np.ones(data.problem.size))
    if np.isnan(point):
        return None
    rng, count = np.random.default_rng(0), data.problems
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=replicates).astype(np.float64)
    values = np.array([value(weights[data.problem]) for weights in drawn] or [point])
    low, high = np.nanquantile(values, [0.025, 0.975]) if not np.isnan(values).all() else (point, point)
    return Interval(count, float(point), float(min(low, point)), float(max(high, point)))


# Measures of weights [S] of the solutions; nan where they cannot be told


def _auc_of(
    scores: Floats, truths: npt.NDArray[np.bool_], solution: npt.NDArray[np.int64]
) -> Callable[[Floats], float]:
    values, rank = np.unique(scores, return_inverse=True)

    def value(weights: Floats) -> float:
        weight = weights[solution]
        true = np.bincount(rank, weight * truths, len(values))
        false = np.bincount(rank, weight * ~truths, len(values))
        below = np.cumsum(false) - false
        pairs = true.sum() * false.sum()
        return float((true * (below + false / 2)).sum() / pairs) if pairs else np.nan

    return value


def _aucs_within(data: Scored) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """[S] twice: the AUC of each solution, 0 where it has one kind of steps; whether it has both."""
    parts = zip(np.split(data.scores, data.starts[1:]), np.split(data.truths, data.starts[1:]), strict=True)
    values = np.array([auc(scores, truths) for scores, truths in parts])
    return np.nan_to_num(values), ~np.isnan(values)


def _mean_of(values: npt.NDArray[Any], solution: npt.NDArray[np.int64]) -> Callable[[Floats], float]:
    return lambda weights: _mean(values, weights[solution])


def _mean(values: npt.NDArray[Any], weights: Floats) -> float:
    total = weights.sum()
    return float((values * weights).sum() / total) if total else np.nan


def _majority(truths: npt.NDArray[np.bool_], weights: Floats) -> float:
    share = _mean(truths, weights)
    return max(share, 1 - share)


def _balanced(said: npt.NDArray[np.bool_], truths: npt.NDArray[np.bool_], weights: Floats) -> float:
    return (_mean(said, weights * truths) + _mean(~said, weights * ~truths)) / 2


def _first_error_f1_of(data: Scored, threshold: float) -> Callable[[Floats], float]:
    said, first = first_errors(data, threshold)
    wrong, hit = first >= 0, said == first

    def value(weights: Floats) -> float:
        return float(_harmonic(_mean(hit, weights * wrong), _mean(hit, weights * ~wrong)))

    return value


def _calibration_error_of(data: Scored, bins: int) -> Callable[[Floats], float]:
    """The mean over steps of the distance between the mean score of a step's bin and the share that is true in it."""
    place, excess = _bins(data.scores, bins), data.scores - data.truths

    def value(weights: Floats) -> float:
        weight = weights[data.solution]
        return float(np.abs(np.bincount(place, weight * excess, bins)).sum() / weight.sum())

    return value


def _bins(scores: Floats, bins: int) -> npt.NDArray[np.int64]:
    if scores.min() < 0 or scores.max() > 1:
        raise UserError("calibration: scores are not within 0..1; give probabilities")
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def _first(flags: npt.NDArray[np.bool_], data: Scored) -> npt.NDArray[np.int64]:
    """[S], the first step of each solution with a flag, from 0 on; -1 where none has one."""
    place = np.arange(flags.size) - data.starts[data.solution]
    first = np.minimum.reduceat(np.where(flags, place, flags.size), data.starts)
    return np.where(first < flags.size, first, -1)


def _below(numbers: Floats, values: Floats) -> npt.NDArray[np.int64]:
    """For each value how many numbers are below it."""
    return np.searchsorted(np.sort(numbers), values)


def _harmonic(a: float | Floats, b: float | Floats) -> Floats:
    both = np.add(a, b)
    return np.where(both == 0, 0.0, 2 * np.multiply(a, b) / np.where(both == 0, 1.0, both))
