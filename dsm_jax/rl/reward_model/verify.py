"""Verification: which of N samples a reward model picks, beside self-consistency (Math-Shepherd, section 3.4 and table 1).

A solution's score is the least of its steps' (the paper's choice), their product, or the last one. Best-of-N takes the
sample of the highest score; weighted self-consistency the answer with the largest sum of scores; self-consistency the most
frequent one. Every number is a mean over problems with its 95% interval, and differences are paired by problem.
Left out on purpose: drawing and scoring the samples; corrections for many comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.evaluate.at_k import best_of_k, majority_at_k, pass_at_k, weighted_majority_at_k
from dsm_jax.evaluate.report import Table
from dsm_jax.evaluate.scores import Interval, paired_difference, paired_test

# Of a solution's step scores [K], probabilities.
AGGREGATES: Mapping[str, Callable[[np.ndarray], float]] = {
    "min": lambda steps: float(steps.min()),
    "product": lambda steps: float(np.prod(steps, dtype=np.float64)),
    "last": lambda steps: float(steps[-1]),
}
ONE, MAJORITY, ANY = "one sample", "self-consistency", "any of them"


@dataclass(frozen=True)
class Samples:
    """S samples of a problem."""

    votes: Sequence[Hashable | None]  # [S] what equal answers have in common (grader.votes); None: no answer
    correct: Sequence[bool]  # [S]
    steps: Sequence[np.ndarray]  # [S] of [K] probabilities; a sample without a step has the score 0

    def scores(self, aggregate: str) -> list[float]:
        """[S] of the solutions."""
        return [AGGREGATES[aggregate](one) if len(one) else 0.0 for one in self.steps]


@dataclass(frozen=True)
class Choice:
    """What a way of choosing among k samples gives."""

    name: str
    k: int
    share: Interval  # of problems answered right
    over_one: Interval  # its difference from one sample
    over_majority: Interval  # its difference from self-consistency with as many samples
    p_majority: float  # two-sided p-value of the latter


def verify(
    problems: Sequence[Samples], ks: Sequence[int], aggregates: Sequence[str] = tuple(AGGREGATES)
) -> list[Choice]:
    """Every way of choosing, for each k. ks: at most the number of samples a problem. aggregates: of AGGREGATES; of an
    outcome reward model, which gives one score, ("last",). The row "any of them" is pass@k, which none can exceed."""
    if not problems:
        raise UserError("verification: no problem has samples; give at least one")
    one = _Way(ONE, lambda votes, scores, correct, k: pass_at_k(correct, 1), "min")
    found = []
    for k in ks:
        ways = [one, *_ways(aggregates)]
        values = {way.name: way.by_problem(problems, k) for way in ways}
        found += [
            Choice(
                way.name,
                k,
                way.share(problems, k),
                paired_difference(values[way.name], values[ONE]),
                paired_difference(values[way.name], values[MAJORITY]),
                paired_test(values[way.name], values[MAJORITY]),
            )
            for way in ways
        ]
    return found


def between(
    ours: Sequence[Samples], theirs: Sequence[Samples], k: int, aggregates: tuple[str, str]
) -> dict[str, Interval]:
    """What one reward model gives over another on the same samples, best-of-k and weighted self-consistency: differences
    paired by problem. aggregates: ours and theirs."""
    pairs = zip(_of_scores(aggregates[0]), _of_scores(aggregates[1]), strict=True)
    return {
        f"{one.name} over {other.name}": paired_difference(
            one.by_problem(ours, k), other.by_problem(theirs, k)
        )
        for one, other in pairs
    }


def verification_table(choices: Sequence[Choice]) -> Table:
    """The choices as rows of a report, in percent and points."""
    header = (
        "choice",
        "samples",
        "right",
        "95%",
        "over one sample",
        "95%",
        "over self-consistency",
        "95%",
        "p",
    )
    rows = []
    for one in choices:
        cells = [one.name, str(one.k)]
        for interval in (one.share, one.over_one, one.over_majority):
            cells += [f"{100 * interval.value:.1f}", f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"]
        rows.append((*cells, f"{one.p_majority:.3f}"))
    return Table(header, tuple(rows))


@dataclass(frozen=True)
class _Way:
    """A way of choosing: an at_k function of votes, scores and verdicts [N, S], and what makes the scores."""

    name: str
    at_k: Callable[[list, list, list, int], Interval]
    aggregate: str

    def share(self, problems: Sequence[Samples], k: int) -> Interval:
        votes, correct = [one.votes for one in problems], [one.correct for one in problems]
        return self.at_k(votes, [one.scores(self.aggregate) for one in problems], correct, k)

    def by_problem(self, problems: Sequence[Samples], k: int) -> np.ndarray:
        """float64 [N]: how likely each problem is answered right; rounded: equal chances are equal however computed."""
        return np.round([self.share([one], k).value for one in problems], 12)


def _of_scores(aggregate: str) -> tuple[_Way, _Way]:
    """Best-of-k and the weighted vote."""
    return (
        _Way(
            f"best by {aggregate}", lambda votes, scores, correct, k: best_of_k(scores, correct, k), aggregate
        ),
        _Way(f"{MAJORITY}, weighted by {aggregate}", weighted_majority_at_k, aggregate),
    )


def _ways(aggregates: Sequence[str]) -> list[_Way]:
    best, weighted = zip(*map(_of_scores, aggregates), strict=True)
    return [
        _Way(MAJORITY, lambda votes, scores, correct, k: majority_at_k(votes, correct, k), "min"),
        *best,
        *weighted,
        _Way(ANY, lambda votes, scores, correct, k: pass_at_k(correct, k), "min"),
    ]
