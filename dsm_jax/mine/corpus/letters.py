r"""What is left of a text when its form is taken away: letters, marks between them, and where grams begin.

Folding keeps lines and makes of every way to write the same problem one: HTML entities, case, accents,
full-width and typographic forms, Greek letters and operators in Unicode or TeX, `\dfrac`, `\left`, fonts and
spacing of TeX, `$..$` and `\(..\)`. Letters are what then remains without white space and marks, so that
"4 x" is "4x", a word cut by a tag is whole, and x<sup>2</sup> is `x^{2}`. Of the marks only those of a
calculation matter, between numbers or single letters: 4-2-2 is not 4*2+2, and 1.5 not 15.

Left out on purpose: rewriting formulas ($\frac{a}{b}$ as a/b), stemming, traditional as simplified Chinese.
"""

import html
import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

import numpy as np

# Classes of the bytes of a folded text. A HEAD begins a character that is a gram: kana and Chinese.
MARK, LETTER, DIGIT, HEAD, TAIL = range(5)
_CLASSES = bytes(
    LETTER if chr(byte) in "abcdefghijklmnopqrstuvwxyz"
    else DIGIT if chr(byte) in "0123456789"
    else MARK if byte < 0x80
    else TAIL if byte < 0xC0
    else HEAD if 0xE3 <= byte <= 0xE9 or byte >= 0xF0
    else LETTER
    for byte in range(256)
)  # fmt: skip
_MARKS = bytes(byte for byte in range(256) if _CLASSES[byte] == MARK)
_GRAM = re.compile(
    rb"\\?(?:[\xe3-\xe9][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
    rb"|(?:[a-z0-9]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xe2\xea-\xef][\x80-\xbf]{2})+)"
)

_ENTITY = re.compile(r"&(?:#\w{1,8}|[A-Za-z]\w{1,30});")
_COMMAND = re.compile(rb"\\{1,2}([a-z]+|[()\[\]])")
_MEANT = {
    r"\frac": "dfrac tfrac cfrac",
    r"\binom": "dbinom tbinom",
    r"\epsilon": "varepsilon",
    r"\phi": "varphi",
    r"\theta": "vartheta",
    "*": "times cdot ast bullet",
    "/": "div",
    "<": "lt",
    ">": "gt",
    "<=": "le leq leqslant leqq",
    ">=": "ge geq geqslant geqq",
    "<>": "ne neq",
    "": (
        "( ) [ ] left right middle big bigl bigr bigm bigg biggl biggr quad qquad space hfill "
        "displaystyle textstyle scriptstyle limits nolimits nonumber text textrm textbf textit textsf texttt "
        "mbox hbox rm bf it sf tt mathrm mathbf mathit mathsf mathtt mathbb mathcal mathfrak mathscr mathop "
        "mathbin mathrel mathord boldsymbol bm operatorname ldots cdots dots dotsc dotsb vdots ddots prime "
        "circ degree mid vert lvert rvert lbrace rbrace to rightarrow longrightarrow implies iff "
        "leftrightarrow"
    ),
}
_GREEK = (  # from U+03B1 on
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "omicron", "pi", "rho", "sigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_NAMED = {
    "∞": "infty", "√": "sqrt", "±": "pm", "∑": "sum", "∏": "prod", "∫": "int", "∂": "partial", "∈": "in",
    "∩": "cap", "∪": "cup", "⊂": "subset", "⊆": "subseteq", "∅": "emptyset", "∠": "angle", "△": "triangle",
    "⊥": "perp", "≈": "approx", "≡": "equiv", "∼": "sim",
}  # fmt: skip
_OPERATORS = {"*": "×·⋅∗•∙", "/": "÷∕⁄", "-": "−–—‐‑‒﹣", "<=": "≤⩽≦", ">=": "≥⩾≧", "<>": "≠"}
_SYMBOLS = {
    **{symbol: f" \\{name} " for symbol, name in _NAMED.items()},
    **{chr(0x3B1 + i): name for i, name in enumerate(_GREEK)},
    **{symbol: operator for operator, symbols in _OPERATORS.items() for symbol in symbols},
}

_CHARACTER = re.compile(r"[^\W_]")
_NAME = re.compile(r"\\([a-z]+)")
_NO_MARK = re.compile(r"[^-+*/=<>()]+")
_NO_OPERATOR = re.compile(r"[^-+*/=<>]+")
_THOUSANDS = re.compile(r"(?:\\?[,\s]|\{,\})\d{3}(?!\d)")
_SCRIPT = re.compile(r"[{}^_]")


