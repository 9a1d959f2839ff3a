r"""Numerals in a base other than ten: 204_5, 1010_{\text{two}}, A1_{16}, "204 base 5"."""

import re
from fractions import Fraction

from dsm_jax.evaluate.grader.tree import Based, Number
from dsm_jax.evaluate.grader.words import NUMBER_WORDS

_SUBSCRIPT = re.compile(
    r"(-?[0-9A-Fa-f]+|\([0-9A-Fa-f]+\)) ?_ ?\{? ?(?:\\text ?\{ ?)?(\d{1,2}|[a-z]+) ?\}{0,2}", re.IGNORECASE
)
_WORDS = re.compile(r"(-?[0-9A-Fa-f]+)(?: in)? \(?(?:\\text ?\{)? ?(?:in )?base[- ](\d{1,2}|[a-z]+)\}?\)?")
_NAMES = {NUMBER_WORDS[base]: base for base in range(2, 17)}


def in_base(text: str) -> Based | Number | None:
    """The numeral that a plain answer is; of base ten its number; None where it is none."""
    match = _SUBSCRIPT.fullmatch(text) or _WORDS.fullmatch(text)
    if not match or not re.search(r"\d", match[1]):
        return None
    digits = match[1].strip("()")
    base = int(match[2]) if match[2].isdigit() else _NAMES.get(match[2].lower(), 0)
    try:
        value = int(digits, base)
    except ValueError:  # a digit that the base does not have, or no base
        return None
    return Number(Fraction(value)) if base == 10 else Based(digits.upper(), base) if base else None
