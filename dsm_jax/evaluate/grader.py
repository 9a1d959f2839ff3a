"""Grades a response against a gold answer: extraction, normalisation, exact comparison. The reward of RL.

Strict mode, the default, needs an answer marker: the last `\\boxed{}`, else what follows the last "answer
is", "####" or 答案是. Only the last one counts, so several different boxes do not help; a box that does not close
is no answer. Flexible mode takes, where there is no marker, the last number, else the whole text.
Numbers, simple fractions, decimals and mixed numbers are compared as exact rationals, everything else as
normalised text; a percent sign that only one side has is ignored (50% is also 0.5), and so is a unit, where
it is a common one or stands in the response (units.py). Left out on purpose: symbolic mathematics, sets,
intervals. Text is never executed; time is linear in it.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from dsm_jax.errors import UserError
from dsm_jax.evaluate.units import Unit, read_unit

MODES = ("strict", "flexible")
TAIL = 10_000  # characters at the end in which flexible mode looks for a number
MAX_ANSWER = 1000  # characters: a longer answer is wrong, a longer gold answer cannot be scored

_MARKERS = ("nswer is", "ANSWER IS", "nswer:", "####", "\nA:", "答案是", "答案为", "答案：", "答案:")
_EDGE = " .。*\t\r"
_BOXES = ("\\boxed{", "\\boxed {")
_CLAUSE = re.compile(
    r"[,;，。]?\s*(?:\b(?:because|since|as|so|which|therefore|thus|hence)\b|因为)|。|[*$]*\.[*$]*\s+[A-Z]"
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_LAST_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")

_FULL_WIDTH: dict[int | str, int | str] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FRACTIONS = {
    ord(c): " " + unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_SAME = str.maketrans(
    _FULL_WIDTH
    | _FRACTIONS
    | {"²": "^2", "³": "^3", "×": "\\times"}
    | {"−": "-", "–": "-", "。": ".", "\u3000": " ", "\xa0": " ", "~": " "}
)
_STYLE = re.compile(r"\\(?:left|right|displaystyle|[()\[\]!,;:> ])|\\?\$|[£€¥￥]")
_DEGREE = re.compile(r"\^\{?\\circ\}?|°|\\degree")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit)\{([^{}]*)\}")
_FRACTION = re.compile(r"\\frac(?:\{(-?\d+)\}|(\d))(?:\{(-?\d+)\}|(\d))")
_VARIABLE = re.compile(r"[A-Za-z]\s*=\s*(?=\S)")

_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<whole>\d+)\s+(?=\d+\s*/))?"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:\s*/\s*(?P<below>-?\d+))?"
    r"(?:[eE](?P<e>[-+]?\d{1,3})|\s*(?:\\times|\\cdot|[xX*])\s*10\s*\^\s*\{?(?P<power>[-+]?\d{1,3})(?!\d)\}?)?"
    r"(?:\s*(?P<percent>\\?%|per\s?cent\b))?(?P<unit>.*)",
    re.DOTALL,
)
_BRACKETS = re.compile(r"\{([^{},]*)\}|\(([^(),]*)\)")


@dataclass(frozen=True)
class Verdict:
    """`correct` is None where the gold answer cannot be scored; `extracted` is the answer as written."""

    correct: bool | None
    extracted: str | None
    reason: str


@dataclass(frozen=True)
class _Quantity:
    value: Fraction
    percent: bool
    unit: Unit


def grade(response: str, gold: str, *, mode: str = "strict") -> Verdict:
    """Whether the response's final answer equals the gold answer.

    The gold answer may be bare ("3/4"), boxed, or a solution that ends in a marker. Raises UserError for an
    unknown mode only; any text gets a verdict.
    """
    _check_mode(mode)
    marked, _ = _marked(gold)
    wanted = gold if marked is None else marked
    if len(wanted) > MAX_ANSWER or not normalise(wanted):
        return Verdict(None, extract(response, mode=mode), "the gold answer is empty or too long")
    extracted, reason = _extract(response, mode)
    if extracted is None:
        return Verdict(False, None, reason)
    if _same(extracted, wanted):
        return Verdict(True, extracted, "equal")
    return Verdict(False, extracted, "different")


def extract(response: str, *, mode: str = "strict") -> str | None:
    """The response's final answer as it stands in the text, None where there is none."""
    _check_mode(mode)
    return _extract(response, mode)[0]


