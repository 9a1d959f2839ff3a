r"""Reads a plain answer into a tree: recursive descent over a small grammar of school and olympiad answers.

    answer   = part {(";" | "," | and | or) part}
    part     = sets {relation sets}                  relations: = < > <= >= != ~ in
    sets     = ratio {(cup | cap | setminus) ratio}
    ratio    = sum {":" sum}
    sum      = [sign] term {sign term}
    term     = power {("*" | "/" | nothing) power}
    power    = atom {"!" | "'" | "%" | degree | "_" script | "^" exponent}

Time is linear in the text, depth is bounded, nothing is computed (arithmetic.py does that, within bounds). Left out on
purpose: derivatives, congruences: they are compared as text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from dsm_jax.evaluate.grader.bases import in_base
from dsm_jax.evaluate.grader.commands import COMMANDS, function
from dsm_jax.evaluate.grader.cursor import Cursor
from dsm_jax.evaluate.grader.normalise import MAX_ANSWER, plain
from dsm_jax.evaluate.grader.scan import FUNCTIONS, Token, tokens
from dsm_jax.evaluate.grader.tree import (
    Call,
    Group,
    Matrix,
    Measure,
    Node,
    Number,
    Ratio,
    Relation,
    SetOperation,
    Symbol,
    Unreadable,
    Words,
)
from dsm_jax.evaluate.grader.units import read_unit

MAX_CHAIN = 30  # quotients, or signs after an atom, in a row

_RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "<=": "≤", "=<": "≤", ">=": "≥", "!=": "≠", "<>": "≠", "lt": "<", "gt": ">",
    "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "approx": "≈",
    "simeq": "≈", "in": "∈", "colon": ":",
}  # fmt: skip
_SETS = {"cup": "∪", "cap": "∩", "setminus": "\\", "backslash": "\\", "bigcup": "∪"}
_TIMES = {"*", "cdot", "times", "ast"}
_OPEN = {"(": "()", "[": "[]", "]": "]["}
_DOTS = {"ldots", "dots", "cdots", "dotsc", "..."}
_DECORATED = {
    "overline", "vec", "hat", "bar", "overrightarrow", "widehat", "tilde", "widetilde", "mathbb", "mathcal", "underline",
    "dot", "ddot",
}  # fmt: skip
_SAME_MARKS = {"bar": "overline", "overrightarrow": "vec", "widehat": "hat", "widetilde": "tilde"}
_LETTERS = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho",
    "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon",
    "Phi", "Psi", "Omega", "hbar", "aleph", "square", "Box", "star", "clubsuit", "diamondsuit", "heartsuit", "spadesuit",
}  # fmt: skip
_SILENT = {"angle", "triangle", "displaystyle", "therefore", "because", "boxed"}
_PHRASES = re.compile(r"\bfor all\b|\bif\b|\bwhere\b|\bwhen\b|\botherwise\b", re.IGNORECASE)


@lru_cache(maxsize=8192)
def parse(answer: str, thousands: bool = True) -> Node:
    """The tree of an answer. Raises Unreadable where it is no mathematics that this grammar has."""
    if len(answer) > MAX_ANSWER:
        raise Unreadable("too long")
    text = plain(answer)
    if not text:
        raise Unreadable("empty")
    based = in_base(text)
    if based:
        return based
    parser = Parser(tokens(text, thousands))
    node = parser.answer()
    if parser.place < len(parser.tokens):
        raise Unreadable(f"unexpected {parser.tokens[parser.place].text!r}")
    return node


class Parser(Cursor):
    """The grammar, a method a rule. What LaTeX commands take stands in commands.py."""

    # Collections.

    def answer(self) -> Node:
        """Parts by ";", each of items by ",", "and", "or"."""
        self.deeper()
        groups = [self.items()]
        while self.accept(";"):
            if self.peek().kind == "end":
                break
            groups.append(self.items())
        self.depth -= 1
        return groups[0] if len(groups) == 1 else Group(";", tuple(groups))

    def items(self) -> Node:
        items, joints = [self.part()], set()
        while self.at(",", "and", "or"):
            while self.at(",", "and", "or"):
                joints.add(self.take().text)
            if self.at("&", "\\", "end"):  # of a row
                break
            if self.peek().kind == "end" or self.at(")", "]", "}", "\\}", ";"):
                raise Unreadable("nothing after a comma")
            items.append(self.part())
        if len(items) == 1:
            return items[0]
        kind = "or" if "or" in joints else "and" if "and" in joints else ","
        return Group(kind, tuple(items))

    def part(self) -> Node:
        node = self.relation()
        if self.peek().kind != "words":
            return node
        if isinstance(node, Words) or _PHRASES.search(self.peek().text):
            raise Unreadable("words inside")
        text = self.take().text
        unit = read_unit(f" {text}^{self.script()}" if self.accept("^") else f" {text}")
        if unit is not None and not unit.listed and not isinstance(node, Number | Ratio):
            unit = None  # "A because" is no unit of A
        if unit is None or isinstance(node, Group | Matrix | SetOperation):
            raise Unreadable("words after an expression")
        if isinstance(node, Relation):
            return Relation((*node.items[:-1], Measure(node.items[-1], unit.name)), node.ops)
        return Measure(node, unit.name)

    def relation(self) -> Node:
        leading = self.accept("approx")
        items, ops = [self.sets()], []
        while self.peek().kind in ("sign", "command") and self.peek().text in _RELATIONS:
            op = _RELATIONS[self.take().text]
            ops.append(op)
            items.append(self.sets())
        if leading and ops:
            raise Unreadable("two readings")
        if "∈" in ops and any(isinstance(item, Words) for item in items):
            raise Unreadable("a sentence")
        return Relation(tuple(items), tuple(ops)) if ops else items[0]

    def sets(self) -> Node:
        node = self.ratio()
        while self.peek().kind == "command" and self.peek().text in _SETS:
            op = _SETS[self.take().text]
            right = self.ratio()
            if isinstance(node, SetOperation) and node.op == op:
                node = SetOperation(op, (*node.items, right))
            else:
                node = SetOperation(op, (node, right))
        return node

    def ratio(self) -> Node:
        items = [self.sum()]
        clock = False
        while self.accept(":", "colon"):
            clock |= self.peek().kind == "number" and len(self.peek().text) > 1 and self.peek().text[0] == "0"
            items.append(self.sum())
        if len(items) > 1 and any(isinstance(item, Words) for item in items):
            raise Unreadable("words in a ratio")
        return Ratio(tuple(items), clock) if len(items) > 1 else items[0]

    # Arithmetic.

    def sum(self) -> Node:
        node = self.signed()
        while self.at("+", "-", "pm", "mp"):
            op = self.take().text
            if op in ("pm", "mp"):
                node = _call("±", node, self.term())
            else:
                right = self.signed()
                node = _flat("+", node, right if op == "+" else _call("neg", right))
        return node

    def signed(self) -> Node:
        signs = 0
        negative = False
        while self.at("+", "-"):
            negative ^= self.take().text == "-"
            signs += 1
            if signs > 3:
                raise Unreadable("too many signs in a row")
        if not signs and self.at("pm", "mp"):
            self.take()
            return _call("±", Number(Fraction(0)), self.term())
        term = self.term()
        return _call("neg", term) if negative else term

    def term(self) -> Node:
        node = self.power()
        quotients = 0
        while True:
            if self.accept(*_TIMES):
                node = _flat("*", node, self.factor())
            elif self.accept("/", "div"):
                quotients += 1
                if quotients > MAX_CHAIN:
                    raise Unreadable("too many quotients")
                node = _call("/", node, self.factor())
            elif self.starts_factor():
                node = self.juxtaposed(node)
            else:
                return node

    def factor(self) -> Node:
        negative = self.accept("-")
        node = self.power()
        return Call("neg", (node,)) if negative else node

    def juxtaposed(self, left: Node) -> Node:
        """A product without a sign, or a mixed number: 1\\frac{1}{2}, 1 1/2."""
        start = self.place
        right = self.power()
        if isinstance(left, Number) and left.value.denominator == 1 and left.places == 0:
            match right:
                case Number(value) if self.tokens[start].kind == "mixed":
                    return Number(left.value + value)
                case Call("/", (Number(above, 0), Number(below, 0))) if 0 < above < below:
                    return Number(left.value + above / below)
                case Measure(Call("/", (Number(above, 0), Number(below, 0))), unit) if 0 < above < below:
                    return Measure(Number(left.value + above / below), unit)
        return _flat("*", left, right)

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind == "number":
            return self.peek(-1).text == "!" or self.mixed()
        if token.kind == "name":
            return not (self.integrals and token.text == "d" and self.peek(1).kind == "name")
        if token.kind == "sign":
            return token.text in ("(", "{")
        return token.kind == "command" and token.text not in _ENDS

    def mixed(self) -> bool:
        """At "1/2" of "1 1/2": turns the three tokens into the fraction that they are."""
        before, above, slash, below = self.peek(-1), self.peek(), self.peek(1), self.peek(2)
        if slash.text != "/" or not above.spaced or not (above.number and below.number):
            return False
        integers = all(token.text.isdigit() for token in (before, above, below))
        if not integers or not 0 < above.number.value < below.number.value:
            return False
        value = above.number.value / below.number.value
        self.tokens[self.place : self.place + 3] = [Token("mixed", "", True, Number(value))]
        return True

    def power(self) -> Node:
        node = self.atom()
        for _ in range(MAX_CHAIN):
            if self.at("!") and self.peek(1).text != "!":
                self.take()
                node = Call("!", (node,))
            elif self.at("!"):
                raise Unreadable("!!")
            elif self.at("'") and isinstance(node, Symbol):
                self.take()
                node = Symbol(node.name + "'")
            elif self.at("%", "percent"):
                self.take()
                node = Measure(node, "%")
            elif self.at("°", "degrees"):
                self.take()
                node = Measure(node, "degree")
            elif self.at("_"):
                self.take()
                if not isinstance(node, Symbol):
                    raise Unreadable("a subscript of a number")
                node = Symbol(f"{node.name}_{self.script()}")
            elif self.at("^", "**"):
                self.take()
                node = self.raised(node)
            else:
                return node
        raise Unreadable("too many signs after an atom")

    def raised(self, base: Node) -> Node:
        if self.at("'", "prime"):
            self.take()
            return Symbol(f"{base.name}'") if isinstance(base, Symbol) else Call("'", (base,))
        if self.accept("prime"):
            return Call("'", (base,))
        negative = self.accept("-")
        self.accept("+")
        exponent = self.atom()
        if self.at("^", "**"):  # a^b^c is a^(b^c)
            self.take()
            self.deeper()
            exponent = self.raised(exponent)
            self.depth -= 1
        return Call("^", (base, Call("neg", (exponent,)) if negative else exponent))

    # Atoms.

    def atom(self) -> Node:
        self.deeper()
        node = self.shallow_atom(self.take())
        self.depth -= 1
        return node

    def shallow_atom(self, token: Token) -> Node:
        if token.number is not None:
            return token.number
        if token.kind == "name":
            return self.named(token)
        if token.kind == "words":
            return self.words(token)
        if token.kind == "command":
            return self.command(token.text)
        if token.text == "|":
            return self.absolute()
        if token.text == "{":
            return self.braced()
        if token.text in _OPEN:
            return self.bracketed(token.text)
        if token.text == "...":
            return Symbol("...")
        raise Unreadable(f"unexpected {token.text!r}")

    def named(self, token: Token) -> Node:
        """A letter; f(x) of the letters that name functions is a call of an unknown function."""
        if token.text in "fghFGH" and self.at("(") and not self.peek().spaced:
            self.take()
            argument = self.answer()
            self.expect(")")
            arguments = (
                argument.items if isinstance(argument, Group) and argument.kind == "," else (argument,)
            )
            return Call(f"{token.text}()", arguments)
        return Symbol(token.text)

    def words(self, token: Token) -> Node:
        texts = [token.text]
        while self.peek().kind in ("words", "name") or (
            self.peek().kind == "command" and self.peek().text == "in"
        ):
            texts.append(self.take().text)
        return Words(" ".join(text.strip() for text in texts))

    def braced(self) -> Node:
        """{...} is a bracket of LaTeX; with commas in it a set, with \\choose a binomial."""
        node = self.answer()
        if self.accept("choose"):
            node = Call("binom", (node, self.answer()))
        elif self.accept("over"):
            node = Call("/", (node, self.answer()))
        elif isinstance(node, Symbol) and self.accept("|", "mid"):
            node = self.answer()  # {x | condition} is its condition
        self.expect("}")
        return Group("{}", node.items) if isinstance(node, Group) and node.kind in (",", ";") else node

    def bracketed(self, opening: str) -> Node:
        node = self.answer()
        closing = self.take().text
        if closing not in (")", "]", "["):
            raise Unreadable("a bracket that does not close")
        items = node.items if isinstance(node, Group) and node.kind in (",", ";") else (node,)
        if len(items) == 1:
            if (opening, closing) in (("(", ")"), ("[", "]")):
                return items[0]
            raise Unreadable("brackets that do not match")
        left = "(" if opening in "(]" else "["
        right = ")" if closing in ")[" else "]"
        return Group(left + right, items)

    def absolute(self) -> Node:
        node = self.answer()
        self.expect("|", "rvert", "rVert")
        return Call("abs", (node,))

    def command(self, name: str) -> Node:
        if name in FUNCTIONS:
            return function(self, name)
        if name in COMMANDS:
            return COMMANDS[name](self)
        if name in _DECORATED:
            inside = self.script() if self.at("{") else self.take().text
            return Symbol(f"{_SAME_MARKS.get(name, name)}({inside})")
        if name in _SILENT:
            return self.atom()
        if name in _DOTS:
            return Symbol("...")
        if name in _LETTERS:
            return Symbol(f"\\{name}")
        raise Unreadable(f"\\{name}")

    def argument(self) -> Node:
        """Of a LaTeX command: {...}, or one token; of a number one digit."""
        token = self.peek()
        if token.kind == "number" and token.text.isdigit() and len(token.text) > 1:
            rest = token.text[1:]
            self.tokens[self.place : self.place + 1] = [
                Token("number", digits, False, Number(Fraction(digits))) for digits in (token.text[0], rest)
            ]
        if self.at("{"):
            self.take()
            return self.braced()
        return self.atom()


def _call(name: str, *args: Node) -> Node:
    """An operation; words are no operands."""
    if any(isinstance(arg, Words) for arg in args):
        raise Unreadable("words in an expression")
    return Call(name, args)


def _flat(name: str, left: Node, right: Node) -> Node:
    """A sum or product of one more argument: long ones are wide, not deep."""
    if isinstance(left, Call) and left.name == name:
        return _call(name, *left.args, right)
    return _call(name, left, right)


_ENDS = {
    *_RELATIONS, *_SETS, *_TIMES, "and", "or", "in", "pm", "mp", "div", "rangle", "rfloor", "rceil", "rvert", "rVert", "Vert", "}",
    "end", "\\", "choose", "over", "mid", "percent", "degrees", "prime", "to", "Rightarrow", "rightarrow", "hline", ",", "colon", "%",
}  # fmt: skip
