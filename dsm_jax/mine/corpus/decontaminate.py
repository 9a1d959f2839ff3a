"""Remove benchmark problems from pages (DeepSeekMath section 2.1).

Grams are words and numbers, characters in Chinese. They are compared by their letters (letters.py), so that a
reformatted problem is still found. A segment is one line of extracted text.
Rule A: the page's 10-grams run on across its lines; every line that a 10-gram of a benchmark's question or
answer touches is removed, until there is none; a page that still has one after MOST_LOOKS goes, as they are made to be.
Rule B: a question of 3 to 9 grams, matched exactly, drops the page. Answers and options under 10 grams count
behind their question only: alone they would touch a quarter of all mathematical pages.
As written, rule A also hits counting runs ("1 2 3 ...") and bare formulas. With `need_words` a 10-gram counts
only with two different words of three letters or more (no TeX commands), or with a Chinese character; in a
text that has no such 10-gram, with one word. The paper preset does without.

Left out on purpose: reading benchmark files (dsm_jax.data.benchmarks), fuzzy matches, translations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dsm_jax.mine.corpus.gram_index import GramIndex, equal_keys
from dsm_jax.mine.corpus.letters import (
    find_cuts,
    find_grams,
    fold,
    is_boundary,
    is_character,
    is_word,
    letters_of,
    marks_of,
    places_of,
    same_marks,
)

LONG, SHORT = 10, 3  # grams
MOST_LOOKS = 20  # at a page: real ones take three at most
_NO_KEYS = np.zeros((0, 4), np.int64)


@dataclass(frozen=True)
class BenchmarkText:
    """A problem of a benchmark: its question, and its answers: solutions, or the options to choose from."""

    benchmark: str
    question: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hit:
    """A benchmark's text found in a page: rule "A" or "B", the text, the page's lines, the benchmark."""

    rule: str
    benchmark: str
    page: str
    name: str


@dataclass(frozen=True)
class Cleaned:
    """A page without benchmark text; None where the page is dropped. `lines` = removed lines."""

    text: str | None
    hits: tuple[Hit, ...]
    lines: int


@dataclass(frozen=True, eq=False)
class _Source:
    """A text that is looked for, with its 10-grams as keys, or all of it as one.

    keys [n, 4]: start and end among its letters, start and end in the folded text.
    """

    name: str
    text: str
    folded: bytes
    short: bool
    keys: np.ndarray


class Benchmarks:
    """An index of benchmark texts; a plain string is a question without answers."""

    def __init__(self, texts: Iterable[str | BenchmarkText], need_words: bool = True):
        problems = (text if isinstance(text, BenchmarkText) else BenchmarkText("", text) for text in texts)
        self._sources = [source for problem in problems for source in _sources(problem, need_words)]
        parts = [letters_of(source.folded) for source in self._sources]
        bases = np.cumsum([0, *map(len, parts)])
        source_of = np.repeat(np.arange(len(parts)), [len(source.keys) for source in self._sources])
        keys = np.concatenate([_NO_KEYS, *(source.keys for source in self._sources)])
        letters = b"".join(parts)
        starts, ends = keys[:, 0] + bases[source_of], keys[:, 1] + bases[source_of]
        self._keys = np.column_stack([source_of, keys[:, 1] - keys[:, 0], keys[:, 2:]])
        kept = np.ones(len(keys), bool)
        for equal in equal_keys(letters, starts, ends):
            kept[self._repeated(equal)] = False
        self._keys = self._keys[kept]
        self._index = GramIndex(letters, starts[kept], ends[kept])

    def clean(self, text: str) -> Cleaned:
        """The page's text without what touches a benchmark, and every hit with both texts."""
        hits: list[Hit] = []
        removed = 0
        for _ in range(MOST_LOOKS):  # again: lines that come together may hold another 10-gram
            if not (touched := self._find(text)):
                return Cleaned(text, tuple(hits), removed)
            lines = text.split("\n")
            touched = {source: {i for i in where if lines[i].strip()} for source, where in touched.items()}
            hits += _hits(touched, lines)
            gone = {i for source, where in touched.items() if not source.short for i in where}
            removed += len(gone)
            text = "\n".join(line for i, line in enumerate(lines) if i not in gone).strip()
            if not text or any(source.short for source in touched):
                break
        return Cleaned(None, tuple(hits), removed)

    def _find(self, text: str) -> dict[_Source, set[int]]:
        """The lines that each benchmark text touches."""
        folded = fold(text)
        candidates = sorted(self._index.find(letters_of(folded), find_cuts(folded)))
        if not candidates:
            return {}
        places = places_of(folded)
        newlines = np.flatnonzero(np.frombuffer(folded, np.uint8) == ord("\n"))
        touched: dict[_Source, set[int]] = {}
        found = -1  # where the last 10-gram was: one text that has it is enough
        for place, key in candidates:
            source, stretch, length = self._key(key)
            if place == found and not source.short:
                continue
            here = places[place : place + length]
            first, after = int(here[0]), int(here[-1]) + 1
            whole = all(is_boundary(folded, edge, within_words=not source.short) for edge in (first, after))
            if whole and same_marks(folded[first:after], stretch):
                start, last = np.searchsorted(newlines, (first, after)).tolist()
                touched.setdefault(source, set()).update(range(start, last + 1))
                found = found if source.short else place
        return touched

    def _key(self, number: int) -> tuple[_Source, bytes, int]:
        """Its source, its stretch of the folded source, its letters."""
        source_number, letters, start, end = self._keys[number].tolist()
        source = self._sources[source_number]
        return source, source.folded[start:end], letters

    def _repeated(self, keys: Sequence[int]) -> list[int]:
        """Those of some keys of the same letters that say nothing new."""
        stretches: dict[tuple[bool, bytes], int] = {}
        for key in keys:
            source, stretch, _ = self._key(key)
            stretches.setdefault((source.short, stretch), key)
        kept = set(stretches.values())
        if len(kept) > 1:
            calculations: dict[tuple[bool, tuple[str | None, ...]], int] = {}
            for (short, stretch), key in stretches.items():
                calculations.setdefault((short, marks_of(stretch)), key)
            kept = set(calculations.values())
        return [key for key in keys if key not in kept]


