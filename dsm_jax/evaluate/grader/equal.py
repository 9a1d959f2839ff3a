r"""Whether an extracted answer equals a gold answer: text, then numbers, then choices, then trees. Symmetric but for units.

The cheap layers come first; only what they leave open is parsed. An answer can have two readings ("1,234" is a number or a
list, "1,22" may have a decimal comma); one that agrees is enough, since the gold answer decides which was meant.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from dsm_jax.evaluate.grader.choices import choice, is_choice, letter_of, option_of
from dsm_jax.evaluate.grader.counting import with_counts
from dsm_jax.evaluate.grader.normalise import currencies, plain, typeset
from dsm_jax.evaluate.grader.numbers import Quantity, measures, quantity, same_quantity
from dsm_jax.evaluate.grader.parse import parse
from dsm_jax.evaluate.grader.same import MIN_DIGITS
from dsm_jax.evaluate.grader.tree import Node, Unreadable
from dsm_jax.evaluate.grader.typed import equal
from dsm_jax.evaluate.grader.words import number_in_words, same_text

_COMMA_IN_NUMBER = re.compile(r"\d,\d{3}(?!\d)")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:0,\d+|\d+,(?:\d{2}|\d{4,}))")
_COUNTS = re.compile(r"(?<![A-Za-z])[CPA](?![A-Za-z])|choose|comb|perm|binom")
_ONE_PLACE_COMMA = re.compile(r"[-+]?\d+,\d")


@lru_cache(maxsize=16384)
def same_answer(answer: str, gold: str, options: Sequence[str] = ()) -> bool:
    """Whether the answer equals the gold answer; options are the texts of a multiple choice, in order.

    Raises same.Undecided where that takes symbolic mathematics.
    """
    if (theirs := currencies(gold)) and (ours := currencies(answer)) and not ours & theirs:
        return False
    if same_text(answer, gold, cased=True):
        return True
    one, other = quantity(answer), quantity(gold)
    if one and other:
        if same_quantity(one, other):
            return True
        if not _has_other_reading(one, answer) and not _has_other_reading(other, gold):
            return False
    elif (gold_parts := measures(gold)) and (parts := measures(answer)):
        return len(parts) == len(gold_parts) and all(map(same_quantity, parts, gold_parts))
    try:
        return _same_reading(answer, gold, options)
    except RecursionError:  # of a caller deep down; trees have at most 40 levels
        return False


def _same_reading(answer: str, gold: str, options: Sequence[str]) -> bool:
    if (by_choice := _same_choice(answer, gold, options)) is not None:
        return by_choice
    if any(
        equal(ours, theirs)
        for ours in _readings(answer, gold, typeset)
        for theirs in _readings(gold, answer, plain)
    ):
        return True
    return _same_words(answer, gold)


def _has_other_reading(found: Quantity, text: str) -> bool:
    """A comma may be a decimal one, and a long decimal may be rounded."""
    return "," in text or (found.decimals > 0 and found.digits >= MIN_DIGITS)


def _same_choice(answer: str, gold: str, options: Sequence[str]) -> bool | None:
    """By letters, or by the text of an option; None where the gold answer is no choice."""
    ours, theirs = choice(answer), choice(gold)
    if theirs is None or not is_choice(gold):
        if options and ours and ours[0] and len(ours[0]) == 1:
            place = next((place for place, text in enumerate(options) if same_answer(text, gold)), None)
            return place is not None and ours[0] == {letter_of(place)}
        return True if ours and theirs and len(ours[0]) > 1 and ours[0] == theirs[0] else None
    if ours is not None:
        return ours[0] == theirs[0]
    text = theirs[1] or option_of(theirs[0], options)
    return same_answer(answer, text) if text else None


def _readings(text: str, beside: str, read: Callable[[str], str]) -> Iterator[Node]:
    """The trees of an answer beside the other one. read: plain, or typeset where P(7, 3) may be a number of selections."""
    found = plain(text)
    yield from _tree(found)
    if _COMMA_IN_NUMBER.search(found):
        yield from _tree(found, thousands=False)
    if _DECIMAL_COMMA.fullmatch(found) or (
        _ONE_PLACE_COMMA.fullmatch(found) and "." in beside and "," not in beside
    ):
        yield from _tree(found.replace(",", "."))
    if _COUNTS.search(text) and (counted := with_counts(read(text))) != found:
        yield from _tree(counted)


def _tree(text: str, thousands: bool = True) -> list[Node]:
    try:
        return [parse(text, thousands)]
    except Unreadable:
        return []


def _same_words(answer: str, gold: str) -> bool:
    ours, theirs = number_in_words(answer), number_in_words(gold)
    if ours is None and theirs is None:
        return False
    one, other = quantity(answer), quantity(gold)
    our_value = ours if ours is not None else one.value if one else None
    their_value = theirs if theirs is not None else other.value if other else None
    return our_value is not None and our_value == their_value
