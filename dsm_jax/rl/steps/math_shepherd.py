"""The text of Math-Shepherd's records (arXiv 2312.08935): {input, label, task}.

input is the problem and " Step 1: ..", each further step on a line, with the mark behind each step; label is the same
text with + (the step can still lead to the right answer) or - for each mark. Left out on purpose: files (labelled.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dsm_jax.data.instructions import RowError, Skipped
from dsm_jax.rl.steps.segments import steps_of

MARK = "ки"
FIRST = re.compile(r"\s*Step 1:")


@dataclass(frozen=True)
class Marked:
    """A record's text, taken apart."""

    problem: str
    completion: str  # what stands behind it, without marks and the space before each
    ends: tuple[int, ...]  # [K] offsets of the marks in the completion
    signs: str  # K times + or -


def read_marks(text: str, label: str) -> Marked | Skipped:
    """Takes a record apart. Raises RowError where input and label disagree, or there is no mark."""
    signs = _signs(text, label)
    if not signs:
        raise RowError(f"no step ends: there must be a {MARK} behind each step of its input")
    first = FIRST.search(text)
    if first is None:
        return Skipped("no Step 1:")
    problem, solution = text[: first.start()], text[first.start() :]
    if MARK in problem:
        return Skipped("a mark before Step 1:")
    if not problem.strip():
        return Skipped("no problem")
    *steps, rest = solution.split(MARK)
    completion, ends = "", [0]
    for step in steps:
        completion += step.removesuffix(" ")
        ends.append(len(completion))
    if any(not completion[start:end].strip() for start, end in pairwise(ends)):
        return Skipped("a step without text")
    return Marked(problem, completion + rest, tuple(ends[1:]), signs)


def write_marks(problem: str, completion: str, ends: Sequence[int], signs: str) -> tuple[str, str]:
    """(input, label) of a solution; one that does not begin with "Step 1:" gets its steps numbered, each on a line.

    Raises RowError where read_marks would not give it back.
    """
    problem = problem.rstrip()
    if not FIRST.match(completion):
        numbered = [f"Step {k}: {step}" for k, step in enumerate(steps_of(completion, tuple(ends)), start=1)]
        completion = " " + "\n".join(numbered)
        ends = [len(" " + "\n".join(numbered[:k])) for k in range(1, len(numbered) + 1)]
    elif not completion[0].isspace():
        completion, ends = f" {completion}", [end + 1 for end in ends]
    steps = [completion[start:end] for start, end in pairwise((0, *ends))]
    rest = completion[ends[-1] :]
    text = problem + "".join(f"{step} {MARK}" for step in steps) + rest
    label = problem + "".join(f"{step} {sign}" for step, sign in zip(steps, signs, strict=True)) + rest
    own = Marked(problem, completion, tuple(ends), signs)
    if MARK in problem + completion or read_marks(text, label) != own:
        raise RowError(
            f"cannot be written in Math-Shepherd's form: it needs a problem and text in each step, none of it {MARK}, and "
            "no Step 1: in the problem"
        )
    return text, label


def _signs(text: str, label: str) -> str:
    parts, at, signs = text.split(MARK), 0, ""
    for number, part in enumerate(parts, start=1):
        sign = "" if number == len(parts) else label[at + len(part) : at + len(part) + 1]
        if not label.startswith(part, at) or (number < len(parts) and sign not in ("+", "-")):
            raise RowError(
                f"its input and label disagree at step {number}: the label must be the input, with + or - for each {MARK}"
            )
        at += len(part) + len(sign)
        signs += sign
    if at != len(label):
        raise RowError(f"its input and label disagree: the label has {len(label) - at} characters more")
    return signs
