"""Where a completion's answer stands: cut at the stop words, Minerva's final sentence, the letter of an option.

Everything comes back as a text for the grader's strict mode.
Left out on purpose: judging (dsm_jax.evaluate.grader); programs (programs.py).
"""

import re
from collections.abc import Iterable, Sequence

from dsm_jax.data.benchmark_rows import LETTERS
from dsm_jax.evaluate.grader import extract, grade

MAX_ANSWER = 1000  # characters, as in the grader
_FINAL, _HOPE = "inal answer is", "I hope"  # Lewkowycz et al., 2022; either capital
_STYLE = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\b|[{}$*\s]|\\[()]")
_LETTERS = re.compile(r"\(?([A-Ja-j])\)?[.:：、)]?")
_SEVERAL = re.compile(r"(?:[(（]?[A-J][)）]?(?:,|、|和|and)?)+\.?")
_OTHER_LETTER = re.compile(r"[(（][A-J][)）]|\b[B-HJ]\b|\b[AI][.)]")  # "A" and "I" are words too
_LETTER_FIRST = re.compile(r"\s*(?:[(（]([A-J])[)）]|([A-J])[.:：、)])")


def cut(completion: str, stop: Iterable[str]) -> str:
    """The completion up to the first of the stop words."""
    ends = [place for word in stop if (place := completion.find(word)) >= 0]
    return completion[: min(ends, default=len(completion))]


def answer_text(completion: str, stop: Iterable[str] = ()) -> str:
    """The completion up to a stop word; where it has Minerva's final sentence, only what that says.

    So a box in the reasoning does not stand for the answer.
    """
    text = cut(completion, stop)
    end = text.rfind(_HOPE)
    start = text.rfind(_FINAL, 0, max(end, 0))
    if start < 0 or end - start > MAX_ANSWER or "boxed" in text[end:] or "nswer" in text[end:]:
        return text
    answer = " ".join(text[start + len(_FINAL) : end].split())
    return f"The final answer is {answer.lstrip(': ').rstrip('. ')}"


def choose(answer: str, options: Sequence[str]) -> str | None:
    """The letter that an answer names, "BD" for several; else of the one option that is equal to it; else None."""
    if len(answer) > MAX_ANSWER:
        return None
    bare = _STYLE.sub("", answer)
    known = LETTERS[: len(options)]
    written = [
        letter for letter, option in zip(known, options, strict=True) if _STYLE.sub("", option) == bare
    ]
    letter = _LETTERS.fullmatch(bare)
    if letter and not (letter[0].islower() and len(written) == 1):
        return letter[1].upper() if letter[1].upper() in known else None
    if _SEVERAL.fullmatch(bare):
        return _known(sorted(set(re.findall("[A-J]", bare))), known)
    if first := _LETTER_FIRST.match(answer.replace("$", "")):
        named, rest = first[1] or first[2], answer.replace("$", "")[first.end() :]
        if named in known and _STYLE.sub("", rest) == _STYLE.sub("", options[known.index(named)]):
            return named
        return None if _OTHER_LETTER.search(rest) else _known([named], known)
    equal = written or [
        letter
        for letter, option in zip(known, options, strict=True)
        if grade(f"The answer is {answer}", option).correct
    ]
    return equal[0] if len(equal) == 1 else None


def choice_text(text: str, options: Sequence[str]) -> str:
    """The text with its answer replaced by the letter that it means; one that means none is none for the grader either."""
    answer = extract(text)
    if not answer:
        return text
    return f"The answer is {choose(answer, options) or 'none of the options'}"


def _known(letters: Sequence[str], known: str) -> str | None:
    return "".join(letters) if set(letters) <= set(known) else None
