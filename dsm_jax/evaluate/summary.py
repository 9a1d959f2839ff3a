"""Samples of a benchmark into numbers: accuracy by mode, subject, level and language; pass@k, maj@k, best-of-k.

Every number carries n and its 95% interval. A problem whose gold answer cannot be scored in a mode is left out there and
counted. Left out on purpose: pictures and pages (experiments/evaluation_report.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.evaluate.at_k import best_of_k, majority_at_k, pass_at_k, weighted_majority_at_k
from dsm_jax.evaluate.samples import Sample, by_problem
from dsm_jax.evaluate.scores import Interval, mean_share

Problems = Sequence[Sequence[Sample]]  # [N][S]
Rewards = Mapping[tuple[str, int], float]  # by id and number of the sample
UNCHECKED = "unchecked"  # the reason of a proof that no server gave a verdict of
GROUPS = ("subject", "level", "language")


def summarize(rows: Sequence[Sample], ks: Sequence[int], rewards: Rewards | None = None) -> dict[str, Any]:
    """The numbers of one benchmark under one protocol, as JSON. ks: at most the number of samples a problem."""
    problems = by_problem(rows)
    modes = list(rows[0].correct)
    summary: dict[str, Any] = {
        "problems": len(problems),
        "samples": len(problems[0]),
        "accuracy": {
            mode: asdict(accuracy(problems, mode)) for mode in modes if may_be_scored(problems, mode)
        },
        "unscored": {mode: len(problems) - len(scored(problems, mode)) for mode in modes},
        "finish": dict(sorted(Counter(row.finish for row in rows).items())),
        "no_answer": sum(row.extracted is None for row in rows),
        "tokens": sum(row.tokens for row in rows) / len(rows),
    }
    if first := next((row.reason for row in rows if row.finish == "error"), ""):
        summary["error"] = first
    if unchecked := sum(row.reason == UNCHECKED for row in rows):
        summary["unchecked"] = unchecked
    if executed := Counter(row.executed for row in rows if row.executed):
        summary["executed"] = dict(sorted(executed.items()))
    for group in GROUPS:
        if len(parts := _groups(scored(problems, modes[0]), group)) > 1:
            summary[f"by_{group}"] = {name: asdict(accuracy(part, modes[0])) for name, part in parts.items()}
    if len(problems[0]) > 1 and may_be_scored(problems, modes[0]):
        known = scored(problems, modes[0])
        summary["at_k"] = {str(k): _at_k(known, modes[0], k, rewards) for k in ks}
    return summary


def scored(problems: Problems, mode: str) -> list[Sequence[Sample]]:
    """The problems whose gold answer can be scored in a mode."""
    return [one for one in problems if all(row.correct[mode] is not None for row in one)]


def may_be_scored(problems: Problems, mode: str) -> bool:
    """Whether a share would say something: where something was asked, and of proofs where all were checked (those refused
    unseen always are)."""
    unchecked = any(row.reason == UNCHECKED for one in problems for row in one)
    asked = any(row.finish != "error" for one in problems for row in one)
    return asked and not unchecked and bool(scored(problems, mode))


def accuracy(problems: Problems, mode: str) -> Interval:
    """The mean over problems of the share of samples that are right. UserError where none can be scored."""
    found = scored(problems, mode)
    if not found:
        raise UserError(
            f"{problems[0][0].benchmark}: no gold answer can be scored in mode {mode}; check its file"
        )
    shares = np.array([np.mean([bool(row.correct[mode]) for row in one]) for one in found])
    return mean_share(shares, len(found[0]))


def _groups(problems: Problems, field: str) -> dict[str, list[Sequence[Sample]]]:
    """The problems apart by the value of a field."""
    parts: dict[str, list[Sequence[Sample]]] = {}
    for one in problems:
        parts.setdefault(getattr(one[0], field), []).append(one)
    return dict(sorted(parts.items()))


def _at_k(problems: Problems, mode: str, k: int, rewards: Rewards | None) -> dict[str, Any]:
    correct = [[bool(row.correct[mode]) for row in one] for one in problems]
    votes = [[row.vote for row in one] for one in problems]
    scores = {"pass": pass_at_k(correct, k)}
    if any(vote is not None for row in votes for vote in row):
        scores["maj"] = majority_at_k(votes, correct, k)
    if rewards is not None:
        of_rows = [[_reward(rewards, row) for row in one] for one in problems]
        scores["best"] = best_of_k(of_rows, correct, k)
        if "maj" in scores:
            scores["weighted_maj"] = weighted_majority_at_k(votes, of_rows, correct, k)
    return {name: asdict(score) for name, score in scores.items()}


def _reward(rewards: Rewards, row: Sample) -> float:
    if (row.id, row.sample) not in rewards:
        raise UserError(
            f"--rewards: none of {row.benchmark} {row.protocol}, id {row.id}, sample {row.sample}; add its row"
        )
    return rewards[row.id, row.sample]
