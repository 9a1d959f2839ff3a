"""The math problem generator: seeded, endless, exact, in English and Chinese; no files and no device.

`ProblemSet("train", seed=0)[i]` is a pure function of its configuration and of i. A hash of a problem's worked
steps gives its split: "test" holds a fifth, "rl" (whose solutions are never trained on) a fifth, "train" the rest
and all drills. So no problem of a split has its steps, one after the other, in a problem of one before it, whatever
the seed, level and wording; single steps it has, and those of neighbours may meet by chance. Nor has a problem of
"train" or "rl" the surface form of a word problem of "test": see `wordings`.
Left out on purpose: proofs, figures, irrational answers; benchmarks are read elsewhere.
"""

import hashlib
import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dsm_jax.data import solutions
from dsm_jax.data.families import FAMILIES, LEVELS, Draft, Step, draw
from dsm_jax.data.families.worked import FACTOR, OPERAND, RESULT
from dsm_jax.data.wordings import LANGUAGES, Told, tell
from dsm_jax.errors import UserError

__all__ = ["FAMILIES", "LANGUAGES", "LEVELS", "Problem", "ProblemSet", "Step", "drill", "split_of"]

SPLITS = ("train", "rl", "test")  # each is held out from those before it
HASHED = (2, 1, 0, 0, 0)  # index into SPLITS
PATIENCE = 3000  # draws in a row without a new problem: then the space counts as exhausted
_COMMUTATIVE = re.compile(r"([\d/]+)([+*])([\d/]+)=(.*)")


@dataclass(frozen=True)
class Problem:
    """A question, its exact answer (an int or a fraction in lowest terms, as text), its worked steps and solutions.

    `id` is made from family and question; `form` is the bare mathematics; `surface` the question's phrasings without
    numbers, names and things, "" for bare mathematics.
    """

    id: str
    family: str
    level: int
    language: str
    question: str
    answer: str
    steps: tuple[Step, ...]
    form: str
    surface: str
    draft: Draft = field(compare=False, repr=False)
    told: Told = field(compare=False, repr=False)

    @property
    def solution(self) -> str:
        """Chain of thought: the steps, one a line, and a last line that boxes the answer."""
        return solutions.chain_of_thought(self.draft, self.told, self.language, self.level)

    @property
    def program(self) -> str:
        """Program of thought: a self-contained Python program that prints the answer."""
        return solutions.program(self.draft, self.told)

    @property
    def tool_solution(self) -> str:
        """Tool-integrated: reasoning, ```python and ```output blocks, the boxed answer."""
        choice = int(self.id[-12:], 16)
        return solutions.tool_solution(self.draft, self.told, self.language, self.level, choice)


@dataclass(frozen=True)
class ProblemSet:
    """An endless random-access set of problems of one split, families and levels mixed evenly."""

    split: str
    families: tuple[str, ...] = FAMILIES
    levels: tuple[int, ...] = LEVELS
    language: str = "en"
    seed: int = 0

    def __post_init__(self) -> None:
        _check("split", (self.split,), SPLITS)
        _check("families", self.families, FAMILIES)
        _check("levels", self.levels, LEVELS)
        _check("language", (self.language,), LANGUAGES)

    def __getitem__(self, index: int) -> Problem:
        """Problem number `index`, from 0 on, without end."""
        if index < 0:
            raise IndexError(f"problem index {index}: the set is endless, count from 0")
        rng = random.Random(f"problem {self.seed} {self.split} {index}")
        family, level = rng.choice(self.families), rng.choice(self.levels)
        draft = _draw_split(family, level, rng, self.split)
        told = tell(draft, self.language, level, self.split == "test", rng)
        digest = hashlib.sha256(told.question.encode()).hexdigest()[:12]
        return Problem(
            f"{family}-{digest}",
            family,
            level,
            self.language,
            told.question,
            str(draft.answer),
            draft.steps,
            draft.form,
            told.surface,
            draft,
            told,
        )

    def distinct(self, count: int, *, without: Collection[str] = ()) -> list[Problem]:
        """The first `count` problems with different forms, none of `without`. Raises UserError where there are not so many."""
        found: dict[str, Problem] = {}
        index = last_new = 0
        while len(found) < count:
            problem = self[index]
            if problem.form not in found and problem.form not in without:
                found[problem.form] = problem
                last_new = index
            index += 1
            if index - last_new > PATIENCE:
                raise UserError(
                    f"problems: {count} distinct {self.split} problems wanted; families "
                    f"{_list(self.families)} at levels {_list(self.levels)} gave {len(found)}: "
                    "ask for fewer, or add families or levels"
                )
        return list(found.values())