def is_boxed(response: str) -> bool:
    """Whether the response ends in an answer: its last `\\boxed{` is closed and not empty."""
    boxed, _ = _last_box(response)
    return bool(boxed)


def answer_key(extracted: str) -> str:
    """One string for all ways to write an answer, to count votes: "0.50", "1/2 cm" and "\\frac12" agree."""
    quantity = _quantity(extracted)
    return str(quantity.value) if quantity else normalise(extracted)


def normalise(answer: str) -> str:
    """The answer as plain comparable text: no spaces, styles, currency, brackets of a choice; lower case."""
    text = re.sub(r"\s+", "", _plain(answer)).casefold()
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"grade: mode {mode} is unknown, use one of: {', '.join(MODES)}")


def _extract(response: str, mode: str) -> tuple[str | None, str]:
    answer, reason = _marked(response)
    if answer is None and mode == "flexible" and reason == "no answer marker":
        answer, reason = _last_number(response), ""
    if answer is None:
        return None, reason
    if not 0 < len(answer) <= MAX_ANSWER:
        return None, f"the answer is {f'longer than {MAX_ANSWER} characters' if answer else 'empty'}"
    return answer, ""


def _marked(text: str) -> tuple[str | None, str]:
    """What the last box holds, else what follows the last marker on its line; or None and why."""
    boxed, reason = _last_box(text)
    if boxed is not None or reason != "no box":
        return boxed, reason
    places = [(text.rfind(marker), marker) for marker in _MARKERS]
    place, marker = max(places)
    if place < 0:
        return None, "no answer marker"
    start = place + len(marker)
    line = text[start : start + MAX_ANSWER + 2].lstrip(" :：*").split("\n", 1)[0]
    return _first_clause(line).strip(_EDGE), ""


def _first_clause(line: str) -> str:
    """The number at the start of "5 because 3 + 2 = 5"; a line that does not start with one stays whole."""
    clause = _CLAUSE.search(line)
    head = line[: clause.start()] if clause else line
    return head if _quantity(head.strip(_EDGE)) else line


def _last_box(text: str) -> tuple[str | None, str]:
    place, box = max((text.rfind(box), box) for box in _BOXES)
    if place < 0:
        return None, "no box"
    start = place + len(box)
    depth = 1
    for match in _BRACE.finditer(text, start, start + MAX_ANSWER + 1):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return text[start : match.start()].strip(), ""
    return None, f"the last box is not closed within {MAX_ANSWER} characters"


def _last_number(text: str) -> str:
    numbers = _LAST_NUMBER.findall(text, max(0, len(text) - TAIL))
    return numbers[-1].rstrip(",") if numbers else text.strip()


def _same(answer: str, gold: str) -> bool:
    one, other = _quantity(answer), _quantity(gold)
    if one is None or other is None:
        return normalise(answer) == normalise(gold)
    if one.unit.name != other.unit.name and (one.unit.name or not other.unit.known) and other.unit.name:
        return False
    if one.percent != other.percent:  # 50% answers "what percent" (50) and is a number (0.5)
        percent, bare = (one, other) if one.percent else (other, one)
        return bare.value in (percent.value, percent.value / 100)
    return one.value == other.value


def _plain(answer: str) -> str:
    """The answer without LaTeX styles, with plain fractions and characters of one width."""
    text = answer.translate(_SAME).replace("{,}", ",")
    text = (
        _STYLE.sub("", _DEGREE.sub(" degrees", text))
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
    )
    text = _TEXT.sub(r" \1", text)
    text = _FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text).strip()
    variable = _VARIABLE.match(text)
    return text[variable.end() if variable else 0 :].rstrip(". ")


def _quantity(answer: str) -> _Quantity | None:
    """The answer as an exact number with an optional unit; None where it is something else."""
    text = _plain(answer) if len(answer) <= MAX_ANSWER else ""
    brackets = _BRACKETS.fullmatch(text)
    match = _NUMBER.fullmatch((brackets[1] or brackets[2] or "").strip() if brackets else text)
    unit = match and read_unit(match["unit"])
    if not match or not unit:
        return None
    below = int(match["below"] or 1)
    number = match["number"].replace(",", "")
    if below == 0 or (match["whole"] and not number.isdigit()) or (match["e"] and match["below"]):
        return None
    value = int(match["whole"] or 0) + Fraction(number.rstrip(".") or "0") / below
    value *= Fraction(10) ** int(match["e"] or match["power"] or 0)
    return _Quantity(-value if match["sign"] == "-" else value, bool(match["percent"]), unit)
