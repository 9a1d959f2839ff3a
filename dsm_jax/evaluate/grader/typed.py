r"""Compares two trees by their kind: values, lists, sets, tuples, intervals, matrices, ratios, equations.

Rules, each a test: a list is a multiset ("1,2" is "2,1", not "2,1,1"), a tuple is ordered, brackets must match ((3,4) is not
[3,4]); "x = 5" is 5 where x only names the value, and x = 5, y = 6 are values by name; a chain of equal signs between
numbers must be true; "a \pm b" is two values; an equation of two variables is compared up to a factor, one of one variable by
its solution as written (2x = 10 is not yet x = 5).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from dsm_jax.evaluate.grader.intervals import is_inequality, real_set, same_set, substituted
from dsm_jax.evaluate.grader.matrices import fold_matrices
from dsm_jax.evaluate.grader.same import CONSTANTS, constant, is_expression, same_value, variables
from dsm_jax.evaluate.grader.tree import (
    Based,
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
    Words,
    walk,
)
from dsm_jax.evaluate.grader.words import number_in_words, same_text

MAX_UNMATCHED = 24  # items of two lists that are not the same trees: each is compared with each
_LISTS = (",", "and", "or", ";")
_OTHERWISE = Words("otherwise")
_WRONG = Words("\0")  # equals nothing


def equal(answer: Node, gold: Node) -> bool:
    """Whether the answer says the same as the gold answer."""
    if is_inequality(answer) or is_inequality(gold):
        one, other = real_set(answer), real_set(gold)
        if one is not None and other is not None:
            return same_set(one, other)
    ours, theirs = _entries(answer), _entries(gold)
    if len(ours) != len(theirs):
        ours, theirs = _spread(ours), _spread(theirs)
    if len(ours) == len(theirs) == 1:
        return _same_entry(ours[0], theirs[0])
    if len(theirs) == 1 and theirs[0][0] is None and _is_ordered(theirs[0][1]):
        return _ordered([value for _, value in ours], _items(theirs[0][1]))
    if len(ours) == 1 and ours[0][0] is None and _is_ordered(ours[0][1]):
        return _ordered(_items(ours[0][1]), [value for _, value in theirs])
    ours, theirs = _members(ours), _members(theirs)
    return _same_entries(ours, theirs)


Entry = tuple[Node | None, Node]  # the name of a value, and the value


def _entries(node: Node) -> list[Entry]:
    """The values of an answer, each with its name where it has one."""
    if isinstance(node, Group) and node.kind in _LISTS:
        if node.kind == "or" and _are_one_value(node.items):  # 3/8 or 0.375
            return _entries_of_part(node.items[0], ",")
        entries = [entry for item in node.items for entry in _entries_of_part(item, node.kind)]
        entries = _chunked(entries)
        if len(entries) > 1 and entries[0][0] is not None and all(name is None for name, _ in entries[1:]):
            entries = [(None, value) for _, value in entries]  # n = 1, 2, 3
        return entries
    return _entries_of_part(node, ",")


def _are_one_value(items: Sequence[Node]) -> bool:
    return all(is_expression(item) and constant(item) is not None for item in items) and all(
        equal(item, items[0]) for item in items
    )


def _spread(entries: list[Entry]) -> list[Entry]:
    """(x, y) = (1, 2) as x = 1, y = 2."""
    match entries:
        case [(Group("()", names), Group("()", values))] if len(names) == len(values):
            return list(zip(names, values, strict=True))
    return entries


def _entries_of_part(node: Node, kind: str) -> list[Entry]:
    if isinstance(node, Group) and node.kind in _LISTS:
        inner = _entries(node)
        if kind == ";" and len(inner) > 1:  # p = 5, q = 2; p = 7, q = 2
            return [(None, Group("()", tuple(value for _, value in inner)))]
        return inner
    node = fold_matrices(node)
    name, value = _named(node)
    return [(name, each) for each in _plus_and_minus(value)]


def _chunked(entries: list[Entry]) -> list[Entry]:
    """p = 5, q = 2, p = 7, q = 2 are two pairs."""
    names = [name for name, _ in entries]
    size = names.index(names[0], 1) if None not in names and names[0] in names[1:] else 0
    if size < 2 or len(names) % size or any(names[i] != names[i % size] for i in range(len(names))):
        return entries
    values = [value for _, value in entries]
    return [(None, Group("()", tuple(values[i : i + size]))) for i in range(0, len(values), size)]


def _named(node: Node) -> Entry:
    """(name, value) of "x = 5" and "x = 2 + 3 = 5"; a chain of numbers that does not hold equals nothing."""
    if not isinstance(node, Relation):
        return None, node
    items, ops = node.items, node.ops
    if ops == ("∈",) and is_label(items[0]):
        return items[0], items[1]
    if (
        isinstance(items[0], Ratio)
        and not is_label(items[0].items[-1])
        and isinstance(items[0].items[0], Symbol)
    ):
        items = (items[0].items[-1], *items[1:])  # l: x + y = 1
    if "≈" in ops:
        place = ops.index("≈")
        if place == 0 and len(ops) == 1 and is_label(items[0]):
            return items[0], items[1]
        items, ops = items[: place + 1], ops[:place]
    if not ops:
        return None, items[0]
    if set(ops) != {"="}:
        return None, Relation(items, ops)
    name = items[0] if is_label(items[0]) else None
    if name is None and len(items) == 2 and is_label(items[1]) and constant(items[0]) is not None:
        return items[1], items[0]
    values = items[1:] if name is not None else items
    if len(values) == 1:
        return name, values[0]
    if all(constant(value) is not None for value in values):
        same = all(same_value(values[0], value) for value in values[1:])
        return name, values[-1] if same else _WRONG
    if name is not None and all(same_value(values[0], value) for value in values[1:]):
        return name, values[-1]
    return None, Relation(items, ops)


def is_label(node: Node) -> bool:
    """Whether this only names a value: x, x_1, f(2), |AB|, A:B, (p, q), \\frac{NO}{BO}, words."""
    match node:
        case Symbol(name):
            return name not in CONSTANTS | {"\\infty"}
        case Words():
            return True
        case Call(name, _) if name.endswith("()"):
            return True
        case Call("abs", (Symbol(name),)):
            return not re.fullmatch("[a-y]", name)  # |x| = 3 is no 3, |AB| = 3 is
        case SetOperation(_, args):  # A ∩ B
            return all(map(is_label, args))
        case Call("abs" | "*" | "/" | "'", args) | Ratio(args) | Group("()", args):
            return all(map(is_label, args))
        case Call("^", (Symbol("f" | "g" | "h"), _)):
            return True
    return False


def _plus_and_minus(node: Node) -> list[Node]:
    """The values of an expression with ±: all signs above, all below."""
    parts = node.items if isinstance(node, Relation) else (node,)
    if not all(map(is_expression, parts)) or not any(
        isinstance(part, Call) and part.name == "±" for part in walk(node)
    ):
        return [node]
    return [_with_sign(node, sign) for sign in (1, -1)]


def _with_sign(node: Node, sign: int) -> Node:
    match node:
        case Call("±", (left, right)):
            right = _with_sign(right, sign)
            return Call("+", (_with_sign(left, sign), right if sign > 0 else Call("neg", (right,))))
        case Call(name, args):
            return Call(name, tuple(_with_sign(arg, sign) for arg in args))
        case Measure(value, unit):
            return Measure(_with_sign(value, sign), unit)
        case Group(kind, items):
            return Group(kind, tuple(_with_sign(item, sign) for item in items))
        case Relation(items, ops):
            return Relation(tuple(_with_sign(item, sign) for item in items), ops)
    return node


def _is_ordered(node: Node) -> bool:
    return isinstance(node, Group) and node.kind == "()"


def _items(node: Node) -> list[Node]:
    return list(node.items) if isinstance(node, Group) else [node]


def _members(entries: list[Entry]) -> list[Entry]:
    """A set is the list of its members, ± counted twice."""
    if len(entries) == 1 and isinstance(entries[0][1], Group) and entries[0][1].kind == "{}":
        return [(None, each) for item in entries[0][1].items for each in _plus_and_minus(_named(item)[1])]
    return entries


def _ordered(ours: Sequence[Node], theirs: Sequence[Node]) -> bool:
    return len(ours) == len(theirs) and all(map(equal, ours, theirs))


def _same_entries(ours: list[Entry], theirs: list[Entry]) -> bool:
    if _are_roots(ours) and _are_roots(theirs):
        ours = [(None, value) for _, value in ours]
    if any(isinstance(value, Relation) for _, value in (*ours, *theirs)):  # y = ±x against x ± y = 0
        ours, theirs = _as_equations(ours), _as_equations(theirs)
    our_names, their_names = [name for name, _ in ours], [name for name, _ in theirs]
    if None not in our_names and None not in their_names and len(set(our_names)) == len(ours):
        if set(our_names) == set(their_names) and len(ours) == len(theirs):
            values = dict(ours)
            return all(equal(values[name], value) for name, value in theirs)
        return False
    names = their_names if None not in their_names else our_names
    if None not in names and len({_stem(name) for name in names}) > 1:  # AB = 4, CD = 5 against 4, 5
        return _ordered([value for _, value in ours], [value for _, value in theirs])
    return unordered([value for _, value in ours], [value for _, value in theirs], equal)


def _as_equations(entries: list[Entry]) -> list[Entry]:
    return [(None, value if name is None else Relation((name, value), ("=",))) for name, value in entries]


def _are_roots(entries: list[Entry]) -> bool:
    """x_1, x_2: which of them is the first, nobody can say."""
    return [name for name, _ in entries] == [Symbol(f"x_{place}") for place in range(1, len(entries) + 1)]


def _stem(name: Node | None) -> object:
    return name.name.partition("_")[0] if isinstance(name, Symbol) else name


def unordered(ours: list[Node], theirs: list[Node], same: Callable[[Node, Node], bool]) -> bool:
    """Whether the lists are equal as multisets; a point that is written twice is one point."""
    ours, theirs = _points_once(ours), _points_once(theirs)
    if len(ours) != len(theirs):
        return False
    if all(map(_is_truth_value, theirs)):  # "True, False" answers two questions
        return all(map(same, ours, theirs))
    common = Counter(ours) & Counter(theirs)
    left, right = list((Counter(ours) - common).elements()), list((Counter(theirs) - common).elements())
    if len(left) > MAX_UNMATCHED:
        return False
    for one in left:
        place = next((place for place, other in enumerate(right) if same(one, other)), None)
        if place is None:
            return False
        del right[place]
    return True


def _is_truth_value(node: Node) -> bool:
    return isinstance(node, Words) and node.text.casefold() in (
        "true",
        "false",
        "yes",
        "no",
        "正确",
        "错误",
        "是",
        "否",
    )


def _points_once(items: list[Node]) -> list[Node]:
    return list(dict.fromkeys(items)) if all(isinstance(item, Group) for item in items) else items


def _same_entry(ours: Entry, theirs: Entry) -> bool:
    (our_name, answer), (their_name, gold) = _same_argument(ours, theirs), theirs
    if our_name is not None and their_name is not None and not _same_name(our_name, their_name):
        one = Relation((our_name, answer), ("=",))
        return _same_equation(one, Relation((their_name, gold), ("=",)))
    if isinstance(gold, Relation) and our_name is not None:
        return _same_equation(Relation((our_name, answer), ("=",)), gold)
    if isinstance(answer, Relation) and their_name is not None:
        return _same_equation(answer, Relation((their_name, gold), ("=",)))
    return _same(answer, gold)


def _same_argument(ours: Entry, theirs: Entry) -> Entry:
    """f(t) = t^2 is f(x) = x^2."""
    match ours[0], theirs[0]:
        case Call(one, (Symbol(t),)), Call(other, (Symbol() as x,)) if one == other and one.endswith("()"):
            return theirs[0], substituted(ours[1], {t: x})
    return ours


def _same_name(one: Node, other: Node) -> bool:
    """The same name; of functions, points and words the case is free (P(x) and p(x))."""
    if one == other:
        return True
    match one, other:
        case (Call("*", (Symbol(a), b)), Call("*", (Symbol(c), d))):
            return a.casefold() == c.casefold() and b == d
        case (Words(a), Words(b)):
            return a.casefold() == b.casefold()
        case (Call(function, _), Symbol("y")) | (Symbol("y"), Call(function, _)):
            return function.endswith("()")
    return False


def _same(answer: Node, gold: Node) -> bool:
    if isinstance(answer, Measure) or isinstance(gold, Measure):
        return _same_measure(answer, gold)
    if is_expression(answer) and is_expression(gold):
        return same_value(answer, gold) is True
    match answer, gold:
        case (Words(a), Words(b)):
            return same_text(a, b) or (
                number_in_words(a) is not None and number_in_words(a) == number_in_words(b)
            )
        case (Words(text), number) | (number, Words(text)):
            value = number_in_words(text)
            return value is not None and is_expression(number) and same_value(Number(value), number) is True
        case (Based(a, b), Based(c, d)):
            return (a.lstrip("0"), b) == (c.lstrip("0"), d)
        case (Matrix(), _) | (_, Matrix()):
            return _same_matrix(answer, gold)
        case (Relation(), Relation()):
            return _same_equation(answer, gold)
        case (Ratio(), _) | (_, Ratio()):
            return _same_ratio(answer, gold)
        case (SetOperation(), SetOperation()):
            return answer.op == gold.op and unordered(list(answer.items), list(gold.items), equal)
        case (Group(), Group()):
            return _same_group(answer, gold)
        case (Group("{}", (one,)), other) | (other, Group("{}", (one,))):
            return equal(one, other)
    return False


def _same_measure(answer: Node, gold: Node) -> bool:
    """A unit that only one side has is free; 50% is 50 and 0.5."""
    one, other = (node if isinstance(node, Measure) else Measure(node, "") for node in (answer, gold))
    if one.unit == other.unit or "" in (one.unit, other.unit):
        if equal(one.value, other.value):
            return True
        percent = {one.unit, other.unit} == {"%", ""}
        bare, marked = (one, other) if one.unit == "" else (other, one)
        return percent and equal(bare.value, Call("/", (marked.value, Number(Fraction(100)))))
    return False


def _same_group(answer: Group, gold: Group) -> bool:
    if answer.kind == gold.kind == "cases":
        vague = sum(part == _OTHERWISE for part in walk(answer))
        return vague < 2 and unordered(list(answer.items), list(gold.items), _same_case)
    if answer.kind == gold.kind == "{}":
        return unordered(list(_flat(answer)), list(_flat(gold)), equal)
    if answer.kind == gold.kind:
        return _ordered(answer.items, gold.items)
    if "{}" in (answer.kind, gold.kind):
        return False
    kinds = {answer.kind, gold.kind}
    return bool(kinds & set(_LISTS)) and "()" in kinds and _ordered(answer.items, gold.items)


def _same_case(answer: Node, gold: Node) -> bool:
    """The same value under the same condition; "otherwise" is every other one."""
    match answer, gold:
        case (Group("case", (value, condition)), Group("case", (wanted, when))) if _OTHERWISE in (
            condition,
            when,
        ):
            return equal(value, wanted)
    return equal(answer, gold)


def _flat(group: Group) -> list[Node]:
    return [each for item in group.items for each in _plus_and_minus(item)]


def _same_matrix(answer: Node, gold: Node) -> bool:
    """Cell by cell; a row or column is also a tuple."""
    if isinstance(answer, Matrix) and isinstance(gold, Matrix):
        shapes = [(len(matrix.rows), len(matrix.rows[0])) for matrix in (answer, gold)]
        return shapes[0] == shapes[1] and all(map(_ordered, answer.rows, gold.rows))
    matrix, other = (answer, gold) if isinstance(answer, Matrix) else (gold, answer)
    assert isinstance(matrix, Matrix)
    if not isinstance(other, Group) or other.kind != "()" or 1 not in (len(matrix.rows), len(matrix.rows[0])):
        return len(matrix.rows) == len(matrix.rows[0]) == 1 and equal(matrix.rows[0][0], other)
    return _ordered([cell for row in matrix.rows for cell in row], other.items)


def _same_ratio(answer: Node, gold: Node) -> bool:
    """Equal parts, or proportional ones where it is no time of day; a : b is also a/b."""
    match answer, gold:
        case (Ratio(ours, clock), Ratio(theirs, other_clock)):
            if len(ours) != len(theirs):
                return False
            if all(map(equal, ours, theirs)):
                return True
            if clock or other_clock or not all(constant(part) for part in (*ours, *theirs)):
                return False
            pairs = zip(ours, theirs, strict=True)
            return all(same_value(Call("*", (a, theirs[0])), Call("*", (b, ours[0]))) for a, b in pairs)
        case (Ratio((a, b), False), other) | (other, Ratio((a, b), False)) if is_expression(other):
            return same_value(Call("/", (a, b)), other) is True
    return False


def _same_equation(answer: Relation, gold: Relation) -> bool:
    """Item by item; an equation of several variables also up to a factor, at a generic point."""
    if len(answer.items) == len(gold.items):
        if answer.ops == gold.ops and all(map(equal, answer.items, gold.items)):
            return True
        turned = tuple({"<": ">", ">": "<", "≤": "≥", "≥": "≤"}.get(op, op) for op in reversed(answer.ops))
        if turned == gold.ops and all(map(equal, reversed(answer.items), gold.items)):
            return True
    if answer.ops != ("=",) or gold.ops != ("=",) or not all(map(is_expression, answer.items + gold.items)):
        return False
    one, other = (Call("+", (left, Call("neg", (right,)))) for left, right in (answer.items, gold.items))
    names = sorted(variables(one))
    if names != sorted(variables(other)) or len(names) < 2:
        return False
    point: dict[str, Node] = {name: Number(Fraction(101 + 37 * i, 89)) for i, name in enumerate(names)}
    ours, theirs = substituted(one, point), substituted(other, point)
    if not constant(ours) or not constant(theirs):
        return False
    return same_value(Call("*", (one, theirs)), Call("*", (other, ours))) is True
