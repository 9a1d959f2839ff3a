r"""The fast path: an answer that is one number, with a unit or without, as an exact fraction. 78% of MATH's gold answers are.

Integers, decimals, thousands, a/b, \frac{a}{b}, mixed numbers, percent, scientific notation, "5 million", one unit or
noun after it. One regular expression; everything else goes to the parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dsm_jax.evaluate.grader.normalise import plain
from dsm_jax.evaluate.grader.units import Unit, read_unit

_FRACTION = re.compile(r"\\frac ?(?:\{ ?(-?\d+) ?\}|(\d)) ?(?:\{ ?(-?\d+) ?\}|(\d))")
_VARIABLE = re.compile(r"[A-Za-z] ?= ?(?=\S)")
_NUMBER = re.compile(
    r"(?P<sign>[-+]?) ?(?:(?P<whole>\d+) (?=\d+ ?/))?"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?: ?/ ?(?P<below>-?\d+))?"
    r"(?:[eE](?P<e>[-+]?\d{1,3})(?!\d)| ?(?:\\times|\\cdot|[xX*]) ?10 ?\^ ?\{? ?(?P<power>[-+]?\d{1,3})(?!\d) ?\}?)?"
    r"(?: ?(?P<percent>%|per ?cent\b|percentage\b|pct\b))?(?P<unit>.*)",
    re.DOTALL,
)
_BRACKETS = re.compile(r"\{([^{},]*)\}|\(([^(),]*)\)")
_PART = re.compile(r"(?<=[A-Za-z\u4e00-\u9fff°])[\s,]*(?:\band\b|零|又)?\s*(?=\d)")
_SCALE = re.compile(r" ?(hundred|thousand|million|billion|trillion|dozen|万|亿|百万|千)\b(?!th)")
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12, "万": 10**4,
    "亿": 10**8, "百万": 10**6, "千": 10**3,
}  # fmt: skip
_IN_BRACKETS = re.compile(r"^ *\(([^()]+)\)$")
MAX_DIGITS = 400


@dataclass(frozen=True, slots=True)
class Quantity:
    """`decimals` and `digits` (significant) are those of a decimal as it was written, else 0."""

    value: Fraction
    percent: bool
    unit: Unit
    name: str
    decimals: int
    digits: int


@lru_cache(maxsize=8192)
def quantity(answer: str) -> Quantity | None:
    """The answer as an exact number with an optional unit; None where it is something else."""
    text = _without_text(plain(answer))
    variable = _VARIABLE.match(text)
    text = text[variable.end() :] if variable else text
    brackets = _BRACKETS.fullmatch(text)
    match = _NUMBER.fullmatch((brackets[1] or brackets[2] or "").strip() if brackets else text)
    if not match or len(match["number"]) > MAX_DIGITS or len(match["below"] or "") > MAX_DIGITS:
        return None
    rest = _IN_BRACKETS.sub(r" \1", match["unit"])
    if ".." in rest:
        return None
    scale = _SCALE.match(rest)
    unit = read_unit(rest[scale.end() :] if scale else rest)
    below = int(match["below"] or 1)
    number = match["number"].replace(",", "")
    if not unit or below == 0 or (match["whole"] and not number.isdigit()) or (match["e"] and match["below"]):
        return None
    value = int(match["whole"] or 0) + Fraction(number.rstrip(".") or "0") / below
    value *= Fraction(10) ** int(match["e"] or match["power"] or 0) * (_SCALES[scale[1]] if scale else 1)
    name = variable[0][0] if variable else ""
    plainly = not (match["below"] or match["e"] or match["power"] or scale)
    decimals = len(number.partition(".")[2]) if plainly else 0
    digits = len(number.replace(".", "").lstrip("0")) if decimals else 0
    value = -value if match["sign"] == "-" else value
    return Quantity(value, bool(match["percent"]), unit, name, decimals, digits)


def measures(answer: str) -> list[Quantity] | None:
    """The parts of "2 hours and 45 minutes", "5 ft 3 in", "2小时30分"; None where it is not several units of the table."""
    parts = _PART.split(_without_text(plain(answer)))
    if not 1 < len(parts) < 5:
        return None
    found = [quantity(part) for part in parts]
    units = {one.unit.name for one in found if one and one.unit.listed}
    return [one for one in found if one] if len(units) == len(parts) else None


def same_quantity(one: Quantity, gold: Quantity) -> bool:
    """Equal values; a percent sign that only one side has is free (50% is also 0.5), and so is a unit."""
    if one.unit.name and gold.unit.name and one.unit.name != gold.unit.name:
        return False
    if one.name and gold.name and one.name != gold.name:
        return False
    if one.unit.name == "" and not gold.unit.free:
        return False
    if one.percent != gold.percent:
        percent, bare = (one, gold) if one.percent else (gold, one)
        return bare.value in (percent.value, percent.value / 100)
    return one.value == gold.value


def _without_text(text: str) -> str:
    if "\\" in text:
        text = re.sub(r"/ ?\\text ?\{", r"\\text{per ", text)
        text = re.sub(r" ?\\text ?\{([^{}]*)\}", r" \1", text)
        text = _FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text).replace("- ", "-").strip()
    return text
