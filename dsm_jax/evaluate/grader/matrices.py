"""Arithmetic of matrices in an answer: sums, multiples and products are carried out, cell by cell, as trees."""

from fractions import Fraction
from functools import reduce

from dsm_jax.evaluate.grader.tree import Call, Matrix, Node, Number

MAX_PRODUCTS = 64


def fold_matrices(node: Node) -> Node:
    """Sums, differences, multiples and products of matrices carried out."""
    match node:
        case Call("+", args):
            return reduce(_sum, map(fold_matrices, args))
        case Call("*", args):
            return reduce(_times, map(fold_matrices, args))
        case Call("neg", (inner,)):
            inner = fold_matrices(inner)
            return (
                _scaled(Number(Fraction(-1)), inner) if isinstance(inner, Matrix) else Call("neg", (inner,))
            )
    return node


def _sum(left: Node, right: Node) -> Node:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        return _cellwise(left, right)
    return _joined("+", left, right)


def _times(left: Node, right: Node) -> Node:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        return _product(left, right)
    if isinstance(right, Matrix):
        return _scaled(left, right)
    return _scaled(right, left) if isinstance(left, Matrix) else _joined("*", left, right)


def _joined(name: str, left: Node, right: Node) -> Node:
    more = left.args if isinstance(left, Call) and left.name == name else (left,)
    return Call(name, (*more, right))


def _cellwise(left: Matrix, right: Matrix) -> Node:
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        return Call("+", (left, right))
    return Matrix(
        tuple(
            tuple(Call("+", cells) for cells in zip(*rows, strict=True))
            for rows in zip(left.rows, right.rows, strict=True)
        )
    )


def _scaled(factor: Node, matrix: Matrix) -> Matrix:
    return Matrix(tuple(tuple(Call("*", (factor, cell)) for cell in row) for row in matrix.rows))


def _product(left: Matrix, right: Matrix) -> Node:
    if (
        len(left.rows[0]) != len(right.rows)
        or len(right.rows) * len(left.rows) * len(right.rows[0]) > MAX_PRODUCTS
    ):
        return Call("*", (left, right))
    columns = list(zip(*right.rows, strict=True))
    return Matrix(tuple(tuple(_dot(row, column) for column in columns) for row in left.rows))


def _dot(row: tuple[Node, ...], column: tuple[Node, ...]) -> Node:
    return Call("+", tuple(Call("*", pair) for pair in zip(row, column, strict=True)))