class _Characters(dict[int, str]):
    """A table for str.translate that fills itself: what a character outside ASCII is folded to."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        parts = [character] if character in _SYMBOLS else unicodedata.normalize("NFKD", character).casefold()
        folded = self[code] = "".join(map(_fold_character, parts))
        return folded


def _fold_character(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character.isascii() or character.isalnum():
        return character
    invisible = unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")  # accents, soft hyphens
    return "" if invisible else " "


class _Commands(dict[bytes, bytes]):
    """What a TeX command is folded to, by its name; others stay as they are."""

    def __missing__(self, name: bytes) -> bytes:
        return b"\\" + name


class _Runs(dict[bytes, bytes]):
    """What a run of characters outside ASCII is folded to; keeps short ones, which come again and again."""

    def __missing__(self, run: bytes) -> bytes:
        folded = run.decode().translate(_CHARACTERS).encode()
        if len(run) <= 12 and len(self) < 1 << 16:
            self[run] = folded
        return folded


_CHARACTERS, _RUNS = _Characters(), _Runs()
_COMMANDS = _Commands(
    (name.encode(), f" {meaning} ".encode()) for meaning, names in _MEANT.items() for name in names.split()
)


def fold(text: str) -> bytes:
    """The text in one form, as UTF-8, with as many lines."""
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]).replace("\n", " "), text)
    folded = text.encode("utf-8", "replace")
    if len(folded) != len(text):
        folded = _fold_foreign(folded)
    folded = folded.lower()
    return _fold_commands(folded) if b"\\" in folded else folded


def _fold_foreign(text: bytes) -> bytes:
    """Folds the runs outside ASCII; a regular expression would take twice as long to find them."""
    foreign = np.frombuffer(b"\0" + text + b"\0", np.uint8) > 127
    edges = [0, *(foreign[1:] != foreign[:-1]).nonzero()[0].tolist(), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    pieces[1::2] = map(_RUNS.__getitem__, pieces[1::2])
    return b"".join(pieces)


def _fold_commands(text: bytes) -> bytes:
    pieces = _COMMAND.split(text)
    pieces[1::2] = map(_COMMANDS.__getitem__, pieces[1::2])
    return b"".join(pieces)


def letters_of(folded: bytes) -> bytes:
    """The folded text without white space and marks."""
    return folded.translate(None, _MARKS)


def find_cuts(folded: bytes) -> np.ndarray:
    """Places in letters_of(folded) at which a gram may begin: all that do, and between letters and digits."""
    classes = np.frombuffer(b"\0" + folded.translate(_CLASSES), np.uint8)
    here = classes[1:]
    cuts = here != classes[:-1]
    if not folded.isascii():
        cuts &= here != TAIL
    return cuts[here != MARK].nonzero()[0]


def places_of(folded: bytes) -> np.ndarray:
    """Where each byte of letters_of(folded) stands in the folded text."""
    return np.flatnonzero(np.frombuffer(folded.translate(_CLASSES), np.uint8))


def find_grams(folded: bytes) -> list[bytes]:
    """The grams of a folded text: words and numbers, TeX commands with a backslash, Chinese characters."""
    return _GRAM.findall(folded)


def is_character(gram: bytes) -> bool:
    """Whether it is a gram of one character: Chinese, or kana."""
    return _CLASSES[gram[0]] == HEAD


@lru_cache(1 << 16)
def is_word(gram: bytes) -> bool:
    """Whether it is a word of three letters or more, and no Greek letter or TeX command."""
    word = gram.decode()
    return len(word) >= 3 and word.isalpha() and word not in _GREEK


def is_boundary(folded: bytes, place: int, within_words: bool) -> bool:
    """Whether a gram may begin or end there; within_words: also between a letter and a digit, as in 4x."""
    if not 0 < place < len(folded):
        return True
    before, here = _CLASSES[folded[place - 1]], _CLASSES[folded[place]]
    if MARK in (before, here) or here == HEAD:
        return True
    if before == TAIL:
        head = place - 1
        while _CLASSES[folded[head]] == TAIL:
            head -= 1
        return _CLASSES[folded[head]] == HEAD
    return within_words and {before, here} == {LETTER, DIGIT}


def same_marks(one: bytes, other: bytes) -> bool:
    """Whether two folded stretches of the same letters are the same calculations."""
    if one == other:
        return True
    return all(a == b for a, b in zip(marks_of(one), marks_of(other), strict=True) if None not in (a, b))


@lru_cache(64)  # a table repeats itself
def marks_of(stretch: bytes) -> tuple[str | None, ...]:
    """The marks between each letter and the next; None where they say nothing, as within words."""
    text = stretch.decode()
    names = [command.span(1) for command in _NAME.finditer(text)]
    begins, ends = {start for start, _ in names}, {end - 1 for _, end in names}
    places = [character.start() for character in _CHARACTER.finditer(text)]
    alone = {place for place in places if _stands_alone(text, place)}
    marks: list[str | None] = []
    for left, right in pairwise(places):
        if left in alone and right in alone:
            marks.append(_mark(text, left, right))
        elif left in alone | ends and right in alone | begins:
            marks.append(_NO_OPERATOR.sub("", text[left + 1 : right]))  # \\sin(x) and \\sin x are the same
        else:
            marks.append(None)
    return tuple(marks)


def _stands_alone(text: str, place: int) -> bool:
    """Whether it is a digit or a single letter."""
    return text[place].isdigit() or (
        text[place].isascii()
        and not text[place - 1 : place].isalpha()
        and not text[place + 1 : place + 2].isalpha()
    )


def _mark(text: str, left: int, right: int) -> str | None:
    gap = text[left + 1 : right]
    marks = _NO_MARK.sub("", gap)
    if marks or not (text[left].isdigit() and text[right].isdigit()):
        return marks
    if _THOUSANDS.match(text, left + 1):  # perhaps a number goes on there
        return None
    if _SCRIPT.search(gap):  # a power's sign is lost in pages that set it in <sup>
        gap = _SCRIPT.sub("", gap).strip()
    return gap if gap in ("", ".") else " "
