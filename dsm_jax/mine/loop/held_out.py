"""How well scores rank labelled pages that were held out: average precision, per site too, and calibration.

math_marks is what a classifier has to beat: a plain count, without any training.

Left out on purpose: reading labels, intervals over random seeds, plots.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum

_WORDS = (
    "algebra algebraic axiom calculus coefficient conjecture converge converges convergent corollary cosine "
    "definition denote denotes derivative determinant differentiable divisible eigenvalue equation equations "
    "exponent factorial finite formula function functions geometry graph group homomorphism infinite inequality "
    "integer integers integral isomorphic isomorphism lemma linear logarithm mathematical mathematics matrix "
    "matrices modulo multiplication numerator permutation polynomial polynomials prime primes probability proof "
    "proofs proposition prove proved rational ring scalar sine square subset sum theorem theorems theory "
    "topology triangle triangles variable variables vector vectors"
)
MATH_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS.split())})\b", re.IGNORECASE)
_MARK = re.compile(rf"\\[A-Za-z]+|{MATH_WORD.pattern}", re.IGNORECASE)


@dataclass(frozen=True)
class CalibrationBin:
    """Pages with scores from `low` up to `high`: how many, their mean score and share of mathematics."""

    low: float
    high: float
    pages: int
    mean_score: float | None
    math_share: float | None


def average_precision(labels: Iterable[bool], scores: Iterable[float]) -> float:
    """The precision at every score of a mathematical page, averaged over those pages.

    Pages of equal score count as found together, so the order of the pages does not matter. Raises ValueError
    without a mathematical page.
    """
    ranked = sorted(zip(scores, labels, strict=True), reverse=True)
    positives = sum(label for _, label in ranked)
    if not positives:
        raise ValueError("average precision needs a page of mathematics")
    seen = found = 0
    parts = []
    for _, ties in groupby(ranked, key=lambda pair: pair[0]):
        tied = [label for _, label in ties]
        seen, found = seen + len(tied), found + sum(tied)
        parts.append(sum(tied) * found / seen)
    return fsum(parts) / positives


def average_precision_by_site(
    sites: Sequence[str], labels: Sequence[bool], scores: Sequence[float]
) -> dict[str, float]:
    """Average precision of each site's mathematics against the other pages of all sites, by the site's name."""
    pages = list(zip(sites, labels, scores, strict=True))
    others = [score for _, label, score in pages if not label]
    table = {}
    for site in sorted({site for site, label, _ in pages if label}):
        own = [score for at, label, score in pages if label and at == site]
        table[site] = average_precision([True] * len(own) + [False] * len(others), own + others)
    return table


def calibration(labels: Sequence[bool], scores: Sequence[float], bins: int = 10) -> list[CalibrationBin]:
    """Bins of equal width over [0, 1], a score on an edge in the upper one; None for those without a page.

    Raises ValueError for a score that is no probability.
    """
    inside: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for score, label in zip(scores, labels, strict=True):
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be from 0 to 1, not {score}")
        inside[min(int(score * bins), bins - 1)].append((score, label))
    return [
        CalibrationBin(
            low=i / bins,
            high=(i + 1) / bins,
            pages=len(pages),
            mean_score=fsum(score for score, _ in pages) / len(pages) if pages else None,
            math_share=sum(label for _, label in pages) / len(pages) if pages else None,
        )
        for i, pages in enumerate(inside)
    ]


def math_marks(text: str) -> int:
    """TeX commands and mathematical words of an English text, counted."""
    return len(_MARK.findall(text))
