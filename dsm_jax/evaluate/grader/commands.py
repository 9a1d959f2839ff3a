r"""What LaTeX commands take and mean: fractions, functions, roots, sets, matrices, sums, integrals.

Each function is called after its name was taken, and takes its arguments from the parser.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from dsm_jax.evaluate.grader.scan import FUNCTIONS
from dsm_jax.evaluate.grader.tree import (
    Call,
    Group,
    Matrix,
    Node,
    Number,
    Ratio,
    Relation,
    Symbol,
    Unreadable,
    Words,
)

if TYPE_CHECKING:
    from dsm_jax.evaluate.grader.parse import Parser


def fraction(parser: Parser) -> Node:
    return Call("/", (parser.argument(), parser.argument()))


def binomial(parser: Parser) -> Node:
    return Call("binom", (parser.argument(), parser.argument()))


def function(parser: Parser, name: str) -> Node:
    if name in ("sqrt", "cbrt"):
        return root(parser, name)
    exponent = base = None
    while parser.at("^", "_"):
        if parser.take().text == "^":
            negative = parser.accept("-")
            exponent = parser.argument()
            exponent = Call("neg", (exponent,)) if negative else exponent
        else:
            base = parser.argument()
    argument = function_argument(parser)
    if exponent == Call("neg", (Number(Fraction(1), 0, 1),)) and name in (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
    ):
        name, exponent = f"arc{name}", None
    if name == "cis":
        node = _cis(argument)
    else:
        arguments = argument.items if isinstance(argument, Group) and name in _OF_SEVERAL else (argument,)
        node = Call(name, arguments if base is None else (*arguments, base))
    return node if exponent is None else Call("^", (node, exponent))


_OF_SEVERAL = ("gcd", "lcm", "max", "min")


def _cis(angle: Node) -> Node:
    return Call("+", (Call("cos", (angle,)), Call("*", (Symbol("i"), Call("sin", (angle,))))))


def function_argument(parser: Parser) -> Node:
    """(...) or {...}, else the product that follows: \\sin 2x \\cos y is sin(2x) cos(y)."""
    if parser.at("(", "{", "[", "|"):
        node = parser.atom()
        return node.items[0] if isinstance(node, Group) and len(node.items) == 1 else node
    node = parser.power()
    while parser.starts_factor() and not (
        parser.peek().kind == "command" and parser.peek().text in FUNCTIONS
    ):
        node = parser.juxtaposed(node)
    if parser.at("/") and parser.peek(1).kind == "number":
        parser.take()
        node = Call("/", (node, parser.power()))
    return node


def root(parser: Parser, name: str) -> Node:
    if name == "cbrt":
        return Call("root", (parser.argument(), Number(Fraction(3))))
    if not parser.accept("["):
        return Call("root", (parser.argument(), Number(Fraction(2))))
    degree = parser.answer()
    parser.expect("]")
    return Call("root", (parser.argument(), degree))


def between(parser: Parser, name: str, *closing: str) -> Node:
    node = parser.answer()
    parser.expect(*closing)
    return Call(name, (node,))


def set_of(parser: Parser) -> Node:
    if parser.accept("}"):
        return Group("{}", ())
    node = parser.answer()
    if parser.accept("|", "mid", ":", "colon"):
        node = parser.answer()  # {x | condition} is its condition
        parser.expect("}")
        return node
    parser.expect("}")
    if isinstance(node, Ratio) and len(node.items) == 2 and isinstance(node.items[0], Symbol):
        return node.items[1]
    if isinstance(node, Relation) and isinstance(node.items[0], Ratio):  # {x : x > 3}
        return Relation((node.items[0].items[-1], *node.items[1:]), node.ops)
    items = node.items if isinstance(node, Group) and node.kind in (",", ";", "and", "or") else (node,)
    return Group("{}", items)


def angled(parser: Parser) -> Node:
    node = parser.answer()
    parser.expect("rangle")
    return Group("()", node.items) if isinstance(node, Group) and node.kind == "," else node


def environment(parser: Parser) -> Node:
    name = parser.script()
    if name in ("cases", "dcases", "rcases"):
        return cases(parser)
    if name not in ("pmatrix", "bmatrix", "matrix", "vmatrix", "Bmatrix", "smallmatrix", "array"):
        raise Unreadable(f"\\begin{{{name}}}")
    if name == "array" and parser.at("{"):
        parser.script()
    rows: list[tuple[Node, ...]] = []
    cells: list[Node] = []
    while not parser.accept("end"):
        cells.append(parser.answer())
        if parser.accept("&"):
            continue
        rows.append(tuple(cells))
        cells = []
        while parser.accept("\\", "hline"):
            pass
    parser.script()
    if cells or not rows or len({len(row) for row in rows}) != 1:
        raise Unreadable("rows of different length")
    return Matrix(tuple(rows))


def cases(parser: Parser) -> Node:
    """Values, each with its condition; rows of one cell are a list: a system, or its solution."""
    rows: list[Node] = []
    while not parser.accept("end"):
        cells = [parser.answer()]
        match cells:
            case [Group(",", (value, condition))] if not isinstance(value, Relation):
                cells = [value, condition]
        while parser.accept("&", ",", ".", ";"):
            if not parser.at("\\", "end", "&", "."):
                cells.append(_condition(parser))
        rows.append(cells[0] if len(cells) == 1 else Group("case", tuple(cells)))
        while parser.accept("\\"):
            pass
    parser.script()
    return Group(
        "cases" if any(isinstance(row, Group) and row.kind == "case" for row in rows) else ",", tuple(rows)
    )


def _condition(parser: Parser) -> Node:
    """Without "if"; with other words in it ("n is even") the text."""
    end = parser.place
    while end < len(parser.tokens) and parser.tokens[end].text not in ("\\", "end", "&"):
        end += 1
    if parser.peek().kind == "words" and end - parser.place > 1 and parser.peek(1).text not in (",", "."):
        parser.take()
    found = parser.tokens[parser.place : end]
    if any(token.kind == "words" for token in found):
        parser.place = end
        return Words(
            " ".join(word for token in found for word in token.text.split() if word not in ("is", ",", "."))
        )
    return parser.answer()


def series(parser: Parser, name: str) -> Node:
    """\\sum_{k=1}^{n} term: bounds in either order."""
    first = last = None
    while parser.at("_", "^"):
        if parser.take().text == "_":
            first = parser.argument()
        else:
            last = parser.argument()
    match first:
        case Relation((Symbol() as index, low), ("=",)) if last is not None:
            return Call(name, (index, low, last, parser.term()))
    raise Unreadable(f"\\{name} without bounds")


def integral(parser: Parser) -> Node:
    """\\int_a^b integrand dx"""
    bounds: dict[str, Node] = {}
    while parser.at("_", "^"):
        sign = parser.take().text
        bounds[sign] = parser.argument()
    parser.integrals += 1
    integrand = parser.sum()
    parser.integrals -= 1
    if parser.take().text != "d" or parser.peek().kind not in ("name", "command") or len(bounds) == 1:
        raise Unreadable("an integral without its variable")
    limits = (bounds["_"], bounds["^"]) if bounds else ()
    return Call("integral", (Symbol(parser.take().text), *limits, integrand))


def limit(parser: Parser) -> Node:
    """\\lim_{x \\to a} expression"""
    parser.expect("_")
    parser.expect("{")
    name = parser.take()
    parser.expect("to", "rightarrow", "->")
    target = parser.sum()
    parser.expect("}")
    if name.kind != "name":
        raise Unreadable("a limit without its variable")
    return Call("limit", (Symbol(name.text), target, parser.term()))


COMMANDS: dict[str, Callable[[Parser], Node]] = {
    "frac": fraction,
    "dfrac": fraction,
    "binom": binomial,
    "dbinom": binomial,
    "tbinom": binomial,
    "{": set_of,
    "langle": angled,
    "begin": environment,
    "lfloor": lambda parser: between(parser, "floor", "rfloor"),
    "lceil": lambda parser: between(parser, "ceil", "rceil"),
    "lvert": lambda parser: parser.absolute(),
    "lVert": lambda parser: parser.absolute(),
    "|": lambda parser: parser.absolute(),
    "abs": lambda parser: Call("abs", (parser.atom(),)),
    "factorial": lambda parser: Call("!", (parser.atom(),)),
    "floor": lambda parser: Call("floor", (parser.atom(),)),
    "ceil": lambda parser: Call("ceil", (parser.atom(),)),
    "sum": lambda parser: series(parser, "sum"),
    "prod": lambda parser: series(parser, "prod"),
    "int": integral,
    "lim": limit,
    "emptyset": lambda parser: Group("{}", ()),
    "varnothing": lambda parser: Group("{}", ()),
    "infty": lambda parser: Symbol("\\infty"),
    "varphi": lambda parser: Symbol("\\phi"),
    "vartheta": lambda parser: Symbol("\\theta"),
    "varepsilon": lambda parser: Symbol("\\epsilon"),
    "imath": lambda parser: Symbol("i"),
    "ell": lambda parser: Symbol("l"),
}