def split_of(steps: Sequence[Step]) -> str | None:
    """The split of a problem with these worked steps; None where it would give away one of another split.

    The hash of the first two steps (the order of summands and factors does not count) decides: a fifth test, a
    fifth rl, the rest train. A problem is in no split when two later steps in a row are those of a split that is
    held out more than its own: a longer problem never works out a shorter one that is held out.
    """
    keys = [_step_key(step.text) for step in steps]
    pairs = [sorted(pair) for pair in pairwise(keys)] or [keys]
    rank = _rank(pairs[0])
    return SPLITS[rank] if all(_rank(pair) <= rank for pair in pairs[1:]) else None


def _rank(pair: list[str]) -> int:
    return HASHED[hashlib.sha256("; ".join(pair).encode()).digest()[0] % len(HASHED)]


def _step_key(text: str) -> str:
    """The step with its summands or factors in order: "9*3=27" and "3*9=27" are one."""
    match = _COMMUTATIVE.fullmatch(text)
    if not match:
        return text
    left, op, right, value = match.groups()
    return f"{op.join(sorted((left, right)))}={value}"


def drill(
    seed: int, index: int, *, families: tuple[str, ...] = FAMILIES, levels: tuple[int, ...] = LEVELS
) -> str:
    """A text for pretraining: one equation ("23+18=41"), or a "train" problem's form, its steps and its "x=" if it
    has one. The form comes first so that operands are copied in pretraining, as they must be in a solution.

    A pure function of its arguments, without a newline at the end; never contains a problem of the other splits.
    """
    _check("families", families, FAMILIES)
    _check("levels", levels, LEVELS)
    rng = random.Random(f"drill {seed} {index}")
    level = rng.choice(levels)
    if rng.random() < 0.5:
        return _table_line(level, rng)
    draft = _draw_split(rng.choice(families), level, rng, "train")
    lines = [draft.form, *(step.text for step in draft.steps)]
    if "=" in draft.form:
        lines.append(f"x={draft.answer}")
    return "\n".join(lines)


def _table_line(level: int, rng: random.Random) -> str:
    """One operation with small operands: no problem but a fraction's is worked out in one step."""
    a, b = rng.randint(1, RESULT[level] - 1), rng.randint(1, OPERAND[level])
    x, factor = rng.randint(1, OPERAND[level]), rng.randint(2, FACTOR)
    first, second = rng.sample((a, b), 2)
    return rng.choice(
        (
            f"{first}+{second}={a + b}",
            f"{a + b}-{second}={first}",
            f"{x}*{factor}={x * factor}",
            f"{factor}*{x}={x * factor}",
            f"{x * factor}/{factor}={x}",
            f"{factor}*x={x * factor}, x={x}",
            f"x+{b}={a + b}, x={a}",
        )
    )


def _draw_split(family: str, level: int, rng: random.Random, split: str) -> Draft:
    while True:
        draft = draw(family, level, rng)
        if split_of(draft.steps) == split:
            return draft


def _check(option: str, values: tuple[object, ...], known: tuple[object, ...]) -> None:
    wrong = [value for value in values if value not in known]
    if wrong or not values:
        given = wrong[0] if wrong else "()"
        raise UserError(f"problems: {option} {given} is unknown, use some of: {_list(known)}")


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
