r"""Remove benchmark problems from pages (DeepSeekMath section 2.1).

Grams are lower-cased words and numbers, characters for CJK; marks, white space and TeX spacing (`\,`,
`\left`) are no grams, so that a reformatted problem is still found. An operator between numbers or single
letters is part of the gram after it, or "4-2-2" would be "4*2+2". A segment is one line of extracted text.
Rule A: the page's 10-grams run on across its lines; every line that a benchmark's 10-gram touches is removed.
Rule B: a benchmark text of 3 to 9 grams, matched exactly, drops the page. Shorter ones are ignored. As
written, rule A also hits counting runs ("1 2 3 ...") and bare formulas. With `need_words` a 10-gram counts
only with two different words of three letters or more, or a CJK character; the paper preset does without.

Left out on purpose: reading benchmark files (callers bring texts), fuzzy matches.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dsm_jax.mine.classify import CJK

LONG, SHORT = 10, 3  # grams
_TEX_SPACING = re.compile(r"\\(?:[,;:!> ()\[\]]|(?:q?quad|left|right|displaystyle|text|mathrm)(?![A-Za-z]))")
_SIGNS = (
    ("*", re.compile(r"[×·⋅∗]|\\(?:times|cdot|ast)(?![A-Za-z])")),
    ("/", re.compile(r"÷|\\div(?![A-Za-z])")),
    ("-", re.compile("[−–]")),
)
_OPERATION = (
    r"(?<=[0-9a-z])(?<![a-z]{2})[\s$)]*[-+*/=][\s$(]*"
    rf"(?:[0-9][^\W_{CJK}]*|[a-z](?![^\W_{CJK}]))"
)
_GRAM = re.compile(rf"{_OPERATION}|[{CJK}]|[^\W_{CJK}]+")
_SPACE = re.compile(r"[\s$]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_ANY_CJK = re.compile(f"[{CJK}]")


@dataclass(frozen=True)
class Hit:
    """A benchmark text found in a page: the rule ("A" or "B"), the benchmark's text, and the page's lines."""

    rule: str
    benchmark: str
    page: str


@dataclass(frozen=True)
class Cleaned:
    """A page without benchmark text; None where the page is dropped. `lines` = removed lines."""

    text: str | None
    hits: tuple[Hit, ...]
    lines: int


class Benchmarks:
    """An index of benchmark texts, questions and answers alike."""

    def __init__(self, texts: Iterable[str], need_words: bool = True):
        self._long: dict[str, str] = {}  # 10-gram -> the first text with it
        self._short: defaultdict[int, dict[str, str]] = defaultdict(dict)  # length -> grams -> text
        self._ends: set[tuple[int, str, str]] = set()  # (length, first, last gram): spares most joins
        for text in texts:
            grams, _ = _grams(text)
            if SHORT <= len(grams) < LONG:
                self._add(self._short[len(grams)], grams, text)
            for start in range(len(grams) - LONG + 1):
                window = grams[start : start + LONG]
                if not need_words or _has_words(window):
                    self._add(self._long, window, text)

    def clean(self, text: str) -> Cleaned:
        """The page's text without what touches a benchmark, and every hit with both texts."""
        lines = text.split("\n")
        grams, line_of = _grams(text)
        short = [
            Hit("B", found, window)
            for n in sorted(self._short)
            for found, window in self._short_hits(grams, n)
        ]
        touched: dict[str, set[int]] = {}
        for start, key in self._matches(grams, LONG, self._long):
            touched.setdefault(self._long[key], set()).update(line_of[start : start + LONG])
        hits = [
            Hit("A", found, "\n".join(lines[i] for i in sorted(where))) for found, where in touched.items()
        ]
        gone = set().union(*touched.values())
        rest = "\n".join(line for i, line in enumerate(lines) if i not in gone).strip()
        return Cleaned(None if short or not rest else rest if gone else text, (*short, *hits), len(gone))

    def _add(self, index: dict[str, str], grams: Sequence[str], text: str) -> None:
        index.setdefault(" ".join(grams), text)
        self._ends.add((len(grams), grams[0], grams[-1]))

    def _short_hits(self, grams: Sequence[str], length: int) -> list[tuple[str, str]]:
        index = self._short[length]
        return [(index[key], key) for key in sorted({key for _, key in self._matches(grams, length, index)})]

    def _matches(self, grams: Sequence[str], length: int, index: dict[str, str]) -> Iterable[tuple[int, str]]:
        for start, (first, last) in enumerate(zip(grams, grams[length - 1 :], strict=False)):
            if (length, first, last) in self._ends:
                key = " ".join(grams[start : start + length])
                if key in index:
                    yield start, key


def _grams(text: str) -> tuple[list[str], list[int]]:
    """The text's grams, and the line that each one ends in."""
    text = _TEX_SPACING.sub(" ", text)
    for sign, spellings in _SIGNS:
        text = spellings.sub(sign, text)
    text = text.lower()
    grams: list[str] = []
    line_of: list[int] = []
    line = end = 0
    for match in _GRAM.finditer(text):
        line += text.count("\n", end, match.end())
        end = match.end()
        grams.append(_SPACE.sub("", match[0]))
        line_of.append(line)
    return grams, line_of


def _has_words(grams: Sequence[str]) -> bool:
    words = {gram for gram in grams if _WORD.fullmatch(gram)}
    return len(words) >= 2 or any(_ANY_CJK.match(gram) for gram in grams)
