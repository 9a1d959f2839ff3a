r"""Computes trees: exactly over the rationals, in double precision, or to 100 digits. A closed set of operations.

Every step is bounded. Exact numbers have at most 40,000 bits, powers and factorials are refused before they are made,
double precision overflows instead of growing, and 100 digits are only asked for where doubles stayed finite. So an answer
of 1,000 characters costs milliseconds, `9^{9^{9^9}}` included. Conventions: an odd root of a negative number is real; an
unknown function f(x) is a fixed generic function of its name. Left out on purpose: symbolic rewriting.
"""

from __future__ import annotations

import cmath
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache, reduce
from operator import mul
from typing import Any

from dsm_jax.evaluate.grader.tree import Call, Measure, Node, Number, Symbol, walk

MAX_BITS = 40_000
MAX_TERMS = 1_000
MAX_COST = 20_000  # steps of one value; a step with a large number counts as many
DIGITS = 100
MANY_DIGITS = 450  # 100 behind the point of the largest double

Environment = Mapping[str, Any]
_OF_ANGLES = ("sin", "cos", "tan", "cot", "sec", "csc")
LOG10 = "\\log"  # in an environment: \log without a base is to base ten


class Unsuited(Exception):
    """This arithmetic has no value for the expression: irrational, out of bounds, undefined, a name without value."""


class Undefined(Unsuited):
    """Division by zero."""


def exact(node: Node, environment: Environment) -> Fraction:
    """The value as a fraction. Raises Unsuited where it is irrational or has more than MAX_BITS bits."""
    return _Exact().value(node, environment)


def approximate(node: Node, environment: Environment) -> complex:
    """The value in double precision. Raises Unsuited where it is undefined or overflows."""
    value = complex(_Double().value(node, environment))
    if not cmath.isfinite(value):
        raise Unsuited("not finite")
    return value


def precise(node: Node, environment: Environment, digits: int = DIGITS) -> Any:
    """The value to so many digits, an mpmath number; only after approximate() found one, which bounds the work."""
    with _MPMATH_LOCK:
        arithmetic = _precise_arithmetic(digits)
        arithmetic.cost = 0
        return arithmetic.value(node, environment)


_MPMATH_LOCK = threading.Lock()  # a context of mpmath changes its precision while it works


@cache
def _precise_arithmetic(digits: int) -> _Precise:
    return _Precise(digits)


class _Arithmetic:
    def __init__(self, functions: Mapping[str, Callable[..., Any]], constants: Mapping[str, Any]) -> None:
        self.functions = functions
        self.constants = constants
        self.cost = 0

    def number(self, value: Fraction) -> Any:
        raise NotImplementedError

    def value(self, node: Node, environment: Environment) -> Any:
        try:
            return self.of(node, environment)
        except ZeroDivisionError:
            raise Undefined("division by zero") from None
        except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
            raise Unsuited(str(error)) from None

    def of(self, node: Node, environment: Environment) -> Any:
        self.cost += 1
        if self.cost > MAX_COST:
            raise Unsuited("too many steps")
        match node:
            case Number(value):
                return self.number(value)
            case Symbol(name):
                if name in environment:
                    return self.number(environment[name])
                if name in self.constants:
                    return self.constants[name]
                raise Unsuited(f"{name} has no value")
            case Measure(value, _):
                return self.of(value, environment)
            case Call("^", (base, exponent)):
                return self.power(self.of(base, environment), exponent, environment)
            case Call("sum" | "prod" as name, (Symbol(index), low, high, term)):
                return self.series(name, index, low, high, term, environment)
            case Call(name, args):
                return self.call(name, args, environment)
        raise Unsuited("no number")

    def call(self, name: str, args: tuple[Node, ...], environment: Environment) -> Any:
        if name not in self.functions and not name.endswith("()"):
            raise Unsuited(name)
        values = [self.of(arg, environment) for arg in args]
        if name in _OF_ANGLES and any(isinstance(part, Measure) for part in walk(args[0])):
            values[0] = values[0] * self.constants["\\pi"] / 180
        if name == "log" and len(values) == 1 and LOG10 in environment:
            name = "lg"
        if name.endswith("()"):
            return self.unknown(name, values)
        return self.functions[name](*values)

    def unknown(self, name: str, values: list[Any]) -> Any:
        if "cos" not in self.functions:
            raise Unsuited("irrational")
        phase = self.number(Fraction(sum(map(ord, name)), 97))
        for place, value in enumerate(values, 1):
            phase = phase + value * self.number(Fraction(13, 7 + 4 * place))
        return self.functions["cos"](phase) + 2

    def series(
        self, name: str, index: str, low: Node, high: Node, term: Node, environment: Environment
    ) -> Any:
        if Symbol("\\infty") in (low, high):
            raise Unsuited("an infinite sum")
        first, last = _integer(low, environment), _integer(high, environment)
        if last - first > MAX_TERMS:
            raise Unsuited("too many terms")
        total = self.number(Fraction(name == "prod"))
        for place in range(first, last + 1):
            value = self.of(term, {**environment, index: Fraction(place)})
            total = self.functions["*" if name == "prod" else "+"](total, value)
        return total

    def power(self, base: Any, exponent: Node, environment: Environment) -> Any:
        raise NotImplementedError


