r"""Multiple choice: "C", "(C)", "\textbf{(C) }24", "C. 24", "option C", "选C", "A, C" and "AC" for two."""

import re
from collections.abc import Sequence

from dsm_jax.evaluate.grader.normalise import plain

_LETTER = r"\(? ?([A-Ja-j]) ?\)?"
_CHOSEN = r"(?:(?:本?题|故|应|因此|所以|综上,? ?|正确)*选(?:择|项)?[是为:]?|[(\[]?答案[)\]]?[是为]?:?)"
_NAMED = re.compile(
    rf"(?:(?:so|hence|thus|therefore),? )?(?:(?:the )?(?:correct )?(?:option|choice|answer|letter)(?: is)?:?|{_CHOSEN}) ?{_LETTER}"
    r"(?: is (?:correct|right|true|the (?:correct |right |best )?(?:answer|option|choice)))? ?[.:]?",
    re.IGNORECASE,
)
_NAMED_SEVERAL = re.compile(rf"{_CHOSEN} ?([A-J]{{2,}})[.]?")
_CIRCLED = re.compile(r"(?P<first>[①-⑳])(?:(?:\s*,\s*|\s*(?:和|与|及|\band\b)\s*|\s*)[①-⑳])*")
_AFTER = re.compile(r"([A-J]) ?(?:选项|项)")
_BARE = re.compile(r"(?:\( ?([A-Ja-j]) ?\)|([A-Ja-e]) ?\)?) ?[.:]?")
_WITH_TEXT = re.compile(r"(?:\( ?([A-J]) ?\)|([A-J]) ?[.:)])\s*(?!(?:and|or)\b|[,/&])(\S.*)", re.DOTALL)
_SEVERAL = re.compile(r"\(?[A-H]\)?(?:(?:\s*,\s*(?:and )?|\s+and\s+|\s*&\s*|)\(?[A-H]\)?)+")


def choice(answer: str) -> tuple[frozenset[str], str] | None:
    """The letters chosen and the text of the option, where it was given; None for what is no choice."""
    text = re.sub(r"\\text ?\{([^{}]*)\}", r"\1", plain(answer)).strip()
    if match := _NAMED.fullmatch(text) or _AFTER.fullmatch(text) or _BARE.fullmatch(text):
        return frozenset(next(filter(None, match.groups())).upper()), ""
    if match := _NAMED_SEVERAL.fullmatch(text):
        return frozenset(match[1]), ""
    if _SEVERAL.fullmatch(text) or _CIRCLED.fullmatch(text):
        letters = re.findall("[A-H①-⑳]", text)
        return (frozenset(letters), "") if len(letters) == len(set(letters)) else None
    if match := _WITH_TEXT.fullmatch(text):
        return frozenset(match[1] or match[2]), match[3]
    return None


def is_choice(gold: str) -> bool:
    """Whether a gold answer is a choice: capital letters, or a letter in brackets; of several, where they are parted."""
    found = choice(gold)
    if found is None or re.fullmatch("[a-j]", plain(gold)):
        return False
    return len(found[0]) == 1 or not re.fullmatch("[A-J]+", plain(gold))


def letter_of(index: int) -> str:
    return chr(ord("A") + index)


def option_of(letters: frozenset[str], options: Sequence[str]) -> str | None:
    """The text of the one letter among the options."""
    places = [ord(letter) - ord("A") for letter in letters]
    return options[places[0]] if len(places) == 1 and places[0] < len(options) else None
