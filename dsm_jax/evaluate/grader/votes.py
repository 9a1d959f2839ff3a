"""Which answers of one problem are the same answer, for majority votes: by a key, then by the full comparison of different keys."""

from __future__ import annotations

from collections.abc import Sequence

from dsm_jax.evaluate.grader.equal import same_answer
from dsm_jax.evaluate.grader.normalise import MAX_ANSWER
from dsm_jax.evaluate.grader.numbers import quantity
from dsm_jax.evaluate.grader.same import Undecided
from dsm_jax.evaluate.grader.words import text_key

MAX_CLUSTERS = 64  # compared in full; a later new answer is only compared by its key


def answer_key(extracted: str) -> str:
    """One string for most ways to write an answer: "0.50", "1/2 cm" and "\\frac12" agree; never the same for different answers."""
    found = quantity(extracted) if len(extracted) <= MAX_ANSWER else None
    return str(found.value) if found else text_key(extracted[:MAX_ANSWER])


def cluster(answers: Sequence[str | None]) -> list[int | None]:
    """For each answer the number of its cluster, counted from 0 in order of appearance; None stays None.

    Two answers are in one cluster where either equals the other as a gold answer would. Each is compared with the first of a cluster.
    """
    first: list[str] = []
    known: dict[str, int] = {}
    found: list[int | None] = []
    for answer in answers:
        if answer is None:
            found.append(None)
            continue
        key = answer_key(answer)
        if key not in known:
            known[key] = next(
                (place for place, one in enumerate(first[:MAX_CLUSTERS]) if _are_same(answer, one)),
                len(first),
            )
            if known[key] == len(first):
                first.append(answer)
        found.append(known[key])
    return found


def _are_same(one: str, other: str) -> bool:
    if max(len(one), len(other)) > MAX_ANSWER:
        return False
    try:
        return same_answer(one, other) or same_answer(other, one)
    except Undecided:
        return False  # symbolic mathematics is not worth it for a vote
