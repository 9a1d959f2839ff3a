"""A solution on a report's page, each step green or red, what is said of it behind it. Not a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dsm_jax.evaluate.report import Marked

LONGEST = 2_000  # characters of a solution on the page


def marked_steps(
    head: str,
    completion: str,
    ends: Sequence[int],
    good: Sequence[bool],
    said: Sequence[str],
    truths: Sequence[bool] | None,
) -> Marked:
    """Of K steps: whether each is good, and what is said of it; where it is known and differs, the truth too. head: the
    question and the answer."""
    known: Sequence[bool | None] = truths if truths is not None else [None] * len(ends)

    def pieces() -> Iterator[tuple[str, Any]]:
        yield f"{head}\n", "soft"
        start = 0
        for end, is_good, text, true in zip(ends, good, said, known, strict=True):
            if end <= LONGEST:
                yield completion[start:end], "good" if is_good else "bad"
                wrong = "" if true is None or true == is_good else f", in truth {'good' if true else 'bad'}"
                yield f"  {text}{wrong}", "soft"
            start = end

    return Marked(tuple(pieces()))


def asked(question: str, answer: str) -> str:
    """What stands above a solution."""
    return f"{question[-LONGEST:]}\n(answer: {answer})"
