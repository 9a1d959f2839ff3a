"""Solutions of the problem generator with some wrong steps, each labelled by its truth: data for a reward model without files.

Not a script. One step has a wrong number, and what follows from it stands in the steps behind, as where a model has slipped;
rl/steps/truths.py says which steps are right. A model's own mistakes look otherwise: label_steps_7b.py labels those.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from dsm_jax.data.problems import Problem, ProblemSet
from dsm_jax.data.prompts import prompt_text
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.segments import step_ends
from dsm_jax.rl.steps.truths import solution_truths

WRONG_SHARE = 0.65  # of the solutions
EACH = 2  # solutions of a problem
NUMBER = re.compile(r"\d+")
EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def worked_solutions(source: ProblemSet, problems: int, rng_seed: int) -> Iterator[Labelled]:
    """EACH of the first problems; a function of the arguments alone."""
    for number in range(problems):
        rng = random.Random(f"worked solutions {rng_seed} {number}")
        problem = source[number]
        for _ in range(EACH):
            yield _labelled(problem, rng)


def _labelled(problem: Problem, rng: random.Random) -> Labelled:
    lines = problem.solution.splitlines()
    if rng.random() < WRONG_SHARE:
        lines = _with_slip(lines, rng)
    text = " " + "\n".join(lines)
    ends = step_ends(text)
    labels = tuple(map(float, solution_truths(problem, text, ends)))
    return Labelled(prompt_text(problem.question), text, ends, labels, problem.question, problem.answer)


def _with_slip(lines: Sequence[str], rng: random.Random) -> list[str]:
    """Another number in one line, mostly its result, and in the lines behind whatever was made from it."""
    at = rng.randrange(len(lines))
    numbers = list(NUMBER.finditer(lines[at]))
    slip = max(rng.choice(numbers), rng.choice(numbers), key=re.Match.start)
    line = lines[at][: slip.start()] + _other(slip[0], rng) + lines[at][slip.end() :]
    found = [*lines[:at], line if slip is numbers[-1] else _computed(line)]
    changed = {numbers[-1][0]: NUMBER.findall(found[-1])[-1]}
    for line in lines[at + 1 :]:
        found.append(_computed(NUMBER.sub(lambda one: changed.get(one[0], one[0]), line)))
        changed[NUMBER.findall(line)[-1]] = NUMBER.findall(found[-1])[-1]
    return found


def _computed(line: str) -> str:
    """With the true result of its equation, where it has one that is a natural number."""
    return EQUATION.sub(lambda one: f"{one[1]}{one[2]}{one[3]}={_result(*one.groups())}", line)


def _result(left: str, operator: str, right: str, written: str) -> str:
    a, b = int(left), int(right)
    if operator == "/":
        return str(a // b) if b and a % b == 0 else written
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return str(value) if value >= 0 else written


def _other(number: str, rng: random.Random) -> str:
    """Another number: a neighbour, or one with another digit."""
    place, digits = rng.randrange(len(number)), str(rng.randrange(10))
    drawn = str(abs(int(number) + rng.choice((-10, -2, -1, 1, 2, 10))))
    if rng.random() < 0.4:
        drawn = str(int(number[:place] + digits + number[place + 1 :]))
    return drawn if drawn != number else str(int(number) + 1)
