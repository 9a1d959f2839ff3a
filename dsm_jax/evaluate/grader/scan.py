r"""Plain text to tokens: numbers, names, commands, words, signs. One pass, linear in the text.

A run of letters is a function or constant it begins with ("sinx", "pi"), a word of the language ("and"), words
("Evelyn"), or else single letters, which multiply ("ab"). A comma between digits is a thousands separator only
outside brackets, and only where the caller reads it so. Left out on purpose: hexadecimal numbers, numbers of more than
400 digits.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from dsm_jax.evaluate.grader.tree import Number, Unreadable

MAX_TOKENS = 600
MAX_DIGITS = 400
MAX_EXPONENT = 400


class Token(NamedTuple):
    """kind: number, name, command (without its backslash), words, sign; `spaced`: a space stands before it."""

    kind: str
    text: str
    spaced: bool
    number: Number | None = None


FUNCTIONS = frozenset(
    [
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "arcsec",
        "arccsc",
        "arcsinh",
        "arccosh",
        "arctanh",
        "sinh",
        "cosh",
        "tanh",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "lg",
        "exp",
        "sqrt",
        "cbrt",
        "cis",
        "gcd",
        "lcm",
        "max",
        "min",
    ]
)
_SPELLINGS = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "infinity": "infty", "inf": "infty", "oo": "infty",
    "Infinity": "infty", "Pi": "pi", "union": "cup", "U": "cup", "deg": "degrees", "degree": "degrees", "percentage": "percent",
    "pct": "percent", "And": "and", "Or": "or", "AND": "and", "OR": "or",
}  # fmt: skip
_KNOWN = FUNCTIONS | {
    "and", "or", "in", "choose", "pi", "infty", "cup", "degrees", "percent", "abs", "factorial", "floor", "ceil", "theta", "alpha", "beta",
    "gamma", "delta", "phi", "lambda", "omega",
}  # fmt: skip
_PREFIX = re.compile(f"({'|'.join(sorted(FUNCTIONS, key=len, reverse=True))})(?=[a-zA-Z]{{1,2}}$)")
_SHORT_WORDS = frozenset(
    [
        "is",
        "the",
        "of",
        "it",
        "we",
        "so",
        "for",
        "are",
        "not",
        "but",
        "to",
        "as",
        "was",
        "has",
        "no",
        "yes",
        "be",
        "by",
        "if",
        "you",
        "on",
        "at",
        "this",
        "that",
    ]
)
_TWO_LETTERS = {word for word in _SHORT_WORDS if len(word) == 2} | {"in"}
_UNITS = {"cm", "mm", "km", "kg"}
_UNIT_ENDS = re.compile(r"\s*(?:\^\s*\{?[23]\}?)?")
_BESIDE = set("^+-*/=0123456789{}")
_WORDY = re.compile(r"(?=.*[eiouEIOU])[A-Za-z]{4,}")

_OTHER = re.compile(
    r"(?P<words>\\text\s*\{[^{}]*\}|[\u3400-\u9fff]+)"
    r"|(?P<command>\\[A-Za-z]+|\\.)"
    r"|(?P<name>[A-Za-z]+)"
    r"|(?P<sign>\*\*|<=|>=|!=|<>|=<|=>|->|\.\.\.|==|[-+*/^_=<>()\[\]{}|,;:!'%°&.?])",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d|,\d)|\d{1,3}(?: \d{3})+(?:\.\d+)?(?! ?\d)")
_DECIMAL = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_REPEATING = re.compile(
    r"(\d*)\.(?:(\d*)\\overline\s*\{(\d+)\}|(\d*)\((\d+)\)|(\d*?)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?"
    r"|(\d*?)(\d)\11{2,}\d{0,0}(?:\.\.\.|\\(?:ldots|dots|cdots)(?![A-Za-z])))"
)
_EXPONENT = re.compile(r"[eE]([-+]?\d+)(?![\d.A-Za-z])")
_ELLIPSIS = re.compile(r"\.\.\.|\\(?:ldots|dots|cdots)(?![A-Za-z])")
_HEXADECIMAL = re.compile(r"0[xXbBoO][0-9A-Fa-f]")


def tokens(text: str, thousands: bool = True) -> list[Token]:
    """The tokens of a plain answer. Raises Unreadable for what no answer has, and where there are too many."""
    found: list[Token] = []
    depth = place = 0
    spaced = False
    while place < len(text):
        if text[place].isspace():
            place, spaced = place + 1, True
            continue
        if text[place].isdigit() or text[place : place + 2].strip(".").isdigit():
            number, end = _number(text, place, thousands and depth == 0)
            found.append(Token("number", text[place:end], spaced, number))
        else:
            match = _OTHER.match(text, place)
            if match is None:
                raise Unreadable(f"no sign of an answer: {text[place]!r}")
            depth += (match[0] in ("(", "[", "\\{")) - (match[0] in (")", "]", "\\}"))
            found.extend(_tokens_of(match, spaced))
            end = match.end()
        place, spaced = end, False
        if len(found) > MAX_TOKENS:
            raise Unreadable("too many signs")
    return found


def _tokens_of(match: re.Match[str], spaced: bool) -> Iterator[Token]:
    kind, text = match.lastgroup or "", match[0]
    if kind == "name" and _is_unit(match):
        yield Token("words", text, spaced)
    elif kind == "name":
        yield from _product(text, spaced) if _touches(match) else _letters(text, spaced)
    elif kind == "words":
        yield Token("words", text[text.index("{") + 1 : -1] if text[0] == "\\" else text, spaced)
    else:
        yield Token(kind, text[1:] if kind == "command" else text, spaced)


def _letters(run: str, spaced: bool) -> Iterator[Token]:
    known = _SPELLINGS.get(run, run)
    if known in _KNOWN and not (known == "cup" and not spaced):
        yield Token("command", known, spaced)
    elif prefix := _PREFIX.match(run):
        yield Token("command", prefix[1], spaced)
        yield from _letters(run[prefix.end() :], False)
    elif run.lower() in _SHORT_WORDS or _WORDY.fullmatch(run) or (len(run) > 2 and run.isupper()):
        yield Token("words", run, spaced)
    else:
        yield from _product(run, spaced)


def _product(run: str, spaced: bool) -> Iterator[Token]:
    for place, letter in enumerate(run):
        yield Token("name", letter, spaced and place == 0)


def _is_unit(match: re.Match[str]) -> bool:
    """2\\sqrt{3} cm^2: at the end of an answer, after a value that is no plain number."""
    if match[0] not in _UNITS or not _UNIT_ENDS.fullmatch(match.string, match.end()):
        return False
    before = match.string[: match.start()].rstrip()
    return before.endswith((*"0123456789)}", "\\pi")) and before.strip("0123456789.,/ +-") != ""


def _touches(match: re.Match[str]) -> bool:
    """Two letters beside a sign are a product, where they would be a word alone: e^{-at}, e^{in x}, (as+b)."""
    text, start, end = match.string, match.start(), match.end()
    return match[0] in _TWO_LETTERS and (
        text[max(0, start - 1) : start] in _BESIDE or text[end : end + 1] in _BESIDE
    )


def _number(text: str, place: int, thousands: bool) -> tuple[Number, int]:
    if _HEXADECIMAL.match(text, place):
        raise Unreadable("a hexadecimal number")
    if match := _REPEATING.match(text, place):
        return Number(_repeating(match)), match.end()
    match = (thousands and _THOUSANDS.match(text, place)) or _DECIMAL.match(text, place)
    if match is None:
        raise Unreadable("a digit of another script")
    digits = match[0].replace(",", "").replace(" ", "")
    power = _EXPONENT.match(text, match.end())
    exponent = int(power[1][:9]) if power else 0
    if len(digits) > MAX_DIGITS or abs(exponent) > MAX_EXPONENT:
        raise Unreadable("a number that is too long")
    places = len(digits.partition(".")[2])
    value = Fraction(digits) * Fraction(10) ** exponent
    end = power.end() if power else match.end()
    dots = _ELLIPSIS.match(text, end) if places else None
    return Number(
        value, 0 if power else places, len(digits.replace(".", "").lstrip("0"))
    ), dots.end() if dots else end


def _repeating(match: re.Match[str]) -> Fraction:
    """0.1\\overline{6}, 0.1(6), 0.1\\dot{6}, 0.\\dot{1}4285\\dot{7}, 0.1666..."""
    whole = match[1] or "0"
    if match[3]:
        fixed, period = match[2], match[3]
    elif match[5]:
        fixed, period = match[4], match[5]
    elif match[7]:
        fixed, period = match[6], match[7] + (match[8] or "") + (match[9] or "")
    else:
        fixed, period = match[10], match[11]
    if len(whole) + len(fixed) + len(period) > MAX_DIGITS:
        raise Unreadable("a number that is too long")
    scale = 10 ** len(fixed)
    return Fraction(f"{whole}.{fixed or 0}") + Fraction(int(period), scale * (10 ** len(period) - 1))
