"""What k samples of a problem give: pass@k, majority votes, best-of-k by a reward. Pure numpy.

All k come from one set of S samples a problem: each score is the mean over every choice of k of them, not one draw's.
Left out on purpose: what makes two answers equal (grader), where rewards come from.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from math import comb, exp, lgamma, log, log1p

import numpy as np
import numpy.typing as npt

from dsm_jax.errors import UserError
from dsm_jax.evaluate.scores import Interval, checked, mean_share


def usual_ks(samples: int) -> tuple[int, ...]:
    """1, 2, 4, .. and all of them."""
    return tuple(sorted({*(2**i for i in range(samples.bit_length())), samples}))


def pass_at_k(correct: Sequence[Sequence[bool]] | npt.NDArray[np.bool_], k: int) -> Interval:
    """Unbiased pass@k (Chen et al. 2021): the mean over problems of 1 - C(s - c, k) / C(s, k).

    correct: [N, S], S samples of each of N problems, S >= k.
    """
    outcomes = checked("pass@k", correct)
    samples = outcomes.shape[1]
    _check_k("pass@k", k, samples)
    missed = [comb(samples - int(right), k) / comb(samples, k) for right in outcomes.sum(axis=1)]
    return mean_share(1 - np.array(missed), samples)


def majority_at_k(
    votes: Sequence[Sequence[Hashable | None]], correct: Sequence[Sequence[bool]], k: int
) -> Interval:
    """maj@k: the chance that the most frequent answer among k samples is right, over all choices of k of the S samples.

    votes: [N, S], what equal answers have in common (grader.cluster); None does not vote. correct: [N, S]; an answer is
    right where its first sample is. Of t answers that lead together each wins with 1/t; without any vote none does.
    """
    if len(votes) != len(correct):
        raise UserError(
            f"maj@k: answers of {len(votes)} problems, verdicts of {len(correct)}: use the same problems"
        )
    for row in votes:
        _check_k("maj@k", k, len(row))
    values = [_majority(row, right, k) for row, right in zip(votes, correct, strict=True)]
    return mean_share(checked("maj@k", values), len(votes[0]))


def _majority(votes: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """The sum, over right answers, of the chance that it wins in k samples drawn without replacement."""
    counts = Counter(vote for vote in votes if vote is not None)
    silent, share = len(votes) - counts.total(), k / len(votes)
    won = 0.0
    for answer, count in counts.items():
        if correct[votes.index(answer)]:
            others = [other for name, other in counts.items() if name != answer]
            own = _binomial(count, share)
            won += sum(
                own[most] * _others(others, silent, share, most, k - most)
                for most in range(1, min(count, k) + 1)
            )
    return float(won / _binomial(len(votes), share)[k])


def _others(others: Sequence[int], silent: int, share: float, most: int, k: int) -> float:
    """How likely k samples of the other answers are, none of these more than `most` times; where t come as often, 1 / (t + 1) of it.

    Each sample is drawn with probability `share`: given how many are drawn, every choice of them is as likely, and the numbers
    stay moderate. others: how many samples each answer has. chance[t, m]: m drawn so far, t answers `most` times.
    """
    chance = np.zeros((k // most + 1, k + 1))
    none = _binomial(silent, share)[: k + 1]
    chance[0, : len(none)] = none
    for count in others:
        before, chance, drawn_of = chance, np.zeros_like(chance), _binomial(count, share)
        for drawn in range(min(count, most, k) + 1):
            tied = int(drawn == most)
            chance[tied:, drawn:] += drawn_of[drawn] * before[: len(chance) - tied, : k + 1 - drawn]
    return float((chance[:, k] / np.arange(1, len(chance) + 1)).sum())


@lru_cache(maxsize=4096)
def _binomial(n: int, share: float) -> npt.NDArray[np.float64]:
    """[n + 1], the chance of each number of n samples; share is above 0 and at most 1."""
    if share == 1:
        return np.eye(n + 1)[n]
    return np.array(
        [
            exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(share) + (n - i) * log1p(-share))
            for i in range(n + 1)
        ]
    )


def best_of_k(rewards: Sequence[Sequence[float]], correct: Sequence[Sequence[bool]], k: int) -> Interval:
    """Best-of-k: the chance that the sample of the highest reward among k is right, over all choices of k of the S samples.

    rewards, correct: [N, S]. Of equal rewards each wins as often.
    """
    scores, outcomes = checked("best-of-k", rewards), checked("best-of-k", correct)
    samples = scores.shape[1]
    _check_k("best-of-k", k, samples)
    values = []
    for score, right in zip(scores, outcomes, strict=True):
        order = np.sort(score)
        below, up_to = np.searchsorted(order, score, "left"), np.searchsorted(order, score, "right")
        reached = [comb(int(b), k) - comb(int(a), k) for a, b in zip(below, up_to, strict=True)]
        equal = up_to - below
        values.append(
            sum(share / comb(samples, k) / n * ok for share, n, ok in zip(reached, equal, right, strict=True))
        )
    return mean_share(np.array(values), samples)


def weighted_majority_at_k(
    votes: Sequence[Sequence[Hashable | None]],
    rewards: Sequence[Sequence[float]],
    correct: Sequence[Sequence[bool]],
    k: int,
) -> Interval:
    """Weighted self-consistency: the answer with the largest sum of rewards wins, in each S // k blocks of k samples in turn.

    votes, rewards, correct: [N, S]; rewards at least 0. Of equal sums the answer seen first wins.
    """
    values = []
    for vote, reward, right in zip(votes, rewards, correct, strict=True):
        _check_k("weighted maj@k", k, len(vote))
        blocks = [slice(at, at + k) for at in range(0, len(vote) // k * k, k)]
        values.append(np.mean([_heaviest(vote[block], reward[block], right[block]) for block in blocks]))
    return mean_share(checked("weighted maj@k", values), max(1, len(votes[0]) // k))


def _heaviest(votes: Sequence[Hashable | None], rewards: Sequence[float], correct: Sequence[bool]) -> bool:
    weights: dict[Hashable, float] = {}
    for vote, reward in zip(votes, rewards, strict=True):
        if vote is not None:
            weights[vote] = weights.get(vote, 0.0) + reward
    if not weights:
        return False
    return bool(correct[votes.index(max(weights, key=lambda vote: weights[vote]))])


def _check_k(name: str, k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise UserError(f"{name}: k = {k} with {samples} samples a problem, choose k from 1 to {samples}")