def _integer(node: Node, environment: Environment) -> int:
    value = exact(node, environment)
    if value.denominator != 1 or abs(value) > 10**6:
        raise Unsuited("no small integer")
    return int(value)


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise Unsuited("too large")
    return value


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= 3_000:
        raise Unsuited("no factorial")
    return Fraction(math.factorial(int(value)))


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= 10_000:
        raise Unsuited("no binomial coefficient")
    return _bounded(Fraction(math.comb(int(n), int(k))))


def _exact_root(value: Fraction, degree: Fraction) -> Fraction:
    if degree != 2 or value < 0:
        raise Unsuited("no square root")
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root != value:
        raise Unsuited("irrational")
    return root


def _integers(function: Callable[[int, int], int]) -> Callable[[Fraction, Fraction], Fraction]:
    def of(a: Fraction, b: Fraction) -> Fraction:
        if a.denominator != 1 or b.denominator != 1:
            raise Unsuited("no integers")
        return Fraction(function(int(a), int(b)))

    return of


_EXACT: Mapping[str, Callable[..., Any]] = {
    "+": lambda *terms: reduce(lambda a, b: _bounded(a + b), terms),
    "*": lambda *factors: reduce(lambda a, b: _bounded(a * b), factors),
    "/": lambda a, b: _bounded(a / b),
    "neg": lambda a: -a,
    "abs": abs,
    "!": _factorial,
    "binom": _binomial,
    "root": _exact_root,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
    "max": max,
    "min": min,
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
}


class _Exact(_Arithmetic):
    def __init__(self) -> None:
        super().__init__(_EXACT, {})

    def number(self, value: Fraction) -> Fraction:
        return value

    def of(self, node: Node, environment: Environment) -> Any:
        value = super().of(node, environment)
        self.cost += value.denominator.bit_length() // 100 + value.numerator.bit_length() // 100
        return value

    def power(self, base: Fraction, exponent: Node, environment: Environment) -> Fraction:
        power = self.of(exponent, environment)
        if power.denominator == 2:
            return self.power(_exact_root(base, Fraction(2)), Number(Fraction(power.numerator)), {})
        size = max(1, base.numerator.bit_length() + base.denominator.bit_length() - 1)
        if power.denominator != 1 or abs(power) > MAX_BITS or size * abs(power) > 2 * MAX_BITS:
            raise Unsuited("no small power")
        return _bounded(base ** int(power))


def _rational(exponent: Node, environment: Environment) -> Fraction | None:
    """The exponent as a fraction, where it is one."""
    try:
        return exact(exponent, environment)
    except Unsuited:
        return None


class _Inexact(_Arithmetic):
    """What doubles and 100 digits share: powers with integer exponents by multiplication, odd roots real."""

    def power(self, base: Any, exponent: Node, environment: Environment) -> Any:
        constant = _rational(exponent, environment)
        if constant is not None and constant.denominator == 1 and abs(constant) < 10**6:
            return base ** int(constant)
        value = self.of(exponent, environment)
        if constant is not None and constant.denominator % 2 and _is_negative(base):
            sign = -1 if constant.numerator % 2 else 1
            return sign * (-base) ** value
        return self.functions["pow"](base, value)


