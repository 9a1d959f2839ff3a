"""Kinds of problems that are built, not only drawn: stories of operations, expressions, fractions, equations."""

import random
from collections.abc import Callable
from fractions import Fraction
from math import gcd

from dsm_jax.data.families.tables import fits
from dsm_jax.data.families.worked import (
    DENOMINATOR,
    FACTOR,
    OPERAND,
    RESULT,
    Draft,
    Expression,
    Line,
    Number,
    operate,
    parse_plan,
    work_expression,
    work_plan,
)

STORY_LENGTH = {1: (2,), 2: (2, 3), 3: (2, 3), 4: (4, 5), 5: (5, 6)}
EXPRESSION_LENGTH = {4: (3, 4), 5: (5, 6)}  # operations, at the levels that may be negative


def story(level: int, rng: random.Random) -> Draft:
    """A number that operations change one after the other, always a whole number from 1 to the level's bound."""
    slots: dict[str, Number] = {"a": rng.randint(2, OPERAND[level])}
    value, plan, last = slots["a"], list[Line](), "a"
    length = rng.choice(STORY_LENGTH[level])
    while len(plan) < length:
        op = rng.choice("+-*" if level == 1 else "++--*/")
        b = _operand(op, level, rng)
        after = operate(op, value, b)
        if after.denominator == 1 and 1 <= after <= RESULT[level]:
            value, i = after, len(plan) + 1
            slots[f"b{i}"] = b
            plan.append(Line(f"r{i}", op, last, f"b{i}"))
            last = f"r{i}"
    return work_plan("story", slots, tuple(plan))


def calculation(level: int, rng: random.Random) -> Draft:
    """An expression with brackets; from level 4 on its values may be negative."""
    build = _expression if level <= 3 else _long_expression
    while True:
        draft = work_expression("value", build(level, rng))
        if fits(draft, level) or level > 3 and _within(draft, level):
            return draft


def _within(draft: Draft, level: int) -> bool:
    return all(isinstance(value, int) and 0 < abs(value) <= RESULT[level] for value in draft.found())


def _operand(op: str, level: int, rng: random.Random) -> int:
    return rng.randint(2, FACTOR) if op in "*/" else rng.randint(2, OPERAND[level])


def _expression(level: int, rng: random.Random) -> Expression:
    first, second = rng.choice("+-*"), rng.choice("+-*")
    inner = (first, _operand("+", level, rng), _operand(first, level, rng))
    if level == 3 and rng.random() < 0.5:
        return (second, inner, (rng.choice("+-*"), rng.randint(2, FACTOR), rng.randint(2, FACTOR)))
    if rng.random() < 0.5:
        return (second, inner, _operand(second, level, rng))
    return (second, _operand(second, level, rng), inner)


def _long_expression(level: int, rng: random.Random) -> Expression:
    expression: Expression = _operand("+", level, rng)
    for _ in range(rng.choice(EXPRESSION_LENGTH[level])):
        op = rng.choice("++--*")
        b = _operand(op, level, rng)
        expression = (op, expression, b) if rng.random() < 0.6 else (op, b, expression)
    return expression


def fraction_value(level: int, rng: random.Random) -> Draft:
    """Two proper fractions to add, subtract or multiply; from level 4 on three, and the answer may be negative."""
    f, g = _two_proper(level, rng)
    op = rng.choice("+-*")
    if op == "-" and f < g and level <= 3:
        f, g = g, f
    expression: Expression = (op, f, g)
    if level > 3:
        h = _proper(level, rng)
        outer = rng.choice("+-" if op == "*" or level == 4 else "+-*")
        expression = (outer, expression, h) if rng.random() < 0.5 else (outer, h, expression)
    draft = work_expression("value", expression)
    if level > 3 and (draft.answer == 0 or draft.answer.denominator > 500):
        return fraction_value(level, rng)
    return draft


