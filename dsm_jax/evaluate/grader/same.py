r"""Whether two expressions are the same value or function: exact where they are rational, else to 100 digits at generic points.

Rational functions with rational coefficients are compared as fractions at four points: two different ones agree there only
where their difference has a zero at each, which no answer of this length hits by chance. Everything else is first computed in
double precision, which refutes nearly all wrong answers, and then to 100 digits. At points where one side is not real
(\ln x for x < 0) the other is not asked. None: nothing could be computed.

A decimal of at least six significant digits and three decimals equals a fraction that has no finite decimal, where it is
that number rounded or cut to as many decimals: 0.333333 is 1/3, 0.333 is not, 3.0000001 is not 3. An irrational number has no
decimal but for a gold answer, the second argument, which may be one: \sqrt2 is 1.41421356, which is not \sqrt2.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from dsm_jax.evaluate.grader.arithmetic import (
    LOG10,
    MANY_DIGITS,
    Undefined,
    Unsuited,
    approximate,
    exact,
    precise,
)
from dsm_jax.evaluate.grader.tree import Call, Measure, Node, Number, Symbol, children, walk

CONSTANTS = {"\\pi", "e", "i"}
MIN_DIGITS, MIN_PLACES = 6, 3
_FAR = 1e-5  # relative distance of doubles that no rounding explains
_NEAR = 1e-80  # distance at which numbers are the same, of their size where they are small
_ZERO, _LARGE = 1e-60, 1e15
_SIGNS = ("+++++++", "+-+-+-+", "-+-+-+-", "+++++++", "-------", "--++--+")
_ABOVE = (
    331, 541, 173, 619, 97, 811, 433, 719, 139, 883, 307, 1009, 223, 607, 401, 587, 151, 743, 311, 941, 509,
)  # fmt: skip
_POINTS = [
    tuple(
        Fraction(_ABOVE[(5 * row + place) % len(_ABOVE)] * (1 if sign == "+" else -1), 257 + 2 * row)
        for place, sign in enumerate(signs)
    )
    for row, signs in enumerate(_SIGNS)
]
_INTEGER_POINTS = [tuple(Fraction(start + 3 * place) for place in range(7)) for start in (4, 5, 7, 8, 11, 14)]


class Undecided(Exception):
    """The pair needs symbolic mathematics: pool.py."""


decide_symbolically: Callable[[Node, Node], bool] | None = None  # set in a worker


@lru_cache(maxsize=8192)
def same_value(one: Node, other: Node) -> bool | None:
    """Whether both are the same number or function; None where that could not be computed. Raises Undecided."""
    if one == other:
        return True
    found = _same_by_value(one, other)
    if found is None and (_is_symbolic(one) or _is_symbolic(other)):
        if decide_symbolically is None:
            raise Undecided
        return decide_symbolically(one, other)
    return found


def _is_symbolic(node: Node) -> bool:
    """Whether there is an integral, a limit or an infinite sum in it."""
    for part in walk(node):
        match part:
            case Call("integral" | "limit", _):
                return True
            case Call("sum" | "prod", (_, _, Symbol("\\infty"), _)):
                return True
    return False


def _same_by_value(one: Node, other: Node) -> bool | None:
    names = sorted(variables(one) | variables(other))
    if len(names) > 7:
        return None
    try:
        return _same_rational(one, other, names)
    except Unsuited:
        pass
    if not names and (decided := _same_decimal(one, other)) is not None:
        return decided
    verdict = _same_inexact(one, other, names, {})
    if verdict is False and any(
        isinstance(node, Call) and node.name == "log" for side in (one, other) for node in walk(side)
    ):
        return _same_inexact(one, other, names, {LOG10: True})
    return verdict


def variables(node: Node) -> set[str]:
    """The names that are free in it: no constants, no running index."""
    match node:
        case Symbol(name):
            return set() if name in CONSTANTS else {name}
        case Call("sum" | "prod" | "integral" | "limit", (Symbol(index), *rest)):
            return set().union(*map(variables, rest)) - {index}
    return set().union(*map(variables, children(node)))


def constant(node: Node) -> float | None:
    """The real value of an expression without variables, ∞ as a huge one; None where it has none."""
    try:
        value = approximate(node, {"\\infty": Fraction(10**300)})
    except Unsuited:
        return None
    return value.real if abs(value.imag) <= 1e-9 * max(1.0, abs(value.real)) else None


def _same_rational(one: Node, other: Node, names: list[str]) -> bool:
    if not names:
        a, b = exact(one, {}), exact(other, {})
        return a == b or _rounds_to(one, b) or _rounds_to(other, a)
    compared = 0
    for point in _points(one, other):
        environment = dict(zip(names, point, strict=False))
        try:
            a, b = exact(one, environment), exact(other, environment)
        except Undefined:
            continue
        if a != b:
            return False
        compared += 1
        if compared == 4:
            return True
    if compared:
        return True
    raise Unsuited("no point")


def _points(one: Node, other: Node) -> list[tuple[Fraction, ...]]:
    """Integers where the expressions are about integers: factorials, binomials, sums, (-1)^n."""
    for side in (one, other):
        for node in walk(side):
            match node:
                case Call("!" | "binom" | "sum" | "prod", args) if any(map(variables, args)):
                    return _INTEGER_POINTS
                case Call("^", (base, exponent)) if variables(exponent) and not variables(base):
                    value = constant(base)
                    if value is None or value < 0:
                        return _INTEGER_POINTS
    return _POINTS


def _literal(node: Node) -> tuple[Number, int] | None:
    match node:
        case Number():
            return node, 1
        case Call("neg", (Number() as number,)):
            return number, -1
    return None


def _rounds_to(node: Node, value: Fraction) -> bool:
    """Whether the decimal is what rounding or cutting the value, which is no finite decimal, gives."""
    found = _literal(node)
    if not found or found[0].digits < MIN_DIGITS or found[0].places < MIN_PLACES or _is_finite_decimal(value):
        return False
    scaled, wanted = abs(value) * 10 ** found[0].places, found[0].value * 10 ** found[0].places
    return (value > 0) == (found[1] > 0) and wanted in (int(scaled), int(scaled + Fraction(1, 2)))


def _is_finite_decimal(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _same_decimal(one: Node, other: Node) -> bool | None:
    """Where the gold answer is a decimal and the other an irrational number; else None: 1.41421356 is no \\sqrt2."""
    found = _literal(other)
    if not found or found[0].digits < MIN_DIGITS or found[0].places < MIN_PLACES:
        return None
    try:
        approximate(one, {})
        value = precise(one, {})
    except Unsuited:
        return None
    if value.imag:
        return False
    scaled = abs(value.real) * 10 ** found[0].places
    wanted = int(found[0].value * 10 ** found[0].places)
    return (value.real > 0) == (found[1] > 0) and wanted in (int(scaled), int(scaled + 0.5))


def _same_inexact(one: Node, other: Node, names: list[str], reading: dict[str, Any]) -> bool | None:
    complex_points, real_points = [], []
    for point in _points(one, other) if names else [()]:
        environment = dict(zip(names, point, strict=False)) | reading
        try:
            a, b = approximate(one, environment), approximate(other, environment)
        except Unsuited:
            continue
        size = max(abs(a), abs(b))
        if _is_real(a) and _is_real(b):
            if abs(a - b) > _FAR * size:
                return False
            real_points.append(point)
        else:
            complex_points.append((point, abs(a - b) > _FAR * size))
    if real_points and (len(real_points) > 1 or not names):
        return _same_precisely(one, other, names, reading, real_points)
    if not complex_points:
        return None
    if any(far for _, far in complex_points):
        return False
    return _same_precisely(one, other, names, reading, [point for point, _ in complex_points])


def _is_real(value: complex) -> bool:
    return abs(value.imag) <= 1e-9 * abs(value.real) or abs(value) < 1e-12


def _same_precisely(
    one: Node, other: Node, names: list[str], reading: dict[str, Any], points: list[tuple[Fraction, ...]]
) -> bool | None:
    for point in points:
        environment = dict(zip(names, point, strict=False)) | reading
        try:
            a, b = precise(one, environment), precise(other, environment)
            if abs(a) > _LARGE:
                a, b = precise(one, environment, MANY_DIGITS), precise(other, environment, MANY_DIGITS)
        except Unsuited:
            return None
        size = max(abs(a), abs(b))
        if size > _ZERO and abs(a - b) > _NEAR * min(1, size):
            return False
    return True


def is_expression(node: Node) -> bool:
    """Whether it is one number or function: no collection, relation, ratio or words in it."""
    return all(isinstance(part, Number | Symbol | Call | Measure) for part in walk(node))
