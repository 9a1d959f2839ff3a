"""The mathematics that every family of problems shares: a plan of operations, worked exactly, step by step.

A plan is a line for each quantity to be found: "p=a*b q=c*d t=p+q" finds p, q and then the answer t from the
question's operands a, b, c, d. All else comes from it: the steps of the worked solution (an operation with
fractions, a greatest common divisor or a power takes several), the program, the bare mathematics in one line.
Operations: + - * /, and .mod. .gcd. .lcm. .pct. (b% of a), .max., .root. (square root), ^ (power).
Nothing here is a sentence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt, lcm
from typing import NamedTuple

LEVELS = (1, 2, 3, 4, 5)
OPERAND = {1: 9, 2: 20, 3: 40, 4: 100, 5: 300}  # the largest operand
RESULT = {1: 100, 2: 200, 3: 400, 4: 5_000, 5: 50_000}  # the largest value met on the way
DENOMINATOR = {1: 6, 2: 9, 3: 12, 4: 12, 5: 15}
FACTOR = 9  # the largest multiplier and divisor

RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "mod": 2}

Number = int | Fraction
Expression = int | Fraction | tuple[str, "Expression", "Expression"]


@dataclass(frozen=True)
class Step:
    """One line of a worked solution and the value that it arrives at."""

    text: str
    value: Number


class Line(NamedTuple):
    """One line of a plan: `key` is `left` op `right`, each an operand's or earlier line's key or a constant."""

    key: str
    op: str
    left: str | int
    right: str | int


@dataclass(frozen=True)
class Draft:
    """A problem without words: `kind` names its kind of question, `slots` are the operands that stand in it."""

    kind: str
    slots: Mapping[str, Number]
    plan: tuple[Line, ...]
    steps: tuple[Step, ...]
    values: Mapping[str, Number]  # of operands and lines, by key
    given: str = ""  # the bare mathematics where it is not the plan's: an equation
    sympy: str = ""  # what a program solves by sympy, where it does not follow the plan

    @property
    def answer(self) -> Number:
        return self.values[self.plan[-1].key]

    def found(self) -> list[Number]:
        """The value of each line of the plan."""
        return [self.values[line.key] for line in self.plan]

    @property
    def form(self) -> str:
        """The bare mathematics in one canonical line: "(7+5)*3", "3*x+5=20"."""
        return self.given or show(nest(self.plan, self.slots))


@cache
def parse_plan(text: str) -> tuple[Line, ...]:
    """ "p=a*b t=p.mod.3" as lines."""
    lines = []
    for line in text.split():
        match = re.fullmatch(r"(\w+)=(\w+)(?:([-+*/^])|\.(\w+)\.)(\w+)", line)
        assert match, line
        key, left, sign, word, right = match.groups()
        lines.append(Line(key, sign or word, _operand(left), _operand(right)))
    return tuple(lines)


def _operand(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def work_plan(
    kind: str, slots: Mapping[str, Number], plan: tuple[Line, ...], given: str = "", sympy: str = ""
) -> Draft:
    """The draft of a plan with these operands."""
    values = dict(slots)
    steps: list[Step] = []
    for key, op, left, right in plan:
        a = values[left] if isinstance(left, str) else left
        b = values[right] if isinstance(right, str) else right
        values[key] = operate(op, a, b)
        steps += work(op, a, b, values[key])
    return Draft(kind, slots, plan, tuple(steps), values, given, sympy)


def work_expression(kind: str, expression: Expression) -> Draft:
    """The draft of an expression, one operation a line, in the order of its brackets."""
    slots: dict[str, Number] = {}
    plan: list[Line] = []

    def visit(part: Expression) -> str:
        if isinstance(part, tuple):
            op, left, right = part
            a, b = visit(left), visit(right)
            plan.append(Line(f"r{len(plan) + 1}", op, a, b))
            return plan[-1].key
        slots[f"n{len(slots) + 1}"] = part
        return f"n{len(slots)}"

    visit(expression)
    return work_plan(kind, slots, tuple(plan), show(expression))


def nest(plan: tuple[Line, ...], slots: Mapping[str, Number]) -> Expression:
    """The plan as one expression."""
    trees: dict[str, Expression] = {**slots}
    for key, op, left, right in plan:
        a, b = (trees[one] if isinstance(one, str) else one for one in (left, right))
        trees[key] = ("/", ("*", a, b), 100) if op == "pct" else (op, a, b)
    return trees[plan[-1].key]


def show(expression: Expression, outer: int = 0) -> str:
    """The expression as text, with the brackets that it needs: ("*", ("+", 7, 5), 3) is "(7+5)*3"."""
    if not isinstance(expression, tuple):
        return signed(expression) if outer else str(expression)
    op, left, right = expression
    if op == "root":
        return f"sqrt({show(left)})"
    if op not in RANK:
        name = {"^": "power"}.get(op, op)
        return f"{name}({show(left)}, {show(right)})"
    rank = RANK[op]
    sign = " mod " if op == "mod" else op
    text = f"{show(left, rank)}{sign}{show(right, rank + 1)}"
    return f"({text})" if rank < outer else text


def signed(value: Number) -> str:
    """The number as a right operand: in brackets where it is negative."""
    return str(value) if value >= 0 else f"({value})"


def operate(op: str, a: Number, b: Number) -> Number:
    """a op b, exactly; whole numbers as int. Raises ZeroDivisionError for a division by 0."""
    if op == "+":
        return whole(a + b)
    if op == "-":
        return whole(a - b)
    if op == "*":
        return whole(a * b)
    if op == "/":
        return whole(Fraction(a) / b)
    if op == "max":
        return max(a, b)
    if op == "pct":
        return whole(Fraction(a * b, 100))
    if a.denominator > 1 or b.denominator > 1:
        raise ValueError(f"{op} of fractions")
    a, b = int(a), int(b)
    if op == "mod":
        return a % b
    if op == "root":
        if a < 0 or isqrt(a) ** 2 != a:
            raise ValueError(f"{a} is no square")
        return isqrt(a)
    if op == "^":
        return int(a**b)
    common = lcm(a, b)
    return common if op == "lcm" else a * b // common


def whole(value: Number) -> Number:
    """The number as an int where it is one."""
    return value.numerator if value.denominator == 1 else value


def work(op: str, a: Number, b: Number, value: Number) -> list[Step]:
    """The steps of one operation, as a pupil writes them; a quotient in lowest terms is only stated."""
    if op in "+-" and (a.denominator > 1 or b.denominator > 1):
        return _add(op, a, b, value)
    if op == "*" and b.denominator > 1:
        shared = a.denominator == 1 and a % b.denominator == 0 and b.numerator > 1
        return _share(a, b, value) if shared else _times(a, b, value)
    if op == "/" and value.denominator == b > 1:
        return [Step(f"{a}/{b}", value)]
    if op == "max":
        return _compare(a, b, value)
    if op == "pct":
        return [Step(f"{a}*{b}={a * b}", a * b), Step(f"{a * b}/100={value}", value)]
    if op == "root":
        return [Step(f"sqrt({a})={value}", value)]
    if op == "^":
        assert isinstance(a, int) and isinstance(b, int)
        return [Step(f"{a**i}*{a}={a ** (i + 1)}", a ** (i + 1)) for i in range(1, b)]
    if op in ("gcd", "lcm"):
        assert isinstance(a, int) and isinstance(b, int) and isinstance(value, int)
        last = _multiple(a, b, value) if op == "lcm" else [Step(f"gcd({a}, {b})={value}", value)]
        return _euclid(a, b) + last
    sign = " mod " if op == "mod" else op
    return [Step(f"{a}{sign}{signed(b)}={value}", value)]


def _add(op: str, f: Number, g: Number, value: Number) -> list[Step]:
    """Both fractions brought to the common denominator, then added or subtracted, then reduced."""
    common = lcm(f.denominator, g.denominator)
    steps = [Step(f"{h}={over(h, common)}", h) for h in (f, g) if h.denominator != common]
    right = over(g, common) if g >= 0 else f"({over(g, common)})"
    line = f"{over(f, common)}{op}{right}={over(value, common)}"
    return [*steps, Step(line, value), *_reduce(value, common)]


def _times(f: Number, g: Number, value: Number) -> list[Step]:
    common = f.denominator * g.denominator
    return [Step(f"{f}*{signed(g)}={over(value, common)}", value), *_reduce(value, common)]


def _share(a: Number, f: Number, value: Number) -> list[Step]:
    """A fraction of a whole number that its denominator divides."""
    part = whole(Fraction(a, f.denominator))
    return [Step(f"{a}/{f.denominator}={part}", part), Step(f"{part}*{f.numerator}={value}", value)]


def _reduce(value: Number, denominator: int) -> list[Step]:
    return [] if value.denominator == denominator else [Step(f"{over(value, denominator)}={value}", value)]


def over(value: Number, denominator: int) -> str:
    return f"{value.numerator * (denominator // value.denominator)}/{denominator}"


def _compare(f: Number, g: Number, value: Number) -> list[Step]:
    """Which of two fractions is larger: by the cross products."""
    left, right = f.numerator * g.denominator, g.numerator * f.denominator
    sign = ">" if f > g else "<"
    return [
        Step(f"{f.numerator}*{g.denominator}={left}", left),
        Step(f"{g.numerator}*{f.denominator}={right}", right),
        Step(f"{left} {sign} {right}, {f} {sign} {g}", value),
    ]


def _euclid(a: int, b: int) -> list[Step]:
    """Remainders until 0 or 1: the last other than 0, or the smaller number, is the greatest common divisor."""
    a, b = max(a, b), min(a, b)
    steps: list[Step] = []
    while b > 1 or not steps:
        a, b, before = b, a % b, a
        steps.append(Step(f"{before} mod {a}={b}", b))
    return steps


def _multiple(a: int, b: int, value: int) -> list[Step]:
    divisor = a * b // value
    if divisor == 1:
        return [Step(f"{a}*{b}={value}", value)]
    part = a // divisor
    return [Step(f"{a}/{divisor}={part}", part), Step(f"{part}*{b}={value}", value)]
