r"""Refuses what a computer algebra system could not finish: huge powers, factorials and numbers, deep or wide trees.

Text is bounded before it is parsed (1,000 characters, 600 tokens, 40 levels, numbers of 400 digits: scan.py, parse.py), and exact and
numeric arithmetic are bounded step by step (arithmetic.py). This guard stands before sympy only, whose steps nobody can bound; what
passes it still runs in a worker with a time and a memory limit (pool.py).
"""

from dsm_jax.evaluate.grader.arithmetic import Unsuited, exact
from dsm_jax.evaluate.grader.tree import Call, Node, Number, walk

MAX_NODES = 150
MAX_NUMBER = 10**9
MAX_POWER = 60
MAX_FACTORIAL = 100


def is_bomb(node: Node) -> bool:
    """Whether an expression is too large for symbolic work."""
    nodes = list(walk(node))
    return len(nodes) > MAX_NODES or any(map(_explodes, nodes))


def _explodes(node: Node) -> bool:
    match node:
        case Number(value):
            return abs(value.numerator) > MAX_NUMBER or value.denominator > MAX_NUMBER
        case Call("^", (_, exponent)):
            return not _is_at_most(exponent, MAX_POWER) or any(
                isinstance(part, Call) and part.name == "^" for part in walk(exponent)
            )
        case Call("!" | "binom", args):
            return not all(_is_at_most(arg, MAX_FACTORIAL) for arg in args)
    return False


def _is_at_most(node: Node, bound: int) -> bool:
    """Constants are computed, exactly and within bounds; with variables in it an expression may stay."""
    try:
        return abs(exact(node, {})) <= bound
    except Unsuited as error:
        return "has no value" in str(error)
