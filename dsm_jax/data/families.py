"""The mathematics of the problem generator: operands, worked steps and the exact answer of each family.

A draft is a problem without words. Its `form` is the bare mathematics in one canonical line ("(7+5)*3",
"3*x+5=20"). Levels bound the operands: about 9, 20 and 40. Nothing here is a sentence.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm

FAMILIES = ("chains", "calculations", "fractions", "equations", "rates", "percentages", "comparisons")
LEVELS = (1, 2, 3)

OPERAND = {1: 9, 2: 20, 3: 40}  # the largest operand
RESULT = {1: 100, 2: 200, 3: 400}  # the largest value met on the way
DENOMINATOR = {1: 6, 2: 9, 3: 12}
FACTOR = 9  # the largest multiplier and divisor
SIGN = {"+": 1, "-": 1, "*": 2, "/": 2}

Expression = int | tuple[str, "Expression", "Expression"]


@dataclass(frozen=True)
class Step:
    """One line of a worked solution and the value that it arrives at."""

    text: str
    value: Fraction


@dataclass(frozen=True)
class Draft:
    """A problem without words: `wording` names its kind of question, `slots` and `chain` fill it."""

    form: str
    steps: tuple[Step, ...]
    answer: Fraction
    wording: str
    slots: Mapping[str, object] = field(default_factory=dict)
    chain: tuple[tuple[str, int], ...] = ()


def draw(family: str, level: int, rng: random.Random) -> Draft:
    """A random draft of a family (one of FAMILIES) and a level (1, 2 or 3)."""
    return _DRAW[family](level, rng)


def show(expression: Expression, outer: int = 0) -> str:
    """The expression as text, with the brackets that it needs: ("*", ("+", 7, 5), 3) is "(7+5)*3"."""
    if isinstance(expression, int):
        return str(expression)
    op, left, right = expression
    rank = SIGN[op]
    text = f"{show(left, rank)}{op}{show(right, rank + 1)}"
    return f"({text})" if rank < outer else text


def work(expression: Expression) -> tuple[tuple[Step, ...], Fraction]:
    """The expression worked out, one operation a step, in the order of its brackets."""
    if isinstance(expression, int):
        return (), Fraction(expression)
    op, left, right = expression
    left_steps, a = work(left)
    right_steps, b = work(right)
    value = apply(op, a, b)
    return (*left_steps, *right_steps, Step(f"{a}{op}{b}={value}", value)), value


def apply(op: str, a: Fraction, b: Fraction) -> Fraction:
    """a op b, exactly. Raises ZeroDivisionError for a division by 0."""
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    return a * b if op == "*" else a / b


def _draft(expression: Expression, wording: str, slots: Mapping[str, object], form: str = "") -> Draft:
    steps, answer = work(expression)
    return Draft(form or show(expression), steps, answer, wording, slots)


def _fits(steps: tuple[Step, ...], level: int) -> bool:
    """Whether every value on the way is a whole number from 1 to the level's bound."""
    return all(step.value.denominator == 1 and 1 <= step.value <= RESULT[level] for step in steps)


def _operand(op: str, level: int, rng: random.Random) -> int:
    return rng.randint(2, FACTOR) if op in "*/" else rng.randint(2, OPERAND[level])


def _chains(level: int, rng: random.Random) -> Draft:
    length = 2 if level == 1 else rng.choice((2, 3))
    while True:
        start = rng.randint(2, OPERAND[level])
        expression: Expression = start
        chain = []
        for _ in range(length):
            op = rng.choice("+-*" if level == 1 else "++--*/")
            b = _operand(op, level, rng)
            chain.append((op, b))
            expression = (op, expression, b)
        steps, answer = work(expression)
        if _fits(steps, level):
            return Draft(show(expression), steps, answer, "story", {"a": start}, tuple(chain))


def _calculations(level: int, rng: random.Random) -> Draft:
    while True:
        first, second = rng.choice("+-*"), rng.choice("+-*")
        expression: Expression = (first, _operand("+", level, rng), _operand(first, level, rng))
        if level == 3 and rng.random() < 0.5:
            expression = (
                second,
                expression,
                (rng.choice("+-*"), rng.randint(2, FACTOR), rng.randint(2, FACTOR)),
            )
        elif rng.random() < 0.5:
            expression = (second, expression, _operand(second, level, rng))
        else:
            expression = (second, _operand(second, level, rng), expression)
        steps, _ = work(expression)
        if _fits(steps, level):
            return _draft(expression, "value", {"e": show(expression)})


