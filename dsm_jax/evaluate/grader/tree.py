"""What an answer is once it is read: a small tree of numbers, names, operations and collections.

The parser builds it (parse.py), the comparison walks it (typed.py). Nodes are immutable and hashable. Left out on
purpose: any behaviour; a node does not know how to evaluate or compare itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number; `places` and `digits` (significant) are those of a decimal as it was written, else 0."""

    value: Fraction
    places: int = 0
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation or function: "+", "*", "/", "^", "neg", "±", "!", "sin", "root", an unknown "f"..."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """A value with a unit's canonical name; "%" and "degree" are units."""

    value: Node
    unit: str


@dataclass(frozen=True, slots=True)
class Group:
    """A collection: brackets "()", "[]", "[)", "(]", "{}" for a set, "," for a bare list, "and", "or", ";"."""

    kind: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain a op b op c, one operator fewer than items: = < > ≤ ≥ ≠ ≈ ∈."""

    items: tuple[Node, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetOperation:
    """∪, ∩ or \\ of sets."""

    op: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """a : b : c, also a time of day; `clock` where a part starts with a zero (4:05)."""

    items: tuple[Node, ...]
    clock: bool


@dataclass(frozen=True, slots=True)
class Based:
    """A numeral in a base other than ten, as written: it equals only the same numeral."""

    numeral: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    text: str


Node = Number | Symbol | Call | Measure | Group | Relation | SetOperation | Matrix | Ratio | Based | Words


class Unreadable(Exception):
    """The text is no mathematics this grader reads; it can only be compared as text."""


def children(node: Node) -> Iterator[Node]:
    """The nodes right below this one."""
    match node:
        case Call(_, args):
            yield from args
        case Measure(value, _):
            yield value
        case Group(_, items) | Relation(items, _) | SetOperation(_, items) | Ratio(items, _):
            yield from items
        case Matrix(rows):
            for row in rows:
                yield from row


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for child in children(node):
        yield from walk(child)