def share(level: int, rng: random.Random) -> Draft:
    """A fraction of a whole number."""
    f = _proper(level, rng)
    a = f.denominator * rng.randint(2, OPERAND[level] // 2)
    return work_plan("share", {"a": a, "f": f}, parse_plan("t=a*f"))


def spending(level: int, rng: random.Random) -> Draft:
    """A fraction of a whole number goes, then a fraction of the rest; at level 5 something comes in last."""
    while True:
        f, g = _proper(level, rng), _proper(level, rng)
        a = f.denominator * g.denominator * rng.randint(1, 6)
        slots: dict[str, Number] = {"a": a, "f": f, "g": g}
        plan = "p=a*f r=a-p q=r*g t=r-q"
        if level == 5:
            slots, plan = {**slots, "h": rng.randint(2, OPERAND[level])}, plan.replace("t=r-q", "s=r-q t=s+h")
        draft = work_plan("spend_earn" if level == 5 else "spend_twice", slots, parse_plan(plan))
        if fits(draft, level):
            return draft


def larger(level: int, rng: random.Random) -> Draft:
    """The larger of two fractions, from level 4 on of three."""
    fractions = list(_two_proper(level, rng))
    plan = "t=f.max.g" if level <= 3 else "p=f.max.g t=p.max.h"
    while level > 3 and len(fractions) < 3:
        h = _proper(level, rng)
        if h.denominator not in {f.denominator for f in fractions}:
            fractions.append(h)
    slots: dict[str, Number] = dict(zip("fgh", fractions, strict=False))
    return work_plan("larger" if level <= 3 else "largest", slots, parse_plan(plan))


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


def equation(level: int, rng: random.Random) -> Draft:
    """One unknown: a*x+b=c; at level 4 x on both sides and perhaps negative, at level 5 brackets and fractions too."""
    build = _one_side if level <= 3 else _both_sides if level == 4 else _brackets
    return _until(build, level, rng)


def _one_side(level: int, rng: random.Random) -> Draft | None:
    a, b = rng.randint(2, FACTOR), rng.randint(1, OPERAND[level])
    x = rng.randint(1, OPERAND[level] // 2 + 5)
    op, inverse = rng.choice((("+", "-"), ("-", "+")))
    c = int(operate(op, a * x, b))
    if not 1 <= c <= RESULT[level]:
        return None
    plan = parse_plan(f"p=c{inverse}b t=p/a")
    return _solved({"a": a, "b": b, "c": c}, plan, f"{a}*x{op}{b}", str(c))


def _both_sides(level: int, rng: random.Random) -> Draft | None:
    a, c = rng.sample(range(2, 2 * FACTOR), 2)
    b, x = rng.randint(1, OPERAND[level]), rng.choice((1, 1, -1)) * rng.randint(1, 30)
    d = a * x + b - c * x
    if d == 0:
        return None
    plan = parse_plan("p=a-c q=d-b t=q/p")
    right = f"{c}*x{'+' if d > 0 else '-'}{abs(d)}"
    return _solved({"a": a, "b": b, "c": c, "d": d}, plan, f"{a}*x+{b}", right)


def _brackets(level: int, rng: random.Random) -> Draft | None:
    a, d = rng.sample(range(2, 2 * FACTOR), 2)
    b, c, e = (rng.randint(2, 40) for _ in range(3))
    plan = parse_plan("m=a*b n=m+c p=a-d q=e-n t=q/p")
    draft = _solved({"a": a, "b": b, "c": c, "d": d, "e": e}, plan, f"{a}*(x+{b})+{c}", f"{d}*x+{e}")
    return draft if draft.answer and draft.answer.denominator <= FACTOR else None


def _solved(slots: dict[str, Number], plan: tuple[Line, ...], left: str, right: str) -> Draft:
    return work_plan("equation", slots, plan, f"{left}={right}", f"Eq({left}, {right})")


def system(level: int, rng: random.Random) -> Draft:
    """Two equations in x and y: sum and difference at level 1, then general ones; x may be negative from level 4 on."""
    return _until(_sum_difference if level == 1 else _two_equations, level, rng)


def _sum_difference(level: int, rng: random.Random) -> Draft | None:
    y, x = sorted(rng.sample(range(1, OPERAND[level] + 6), 2))
    slots: dict[str, Number] = {"a": x + y, "b": x - y}
    given = f"x+y={x + y}, x-y={x - y}"
    return work_plan("system", slots, parse_plan("p=a+b t=p/2"), given, f"Eq(x+y, {x + y}), Eq(x-y, {x - y})")


def _two_equations(level: int, rng: random.Random) -> Draft | None:
    a, b, d, e = (rng.randint(2, FACTOR) for _ in range(4))
    least, top = (-20, 20) if level > 3 else (1, FACTOR)
    x, y = rng.randint(least, top), rng.randint(least, top)
    c, f = a * x + b * y, d * x + e * y
    if a * e == d * b or 0 in (x, y, c, f) or (a, b) == (d, e):
        return None
    slots: dict[str, Number] = {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f}
    plan = parse_plan("p=c*e q=f*b r=p-q u=a*e v=d*b w=u-v t=r/w")
    first, second = (f"{a}*x+{b}*y", c), (f"{d}*x+{e}*y", f)
    given = ", ".join(f"{left}={right}" for left, right in (first, second))
    return work_plan(
        "system", slots, plan, given, ", ".join(f"Eq({left}, {right})" for left, right in (first, second))
    )


def quadratic(level: int, rng: random.Random) -> Draft:
    """x^2+a=b at level 1, then x^2-a*x+b=0 with whole roots, of which one is asked; negative too from level 4 on."""
    return _square(level, rng) if level == 1 else _until(_quadratic, level, rng)


def _square(level: int, rng: random.Random) -> Draft:
    a, x = rng.randint(2, OPERAND[level]), rng.randint(2, OPERAND[level])
    slots: dict[str, Number] = {"a": a, "b": x * x + a}
    plan = parse_plan("p=b-a t=p.root.2")
    return work_plan("positive_root", slots, plan, f"x^2+{a}={x * x + a}", f"x^2+{a}-{x * x + a}")


def _quadratic(level: int, rng: random.Random) -> Draft | None:
    top = OPERAND[min(level, 3)] // 2 + 4
    least = 1 if level <= 3 else -top
    low, high = sorted((rng.randint(least, top), rng.randint(least, top)))
    total, product = low + high, low * high
    if low == high or 0 in (low, high, total):
        return None
    op, kind = rng.choice((("+", "larger_root"), ("-", "smaller_root")))
    slots: dict[str, Number] = {"a": total, "b": product}  # sum and product of the roots
    plan = parse_plan(f"p=a*a q=b*4 r=p-q s=r.root.2 u=a{op}s t=u/2")
    left = f"x^2{'-' if total > 0 else '+'}{abs(total)}*x{'+' if product > 0 else '-'}{abs(product)}"
    return work_plan(kind, slots, plan, f"{left}=0", left)


def _until(build: Callable[[int, random.Random], Draft | None], level: int, rng: random.Random) -> Draft:
    while (draft := build(level, rng)) is None:
        pass
    return draft
