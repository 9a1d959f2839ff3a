"""Questions as the prompts of an RL run: of several sources, in the model's template, each epoch in an order of its own.

Rollout i asks rows i * count to (i + 1) * count of the epochs laid one after the other, so that the data state is the
number of the rollout. All of a row's fields go on, for rewards. With a curriculum questions are drawn by what came of them
the last time instead. Left out on purpose: weights of sources.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.prompts import prompt_ids, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.rl.questions import TRAIN, name_of, read_questions
from dsm_jax.tokenizer import Tokenizer

TAKEN = ("prompt", "prompts", "completions", "completion_ids", "step")  # a reward's other arguments
LEAST_WEIGHT = 0.05  # of a question that is always or never answered right, beside one that never was asked
Row = Mapping[str, Any]  # "prompt", the text that is completed, and the columns that rewards take


class Prompts:
    """Called with the number of a rollout it gives that one's `count` rows, over the ends of epochs.

    An epoch's order is a function of (rng_seed, epoch, number of rows) alone. Raises UserError for a field that is named as
    a reward's other arguments are.
    """

    def __init__(self, rows: Sequence[Row], count: int, rng_seed: int):
        self.rows, self.count, self.rng_seed = rows, count, rng_seed
        self.columns = column_names(rows)

    def __call__(self, iteration: int) -> list[Row]:
        first = iteration * self.count
        return [self.rows[self._place(index)] for index in range(first, first + self.count)]

    def choose(self, iteration: int, success: np.ndarray, without: Sequence[int] = ()) -> np.ndarray:
        """The numbers of `count` different rows, drawn by what can be learned from them; none of those in `without`.

        success: float [rows], the share of right completions when a row was last asked, NaN where it never was. A share p
        has the weight 4 p (1 - p), never asked 1, and none less than LEAST_WEIGHT. A function of the arguments alone.
        """
        weights = np.where(np.isnan(success), 1.0, np.maximum(4 * success * (1 - success), LEAST_WEIGHT))
        uniform = np.random.default_rng((self.rng_seed, iteration)).uniform(size=len(self.rows))
        # The largest: weighted sampling without replacement (Efraimidis, Spirakis 2006).
        keys = uniform ** (1 / weights)
        keys[list(without)] = -1
        return np.sort(np.argsort(keys)[-self.count :])

    def fingerprint(self) -> str:
        """A short name of the rows and their order."""
        return hashlib.sha256(json.dumps(self.rows, default=str).encode()).hexdigest()[:16]

    def _place(self, index: int) -> int:
        epoch, at = divmod(index, len(self.rows))
        return int(epoch_order(self.rng_seed, epoch, len(self.rows))[at])


def column_names(rows: Sequence[Row]) -> list[str]:
    """The fields of any of the rows that rewards take."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "prompt"]
    for name in names:
        if name in TAKEN:
            raise UserError(
                f"prompts: a row has the field {name}, which is a reward's own argument; rename it"
            )
    return names


def read_all_questions(
    sources: Sequence[str],
    skipped: Counter[str],
    *,
    split: str = TRAIN,
    only: Sequence[str] = (),
    without: Collection[str] = (),
) -> list[Row]:
    """The rows of read_questions of every source, a question that stood in an earlier one left out.

    without: questions that must not be among them, such as the evaluation's. Rows without a field `source` get one: the
    name of the set or of the file. Raises UserError where nothing is left.
    """
    found: dict[str, Row] = {}
    for source in sources:
        for row in read_questions(source, split=split, only=only, skipped=skipped):
            question = row["question"]
            if question in found or question in without:
                skipped["stood before" if question in found else "asked in the evaluation"] += 1
            else:
                found[question] = {"source": name_of(source)} | row
    return _not_empty(list(found.values()), skipped)


def prompt_rows(
    questions: Sequence[Row], tokenizer: Tokenizer, instruction: str, longest: int, skipped: Counter[str]
) -> list[Row]:
    """The questions with their `prompt`, the instruction behind each; those of over `longest` tokens are left out.

    Every row has the same fields: one that it had not is None, one named as a reward's other arguments goes, and what JSON
    has no form for (a date) comes as text. Raises UserError where nothing is left.
    """
    names = sorted({name for row in questions for name in row} - set(TAKEN))
    found: list[Row] = []
    for row in questions:
        asked = row["question"] + instruction
        if len(prompt_ids(asked, tokenizer)) <= longest:
            found.append({"prompt": prompt_text(asked)} | _plain({name: row.get(name) for name in names}))
    if skips := len(questions) - len(found):
        skipped[f"longer than {longest} tokens"] += skips
    return _not_empty(found, skipped)


def longest_prompt(rows: Sequence[Row], tokenizer: Tokenizer) -> int:
    """Tokens of the longest one, bos included."""
    return max(1 + len(tokenizer.encode(row["prompt"])) for row in rows)


def problem_prompts(problems: ProblemSet, count: int, instruction: str = "") -> Callable[[int], list[Row]]:
    """Prompts of the generator: rollout i asks problems i * count to (i + 1) * count, the instruction behind each."""

    def rows(iteration: int) -> list[Row]:
        asked = (problems[iteration * count + i] for i in range(count))
        return [{"prompt": prompt_text(one.question + instruction), "answer": one.answer} for one in asked]

    return rows


def told(count: int, skipped: Mapping[str, int]) -> str:
    """In words: how many questions there are, and how many are left out for which reason."""
    left = ", ".join(f"{number:,} {reason}" for reason, number in sorted(skipped.items()) if number)
    return f"{count:,} questions; left out: {left or 'none'}"


def _not_empty(rows: list[Row], skipped: Mapping[str, int]) -> list[Row]:
    if not rows:
        raise UserError(f"--prompts: {told(0, skipped)}; give others, or lower --grpo.max-completion-length")
    return rows


def _plain(row: Row) -> dict[str, Any]:
    return json.loads(json.dumps(row, default=str))


@lru_cache(maxsize=2)  # the rollouts at an epoch's end take from two
def epoch_order(rng_seed: int, epoch: int, count: int) -> np.ndarray:
    """int [count], the order in which an epoch takes what there is."""
    return np.random.default_rng((rng_seed, epoch)).permutation(count)
