"""Sets of real numbers: intervals, unions, inequalities and "x in S" become one sorted list of disjoint intervals.

x > 3, 3 < x, -x < -3, (3, oo) and {x | x > 3} are the same set. Bounds are expressions; they are ordered by their values
and compared as expressions. Left out on purpose: inequalities that are not linear in one variable (but for |x| < a).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from dsm_jax.evaluate.grader.same import constant, is_expression, same_value, variables
from dsm_jax.evaluate.grader.tree import Call, Group, Node, Number, Relation, SetOperation, Symbol

_INFINITY = Symbol("\\infty")
_LOWEST = Call("neg", (_INFINITY,))
_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠", "=": "="}
_MAX_INTERVALS = 50


@dataclass(frozen=True, slots=True)
class Interval:
    low: Node
    low_closed: bool
    high: Node
    high_closed: bool


@dataclass(frozen=True, slots=True)
class RealSet:
    """Disjoint intervals from left to right, and the variable they are about, where the answer names it."""

    intervals: tuple[Interval, ...]
    variable: Node | None = None


class NoSet(Exception):
    """The answer is no set of real numbers that this file reads."""


def real_set(node: Node) -> RealSet | None:
    """The set that an answer describes, None where it describes none."""
    try:
        about, found = _read(node)
        return RealSet(tuple(_merged(found)), about)
    except NoSet:
        return None


def same_set(one: RealSet, other: RealSet) -> bool:
    """Whether both are the same set, about the same variable where both name one."""
    if one.variable is not None and other.variable is not None and one.variable != other.variable:
        return False
    return len(one.intervals) == len(other.intervals) and all(
        map(_same_interval, one.intervals, other.intervals)
    )


def is_inequality(node: Node) -> bool:
    """Whether an answer can only be a set: an inequality, "in", a union, a half-open interval."""
    match node:
        case Relation(_, ops):
            return any(op in "<>≤≥≠∈" for op in ops)
        case SetOperation() | Group("(]" | "[)") | Symbol("mathbb(R)"):
            return True
        case Group("and" | "or" | ",", items):
            return all(map(is_inequality, items))
    return False


def _same_interval(one: Interval, other: Interval) -> bool:
    return (
        (one.low_closed, one.high_closed) == (other.low_closed, other.high_closed)
        and same_value(one.low, other.low) is True
        and same_value(one.high, other.high) is True
    )


def _read(node: Node) -> tuple[Node | None, list[Interval]]:
    match node:
        case Symbol("mathbb(R)"):
            return None, [Interval(_LOWEST, False, _INFINITY, False)]
        case Group("{}", items):
            return None, [Interval(item, True, item, True) for item in items]
        case Group(("()" | "[]" | "(]" | "[)") as kind, (low, high)):
            return None, [_interval(low, kind[0] == "[", high, kind[1] == "]")]
        case Relation((variable, collection), ("∈",)) if is_expression(variable):
            return variable, _read(collection)[1]
        case SetOperation(op, items):
            return _combined(items, {"∪": _union, "∩": _intersection, "\\": _difference}[op])
        case Relation(items, ops) if len(ops) > 1 and "∈" not in ops:
            parts = [Relation(items[i : i + 2], ops[i : i + 1]) for i in range(len(ops))]
            return _combined(tuple(parts), _intersection)
        case Relation((left, right), (op,)) if op in _TURNED:
            return _solved(left, op, right)
        case Group("or", items):
            return _combined(items, _union)
        case Group("and" | ",", items) if all(map(is_inequality, items)):
            about, found = _combined(items, _intersection)
            return (about, found) if found else _combined(items, _union)
    raise NoSet


def _combined(
    items: tuple[Node, ...], combine: Callable[[list[Interval], list[Interval]], list[Interval]]
) -> tuple[Node | None, list[Interval]]:
    variable, found = _read(items[0])
    for item in items[1:]:
        about, more = _read(item)
        if None not in (about, variable) and about != variable:
            raise NoSet
        variable = about if variable is None else variable
        found = combine(_merged(found), _merged(more))
        if len(found) > _MAX_INTERVALS:
            raise NoSet
    return variable, found


def _interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Interval:
    """Infinite ends are open, however they are written."""
    return Interval(
        low, low_closed and abs(_value(low)) < 1e200, high, high_closed and abs(_value(high)) < 1e200
    )


def _value(bound: Node) -> float:
    value = constant(bound)
    if value is None:
        raise NoSet
    return value


def _solved(left: Node, op: str, right: Node) -> tuple[Node, list[Interval]]:
    """A relation between a variable, or something linear in it, and a constant."""
    if not (is_expression(left) and is_expression(right)):
        raise NoSet
    if constant(left) is not None and constant(right) is None:
        left, op, right = right, _TURNED[op], left
    if constant(right) is not None:
        match left:
            case Symbol() | Call("f()" | "g()" | "h()" | "F()"):
                return left, _ray(op, right)
            case Call("abs", (Symbol() as variable,)):
                return variable, _absolute(op, right)
    return _solved_linear(left, op, right)


def _solved_linear(left: Node, op: str, right: Node) -> tuple[Node, list[Interval]]:
    difference = Call("+", (left, Call("neg", (right,))))
    names = variables(difference) - {"\\infty"}
    if len(names) != 1:
        raise NoSet
    (name,) = names
    at = [substituted(difference, {name: Number(Fraction(place))}) for place in range(3)]
    slope = Call("+", (at[1], Call("neg", (at[0],))))
    if same_value(Call("+", (at[2], Call("neg", (at[1],)))), slope) is not True or not _value(slope):
        raise NoSet
    bound = Call("neg", (Call("/", (at[0], slope)),))
    return Symbol(name), _ray(op if _value(slope) > 0 else _TURNED[op], bound)


def substituted(node: Node, values: dict[str, Node]) -> Node:
    """The expression with numbers for names."""
    match node:
        case Symbol(name):
            return values.get(name, node)
        case Call(name, args):
            return Call(name, tuple(substituted(arg, values) for arg in args))
    return node


def _ray(op: str, bound: Node) -> list[Interval]:
    below = Interval(_LOWEST, False, bound, op == "≤")
    above = Interval(bound, op == "≥", _INFINITY, False)
    if op == "=":
        return [Interval(bound, True, bound, True)]
    return [below, above] if op == "≠" else [below] if op in "<≤" else [above]


def _absolute(op: str, bound: Node) -> list[Interval]:
    negative = Call("neg", (bound,))
    if op in "<≤":
        return [Interval(negative, op == "≤", bound, op == "≤")]
    if op in ">≥":
        return [Interval(_LOWEST, False, negative, op == "≥"), Interval(bound, op == "≥", _INFINITY, False)]
    raise NoSet


def _merged(intervals: list[Interval]) -> list[Interval]:
    """Sorted, without empty ones, touching ones joined."""
    found: list[Interval] = []
    for one in sorted(intervals, key=lambda one: (_value(one.low), not one.low_closed)):
        low, high = _value(one.low), _value(one.high)
        if low > high or (low == high and not (one.low_closed and one.high_closed)):
            continue
        last = found[-1] if found else None
        if last and (
            low < _value(last.high) or (low == _value(last.high) and (one.low_closed or last.high_closed))
        ):
            further = (high, one.high_closed) > (_value(last.high), last.high_closed)
            end = one if further else last
            found[-1] = Interval(last.low, last.low_closed, end.high, end.high_closed)
        else:
            found.append(one)
    return found


def _union(one: list[Interval], other: list[Interval]) -> list[Interval]:
    return one + other


def _intersection(one: list[Interval], other: list[Interval]) -> list[Interval]:
    found = []
    for a in one:
        for b in other:
            low = max((a, b), key=lambda one: (_value(one.low), not one.low_closed))
            high = min((a, b), key=lambda one: (_value(one.high), one.high_closed))
            found.append(Interval(low.low, low.low_closed, high.high, high.high_closed))
    return _merged(found)


def _difference(one: list[Interval], other: list[Interval]) -> list[Interval]:
    rest = [Interval(_LOWEST, False, _INFINITY, False)]
    for gap in other:
        rest = _intersection(
            rest,
            [
                Interval(_LOWEST, False, gap.low, not gap.low_closed),
                Interval(gap.high, not gap.high_closed, _INFINITY, False),
            ],
        )
    return _intersection(one, rest)