def _equations(level: int, rng: random.Random) -> Draft:
    while True:
        a, b, x = (
            rng.randint(2, FACTOR),
            rng.randint(1, OPERAND[level]),
            rng.randint(1, OPERAND[level] // 2 + 5),
        )
        op, inverse = rng.choice((("+", "-"), ("-", "+")))
        c = int(apply(op, Fraction(a * x), Fraction(b)))
        if 1 <= c <= RESULT[level]:
            form = f"{a}*x{op}{b}={c}"
            return _draft(("/", (inverse, c, b), a), "equation", {"e": form}, form)


def _rates(level: int, rng: random.Random) -> Draft:
    largest = OPERAND[level]
    while True:
        a, b, c, d = (
            rng.randint(2, FACTOR),
            rng.randint(2, largest),
            rng.randint(2, FACTOR),
            rng.randint(2, largest),
        )
        if rng.random() < 0.5:
            draft = _draft(("+", ("*", a, b), ("*", c, d)), "two_parts", {"a": a, "b": b, "c": c, "d": d})
        else:
            draft = _draft(("*", ("/", a * b, a), c), "proportion", {"a": a * b, "b": a, "c": c})
        if a != c and _fits(draft.steps, level):
            return draft


def _percentages(level: int, rng: random.Random) -> Draft:
    while True:
        a = 10 * rng.randint(1, OPERAND[level])
        b = rng.choice((10, 20, 30, 40, 50, 60, 70, 80, 90) + ((5, 15, 25, 75) if level == 3 else ()))
        if a * b % 100:
            continue
        part: Expression = ("/", ("*", a, b), 100)
        kind = rng.choice(("part", "less", "more"))
        expression = part if kind == "part" else ("-" if kind == "less" else "+", a, part)
        return _draft(expression, kind, {"a": a, "b": b})


def _fractions(level: int, rng: random.Random) -> Draft:
    op = rng.choice(("+", "-", "*", "of"))
    if op == "of":
        f = _proper(level, rng)
        a = f.denominator * rng.randint(2, OPERAND[level] // 2)
        return _draft(("*", ("/", a, f.denominator), f.numerator), "share", {"f": f, "a": a}, f"{f}*{a}")
    f, g = _two_proper(level, rng)
    if op == "-" and f < g:
        f, g = g, f
    form = f"{f}{op}{g}"
    steps = _multiply(f, g) if op == "*" else _add(op, f, g)
    return Draft(form, steps, steps[-1].value, "value", {"e": form})


def _add(op: str, f: Fraction, g: Fraction) -> tuple[Step, ...]:
    """Both fractions brought to the common denominator, then added or subtracted, then reduced."""
    common = lcm(f.denominator, g.denominator)
    steps = [Step(f"{h}={_over(h, common)}", h) for h in (f, g) if h.denominator != common]
    value = apply(op, f, g)
    line = f"{_over(f, common)}{op}{_over(g, common)}={_over(value, common)}"
    return (*steps, Step(line, value), *_reduce(value, common))


def _multiply(f: Fraction, g: Fraction) -> tuple[Step, ...]:
    value, common = f * g, f.denominator * g.denominator
    return (Step(f"{f}*{g}={_over(value, common)}", value), *_reduce(value, common))


def _reduce(value: Fraction, denominator: int) -> tuple[Step, ...]:
    if value.denominator == denominator:
        return ()
    return (Step(f"{_over(value, denominator)}={value}", value),)


def _over(value: Fraction, denominator: int) -> str:
    return f"{value.numerator * (denominator // value.denominator)}/{denominator}"


def _proper(level: int, rng: random.Random) -> Fraction:
    """A proper fraction in lowest terms."""
    while True:
        denominator = rng.randint(2, DENOMINATOR[level])
        numerator = rng.randint(1, denominator - 1)
        if gcd(numerator, denominator) == 1:
            return Fraction(numerator, denominator)


def _two_proper(level: int, rng: random.Random) -> tuple[Fraction, Fraction]:
    while True:
        f, g = _proper(level, rng), _proper(level, rng)
        if f.denominator != g.denominator:
            return f, g


def _comparisons(level: int, rng: random.Random) -> Draft:
    if rng.random() < 0.5:
        return _larger(level, rng)
    while True:
        a, b, c, d = (rng.randint(2, top) for top in (FACTOR, OPERAND[level], FACTOR, OPERAND[level]))
        draft = _draft(("-", ("*", a, b), ("*", c, d)), "difference", {"a": a, "b": b, "c": c, "d": d})
        if _fits(draft.steps, level):
            return draft


def _larger(level: int, rng: random.Random) -> Draft:
    """Which of two fractions is larger: compared over the common denominator of the cross products."""
    f, g = _two_proper(level, rng)
    left, right = f.numerator * g.denominator, g.numerator * f.denominator
    sign = ">" if f > g else "<"
    steps = (
        Step(f"{f.numerator}*{g.denominator}={left}", Fraction(left)),
        Step(f"{g.numerator}*{f.denominator}={right}", Fraction(right)),
        Step(f"{left} {sign} {right}, {f} {sign} {g}", max(f, g)),
    )
    return Draft(f"max({f}, {g})", steps, max(f, g), "larger", {"f": f, "g": g})


_DRAW = {
    "chains": _chains,
    "calculations": _calculations,
    "fractions": _fractions,
    "equations": _equations,
    "rates": _rates,
    "percentages": _percentages,
    "comparisons": _comparisons,
}