def _hits(touched: Mapping[_Source, set[int]], lines: Sequence[str]) -> list[Hit]:
    return [
        Hit("B" if short else "A", source.text, "\n".join(lines[i] for i in sorted(where)), source.name)
        for short in (True, False)
        for source, where in touched.items()
        if source.short == short
    ]


def _sources(problem: BenchmarkText, need_words: bool) -> Iterator[_Source]:
    """The texts of a problem that are looked for."""
    question, answers = problem.question, problem.answers
    length = len(find_grams(fold(question)))
    if length >= SHORT:
        yield _source(problem.benchmark, question, need_words)
    if answers and (0 < length < SHORT or length >= LONG):
        first = max(0, length - LONG + 1)
        joined = "\n".join([question, *answers])
        yield _source(problem.benchmark, joined, need_words, slice(first, max(length, 1)))
    for answer in answers:
        if len(find_grams(fold(answer))) >= LONG:
            yield _source(problem.benchmark, answer, need_words)


def _source(name: str, text: str, need_words: bool, begins: slice = slice(None)) -> _Source:
    """begins: the grams at which a 10-gram may begin."""
    folded = fold(text)
    grams = find_grams(folded)
    edges = np.cumsum([0, *(len(gram.lstrip(b"\\")) for gram in grams)])
    if len(grams) < LONG:
        starts, ends = (edges[:1], edges[-1:]) if len(grams) >= SHORT else (edges[:0], edges[:0])
    else:
        first = np.arange(len(grams) - LONG + 1)[begins]
        if need_words:
            two, one = (first[enough[first] < first + LONG] for enough in _enough_at(grams))
            first = two if two.size or begins != slice(None) else one
        starts, ends = edges[first], edges[first + LONG]
    places = places_of(folded)
    keys = np.column_stack([starts, ends, places[starts], places[ends - 1] + 1])
    return _Source(name, text, folded, len(grams) < LONG, keys)


def _enough_at(grams: Sequence[bytes]) -> np.ndarray:
    """[2, grams]: where a stretch from a gram on first holds two words, or one (or a Chinese character)."""
    never = len(grams)
    word = second = character = never  # the next word, the next other word than that, the next character
    two, one = [never] * never, [never] * never
    for i in reversed(range(never)):
        if is_character(grams[i]):
            character = i
        elif is_word(grams[i]):
            if word < never and grams[word] != grams[i]:
                second = word
            word = i
        two[i], one[i] = min(second, character), min(word, character)
    return np.array([two, one])