def _is_negative(value: Any) -> bool:
    return not value.imag and value.real < 0


def _double_root(value: complex, degree: complex) -> complex:
    if degree.imag or degree.real != int(degree.real) or not 0 < degree.real <= 1000:
        return value ** (1 / degree)
    if degree.real == 2:
        return cmath.sqrt(value)
    if int(degree.real) % 2 and _is_negative(value):
        return -((-value) ** (1 / degree.real))
    return value ** (1 / degree.real)


def _real(function: Callable[[float], float]) -> Callable[[complex], complex]:
    def of(value: complex) -> complex:
        if abs(value.imag) > 1e-9 * max(1.0, abs(value.real)):
            raise Unsuited("not real")
        return complex(function(value.real))

    return of


def _double_binomial(n: complex, k: complex) -> complex:
    gamma = _real(math.gamma)
    return gamma(n + 1) / (gamma(k + 1) * gamma(n - k + 1))


_DOUBLE: Mapping[str, Callable[..., Any]] = {
    "+": lambda *terms: sum(terms),
    "*": lambda *factors: reduce(mul, factors),
    "/": lambda a, b: a / b,
    "neg": lambda a: 0 - a,  # -a would be below the branch cut of the root
    "pow": lambda a, b: a**b if a else (0j if b.real > 0 else 1j / 0),
    "root": _double_root,
    "abs": lambda a: complex(abs(a)),
    "!": lambda a: _real(math.gamma)(a + 1),
    "binom": _double_binomial,
    "floor": _real(math.floor),
    "ceil": _real(math.ceil),
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "cot": lambda a: 1 / cmath.tan(a),
    "sec": lambda a: 1 / cmath.cos(a),
    "csc": lambda a: 1 / cmath.sin(a),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "arccot": lambda a: cmath.atan(1 / a),
    "arcsinh": cmath.asinh,
    "arccosh": cmath.acosh,
    "arctanh": cmath.atanh,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "exp": cmath.exp,
    "ln": cmath.log,
    "lg": lambda a: cmath.log(a) / cmath.log(10),
    "log": lambda a, base=None: cmath.log(a) / (cmath.log(base) if base is not None else 1),
}
_CONSTANTS = {"\\pi": complex(math.pi), "e": complex(math.e), "i": 1j}


class _Double(_Inexact):
    def __init__(self) -> None:
        super().__init__(_DOUBLE, _CONSTANTS)

    def number(self, value: Fraction) -> complex:
        return complex(value.numerator / value.denominator)

    def power(self, base: Any, exponent: Node, environment: Environment) -> Any:
        return super().power(complex(base), exponent, environment)


class _Precise(_Inexact):
    def __init__(self, digits: int) -> None:
        import mpmath

        mp = self.mp = mpmath.MPContext()
        mp.dps = digits
        constants = {"\\pi": mp.pi(), "e": mp.e(), "i": mp.mpc(0, 1)}
        functions = {
            **{name: _DOUBLE[name] for name in ("+", "*", "/", "neg")},
            "pow": mp.power,
            "root": self.root,
            "abs": mp.fabs,
            "!": mp.factorial,
            "binom": mp.binomial,
            "floor": mp.floor,
            "ceil": mp.ceil,
            **{
                name: getattr(mp, name)
                for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp")
            },
            "arcsin": mp.asin,
            "arccos": mp.acos,
            "arctan": mp.atan,
            "arccot": lambda a: mp.atan(1 / a),
            "arcsinh": mp.asinh,
            "arccosh": mp.acosh,
            "arctanh": mp.atanh,
            "ln": mp.ln,
            "lg": lambda a: mp.ln(a) / mp.ln(10),
            "log": lambda a, base=None: mp.ln(a) / (mp.ln(base) if base is not None else 1),
        }
        super().__init__(functions, constants)

    def number(self, value: Fraction) -> Any:
        return self.mp.mpf(value.numerator) / value.denominator

    def root(self, value: Any, degree: Any) -> Any:
        if degree == 2:
            return self.mp.sqrt(value)
        if degree == int(degree) and int(degree) % 2 and _is_negative(value):
            return -self.mp.root(-value, int(degree))
        return self.mp.power(value, 1 / degree)
