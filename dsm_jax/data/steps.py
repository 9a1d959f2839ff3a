"""The truth of each step of a response to a generated problem, by exact arithmetic in a parser of our own.

A line is right when every line before it is, and
- each equation and comparison in it holds exactly;
- it uses no number that neither the question nor an earlier line has (a fraction is known by its value or
  its parts), nor the worked solution brings (the 2 of a perimeter);
- what an equation or a fraction arrives at lies on the way: a number known already or a value of the worked solution, so
  that adding where the story takes away is wrong though the sum is right;
- a line that states the answer states the right one.
Left out on purpose: other routes to the answer than the worked one count as wrong once they leave it. Text
is read, never executed: numbers, x, + - * / mod sqrt gcd(,) ( ) = < >; a line beyond MAX_TOKENS or a number beyond
MAX_DIGITS is wrong.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from dsm_jax.data.families.worked import Number, operate, whole
from dsm_jax.data.problems import Problem

MAX_TOKENS = 200
MAX_DIGITS = 30

_TOKEN = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?|(?<![A-Za-z])(?:x|mod|gcd|sqrt)(?![A-Za-z])|[-+*/()=<>]")
_BEFORE_SIGN = ("(", "=", "<", ">", "+", "-", "*", "/", "mod", "gcd")
_ANSWER = re.compile(r"answer is|答案是|\\boxed")
_SAME = str.maketrans({"×": "*", "÷": "/", "−": "-", "＝": "=", "$": " "})


class _Malformed(Exception):
    """A line that is no mathematics of this small language."""


def step_truths(problem: Problem, response: str) -> tuple[bool, ...]:
    """For each non-empty line of the response: whether it and all lines before it are right."""
    known = _question_numbers(problem.question)
    known |= _constants(problem, known)
    way = {Fraction(step.value) for step in problem.steps}
    truths: list[bool] = []
    for line in filter(str.strip, response.splitlines()):
        truths.append((not truths or truths[-1]) and _is_right(line, Fraction(problem.answer), known, way))
    return tuple(truths)


def _plain(line: str) -> str:
    """The line with one sign for each operation, gcd(a, b) written between its numbers."""
    line = line.replace("\\times", "*").translate(_SAME)
    return re.sub(r"gcd\((\d+), (\d+)\)", r"(\1 gcd \2)", line)


def _question_numbers(question: str) -> set[Fraction]:
    """The numbers of the question, both parts of its fractions, and 100 where it speaks of percent."""
    numbers = {Fraction(100)} if "%" in question else set()
    for token in _TOKEN.findall(question):
        if token[0].isdigit():
            numbers |= {Fraction(token), *map(Fraction, token.split("/"))}
    return numbers


def _constants(problem: Problem, known: set[Fraction]) -> set[Fraction]:
    """The numbers that the worked steps use and neither have from the question nor arrived at before."""
    met, constants = set(known), set[Fraction]()
    for step in problem.steps:
        for token in _TOKEN.findall(re.split("[=<>]", _plain(step.text))[0]):
            if not _is_known(token, met):
                constants.add(_number(token))
        met.add(Fraction(step.value))
    return constants


def _is_right(line: str, answer: Fraction, known: set[Fraction], way: set[Fraction]) -> bool:
    """Whether the line is right by itself; adds what it arrives at to `known`."""
    line = _plain(line)
    try:
        values = [_check_run(run, answer, known, way) for run in _runs(line)]
    except (_Malformed, ZeroDivisionError):
        return False
    return not _ANSWER.search(line) or bool(values and values[-1] == answer)


def _runs(line: str) -> Iterator[list[str]]:
    """The stretches of tokens with only spaces between them; one without a number or x is only words."""
    run: list[str] = []
    end = 0
    for match in _TOKEN.finditer(line):
        if line[end : match.start()].strip():
            yield from _mathematical(run)
            run = []
        run.append(match.group())
        end = match.end()
    yield from _mathematical(run)


def _mathematical(run: list[str]) -> Iterator[list[str]]:
    if len(run) > MAX_TOKENS:
        raise _Malformed
    if any(token[0].isdigit() or token == "x" for token in run):
        yield run


def _check_run(run: list[str], answer: Fraction, known: set[Fraction], way: set[Fraction]) -> Fraction:
    """The value of the run's last side. Raises _Malformed where the run is wrong in any way."""
    relations = [token for token in run if token in "=<>"]
    sides = _sides(_signed(run))
    values = [_Reader(side, answer).value() for side in sides]
    grounded = [all(_is_known(token, known) for token in side) for side in sides]
    bare = [len(side) == 1 for side in sides]
    if not any(grounded) or not all(one or other for one, other in zip(grounded, bare, strict=True)):
        raise _Malformed
    for relation, left, right in zip(relations, values, values[1:], strict=False):
        if not (left == right if relation == "=" else left < right if relation == "<" else left > right):
            raise _Malformed
    if not all(value in known or value in way for value in values):
        raise _Malformed
    known.update(values)
    return values[-1]


def _signed(run: list[str]) -> list[str]:
    """The run with each minus sign that stands for no subtraction joined to its number."""
    joined: list[str] = []
    for token in run:
        if token[0].isdigit() and joined[-1:] == ["-"] and (len(joined) < 2 or joined[-2] in _BEFORE_SIGN):
            token = joined.pop() + token
        joined.append(token)
    return joined


def _sides(run: list[str]) -> list[list[str]]:
    sides: list[list[str]] = [[]]
    for token in run:
        if token in "=<>":
            sides.append([])
        else:
            sides[-1].append(token)
    return sides


def _is_known(token: str, known: set[Fraction]) -> bool:
    """Whether the token is no number, or one that is known; a number's negative is known with it."""
    if not token[-1].isdigit():
        return True
    return (
        _number(token) in known
        or _number(token.removeprefix("-")) in known
        or ("/" in token and all(Fraction(part) in known for part in token.split("/")))
    )


def _number(token: str) -> Fraction:
    if len(token) > MAX_DIGITS:
        raise _Malformed
    numerator, _, denominator = token.partition("/")
    return Fraction(numerator) / Fraction(denominator or "1")


class _Reader:
    """Recursive descent over the tokens of one side; x stands for the answer."""

    def __init__(self, tokens: list[str], x: Fraction) -> None:
        self.tokens = tokens[::-1]
        self.x = x

    def value(self) -> Fraction:
        value = self._sum()
        if self.tokens:
            raise _Malformed
        return value

    def _apply(self, op: str, left: Number, right: Number) -> Fraction:
        try:
            return Fraction(operate(op, whole(left), whole(right)))
        except ValueError as error:
            raise _Malformed from error

    def _sum(self) -> Fraction:
        value = self._product()
        while self.tokens and self.tokens[-1] in "+-":
            value = self._apply(self.tokens.pop(), value, self._product())
        return value

    def _product(self) -> Fraction:
        value = self._atom()
        while self.tokens and self.tokens[-1] in ("*", "/", "mod", "gcd"):
            value = self._apply(self.tokens.pop(), value, self._atom())
        return value

    def _atom(self) -> Fraction:
        token = self.tokens.pop() if self.tokens else ""
        if token == "-":
            return -self._atom()
        if token == "sqrt":
            return self._apply("root", self._atom(), 2)
        if token == "(":
            value = self._sum()
            if not self.tokens or self.tokens.pop() != ")":
                raise _Malformed
            return value
        if token == "x":
            return self.x
        if not token or not token[-1].isdigit():
            raise _Malformed
        return _number(token)
