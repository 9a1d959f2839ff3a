"""How well the rewards of compare_algorithms.py's runs tell right completions of one question from wrong ones. Not a script.

GRPO sees rewards within a group only, so a reward model may tell easy questions from hard ones and teach nothing. Read from
the runs' completions/, at their first and at their last rollouts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.evaluate.grader import grade
from dsm_jax.evaluate.scores import share
from dsm_jax.rl.reward_model.measures import auc

ENDS = {"first": slice(None, 4), "last": slice(-4, None)}  # rollouts
Group = tuple[np.ndarray, np.ndarray]  # rewards, and whether the completion is right


def judging(runs: Sequence[Path]) -> dict[str, Any]:
    """By the end of the runs: groups, the share of them without a right completion, and over those with right and wrong ones
    the AUC, how often the best-rewarded completion is right, and how often one taken by chance would be."""
    groups = {name: [group for run in runs for group in _groups(run, at)] for name, at in ENDS.items()}
    return {name: _judged(there) for name, there in groups.items() if there}


def _judged(groups: Sequence[Group]) -> dict[str, Any]:
    mixed = [(rewards, right) for rewards, right in groups if right.any() and not right.all()]
    found: dict[str, Any] = {"groups": len(groups), "mixed": len(mixed)}
    found["none_right"] = asdict(share([not right.any() for _, right in groups]))
    if mixed:
        chance = np.mean([right.mean() for _, right in mixed])
        best = [bool(right[rewards.argmax()]) for rewards, right in mixed]
        found |= {"auc": float(np.mean([auc(*one) for one in mixed])), "best_right": asdict(share(best))}
        found["chance"] = float(chance)
    return found


def _groups(run: Path, at: slice) -> list[Group]:
    files = sorted((run / "completions").glob("*.jsonl"))[at]
    return [group for file in files for group in _of_rollout(file)]


@cache  # a comparison asks after each of its runs, and files of runs that have ended do not change
def _of_rollout(file: Path) -> list[Group]:
    """A question that is asked twice in a row is one group."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row["prompt"])]
    return [
        (np.array([one["reward"] for one in group]), np.array([_is_right(one) for one in group]))
        for group in groups
    ]


def _is_right(row: dict[str, Any]) -> bool:
    return bool(grade(row["completion"], row["answer"]).correct)
