r"""What arithmetic at points cannot decide: integrals, limits, infinite sums. sympy, inside a worker of pool.py only.

A tree becomes sympy objects node by node: no text reaches sympy's parsers, so there is nothing that could be executed.
Left out on purpose: everything else; expressions are compared in same.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

from dsm_jax.evaluate.grader.bomb_guard import is_bomb
from dsm_jax.evaluate.grader.tree import Call, Measure, Node, Number, Symbol

POINTS = (sympy.Rational(331, 257), sympy.Rational(719, 263), sympy.Rational(173, 89))
_CONSTANTS = {"\\pi": sympy.pi, "e": sympy.E, "i": sympy.I, "\\infty": sympy.oo}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "+": sympy.Add,
    "*": sympy.Mul,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
    "^": sympy.Pow,
    "root": lambda a, n: sympy.root(a, n),
    "!": sympy.factorial,
    "binom": sympy.binomial,
    "abs": sympy.Abs,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "ln": sympy.log,
    "lg": lambda a: sympy.log(a, 10),
    "log": sympy.log,
    "exp": sympy.exp,
    **{
        name: getattr(sympy, name)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
    },
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "arccot": sympy.acot,
}


class _NotSymbolic(Exception):
    """Something in the tree has no counterpart."""


def decide(one: Node, other: Node) -> bool:
    """Whether both are the same value or function; False where that is not found."""
    if is_bomb(one) or is_bomb(other):
        return False
    try:
        difference = _of(one, {}).doit() - _of(other, {}).doit()
    except _NotSymbolic:
        return False
    if difference.has(sympy.Integral, sympy.Limit, sympy.nan, sympy.zoo):
        return False
    return sympy.simplify(difference) == 0 or _vanishes(difference)


def _vanishes(difference: Any) -> bool:
    symbols = sorted(difference.free_symbols, key=str)
    values = []
    for shift in range(3):
        point = {name: POINTS[(place + shift) % 3] + place for place, name in enumerate(symbols)}
        value = difference.evalf(40, subs=point)
        if not value.is_number:
            return False
        values.append(abs(value))
    return all(value < 1e-25 for value in values)


def _of(node: Node, names: dict[str, Any]) -> Any:
    match node:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return names[name] if name in names else _CONSTANTS.get(name, sympy.Symbol(name))
        case Measure(value, _):
            return _of(value, names)
        case Call("sum" | "prod" | "integral" | "limit" as name, (Symbol(index), *bounds, body)):
            bound = sympy.Symbol(index)
            limits = [_of(each, names) for each in bounds]
            inside = _of(body, names | {index: bound})
            if name == "limit":
                return sympy.Limit(inside, bound, limits[0], "+-" if limits[0].is_finite else "-")
            return {"sum": sympy.Sum, "prod": sympy.Product, "integral": sympy.Integral}[name](
                inside, (bound, *limits)
            )
        case Call(name, args) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_of(arg, names) for arg in args))
    raise _NotSymbolic
