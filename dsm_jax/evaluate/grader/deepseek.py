r"""The published rules of DeepSeekMath's evaluation (the repository deepseek-ai/DeepSeek-Math, evaluation), so that numbers can be compared with the paper's. No code is run.

Written from the description of those rules, known defects included: numbers are equal within 1e-3 and up to a factor of 100 either
way, brackets of any kind are the same, 10_8 is 10, a mixed number is a product, \text units vanish, thin commas and unicode
minus signs are not read, the order of a list counts. Where they hand text to sympy's parsers, whose input is evaluated as Python,
this file reads it with the grader's own parser, and where they simplify, compares values: the same verdicts on all labelled
outputs we have. Left out on purpose: the extractors of single benchmarks (GSM8K few-shot cuts "1,080" to "080").
"""

from __future__ import annotations

import re

from dsm_jax.evaluate.grader.arithmetic import Unsuited, approximate
from dsm_jax.evaluate.grader.parse import parse
from dsm_jax.evaluate.grader.same import Undecided, same_value, variables
from dsm_jax.evaluate.grader.tree import Node, Symbol, Unreadable, walk

TOLERANCE = 1e-3
MAX_LENGTH = 1000  # characters of an answer that are compared; theirs has no bound and a time limit
TAIL = 100_000  # characters at the end of a response that are searched

_BRACE = re.compile(r"[{}]")
_NUMBER = re.compile(r"-?\d*\.?\d+")
_OUTPUT = re.compile(r"```output\n(.*?)\n?```", re.DOTALL)
_TRAILING_TEXT = re.compile(r"\\text\{.*?\}$", re.DOTALL)
_BRACKETED = re.compile(r"[(\[].+[)\]]", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")


def extract(response: str) -> list[str]:
    """All answers of a response: between "final answer is $" and "$. I hope", else every box, else one by weaker signs."""
    text = response[-TAIL:]
    if "final answer is $" in text and "$. I hope" in text.partition("final answer is $")[2]:
        return [stripped(text.partition("final answer is $")[2].partition("$. I hope")[0])]
    if "boxed" in text:
        return [stripped(box) for box in _boxes(text)]
    if "he answer is" in text:
        return [stripped(text.rpartition("he answer is")[2].strip().split("\n")[0])]
    if outputs := _OUTPUT.findall(text):
        return [stripped(outputs[-1])]
    numbers = _NUMBER.findall(text.replace(",", ""))
    return [stripped(numbers[-1])] if numbers else []


def is_correct(answers: list[str], gold: list[str]) -> bool:
    """Every answer has its gold answer and the other way round; repeated ones count once, the last ones if there are too many."""
    wanted = [stripped(one) for one in gold]
    said = list(dict.fromkeys(answers))[-len(wanted) :]
    if not said:
        return False
    return all(any(same(one, other) for other in wanted) for one in said) and all(
        any(same(one, other) for one in said) for other in wanted
    )


def same(answer: str, gold: str) -> bool:
    """Of two stripped answers: text, numbers within 1e-3 or a factor of 100, collections by position, equations, values."""
    if answer == gold:
        return True
    if max(len(answer), len(gold)) > MAX_LENGTH:
        return False
    if "\\cup" in answer and "\\cup" in gold:
        return _same_unions(answer.split("\\cup"), gold.split("\\cup"))
    one, other = _digits(answer), _digits(gold)
    if one is not None and other is not None:
        return any(abs(one - candidate) <= TOLERANCE for candidate in (other, other / 100, other * 100))
    if not answer:
        return False
    if _without_brackets(answer) == _without_brackets(gold):
        return True
    if _BRACKETED.fullmatch(answer) and _BRACKETED.fullmatch(gold):
        return _same_items(answer[1:-1].split(","), gold[1:-1].split(","))
    if (matrix := _MATRIX.fullmatch(answer)) and (wanted := _MATRIX.fullmatch(gold)):
        return _same_items(*(re.split(r"&|\\\\", found[1].strip("\\ ")) for found in (matrix, wanted)))
    if answer.count("=") == gold.count("=") == 1:
        return any(_same_symbolic(*pair) for pair in _equations(answer, gold))
    for equation, value in ((answer, gold), (gold, answer)):
        left, equals, right = equation.partition("=")
        if equals and "=" not in value and equation.count("=") == 1 and len(left.strip()) <= 2:
            return same(right, value) if equation is answer else same(value, right)
    return _same_symbolic(answer, gold)


def stripped(answer: str) -> str:
    """An answer in the published normal form, with its losses: no spaces, no \\text, no units of money, degree or percent."""
    text = answer.strip().replace("\n", "").rstrip(".").replace("\\!", "").replace("\\ ", "")
    text = text.replace("\\\\", "\\") if "matrix" not in text else text
    text = re.sub(r"\\[dt]frac", r"\\frac", text).replace("\\left", "").replace("\\right", "")
    if text.startswith("\\text{") and text.endswith("}"):
        text = text[len("\\text{") : -1]
    text = _TRAILING_TEXT.sub("", text).strip() or text
    text = re.sub(r"\^\{?\\circ\}?", "", text).replace("\\$", "").replace("$", "")
    text = text.replace("\\text", "").replace("x\\in", "").replace("\\%", "%").replace("\\mathbf", "")
    text = re.sub(r"\\mbox\{.*?\}", "", text).replace(" .", " 0.").replace("{.", "{0.").replace("\\cdot", "")
    text = (
        text.replace("infinity", "\\infty") if "\\infty" in text else re.sub("infinity|inf", r"\\infty", text)
    )
    text = text.replace("and", "")
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d)\.0+(?=\D|$)", r"\1", text)
    text = f"0{text}" if text.startswith(".") else text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"(?<=\d)t$", "", text)
    text = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", re.sub(r"\\frac(\w)\{", r"\\frac{\1}{", text))
    fraction = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    return f"\\frac{{{fraction[1]}}}{{{fraction[2]}}}" if fraction else text


def _boxes(text: str) -> list[str]:
    """The content of every boxed{...}; one that does not close has none."""
    found: list[str] = []
    place = text.find("boxed{")
    while place >= 0 and len(found) < 1000:
        start, depth, end = place + len("boxed{"), 1, -1
        for brace in _BRACE.finditer(text, start, start + 10 * MAX_LENGTH):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                end = brace.start()
                break
        if end >= 0:
            percent = "%" if text.startswith(("%", "\\%"), end + 1) else ""
            found.append(text[start:end] + percent)
        place = text.find("boxed{", start)
    return found


def _digits(text: str) -> float | None:
    """A number in digits, without commas; with a percent sign a hundredth."""
    bare = text.replace(",", "")
    percent = bare.endswith("%")
    bare = bare.rstrip("%").rstrip("\\")
    if not _PLAIN_NUMBER.fullmatch(bare) or len(bare) > 300:
        return None
    return float(bare) / (100 if percent else 1)


def _without_brackets(text: str) -> str:
    bare = text[1:-1] if _BRACKETED.fullmatch(text) else text
    return re.sub(r"[{}()]", "", bare)


def _same_items(ours: list[str], theirs: list[str]) -> bool:
    return len(ours) == len(theirs) and all(
        same(one.strip(), other.strip()) for one, other in zip(ours, theirs, strict=True)
    )


def _same_unions(ours: list[str], theirs: list[str]) -> bool:
    return all(any(same(one, other) for other in theirs) for one in ours) and all(
        any(same(one, other) for one in ours) for other in theirs
    )


def _equations(answer: str, gold: str) -> list[tuple[str, str]]:
    """a = b against c = d as a - (b) against c - (d), with either sign."""
    (a, _, b), (c, _, d) = answer.partition("="), gold.partition("=")
    one, other = f"{a}-({b})", f"{c}-({d})"
    return [(one, other), (f"-({one})", other)]


def _same_symbolic(answer: str, gold: str) -> bool:
    """The same function, or numbers within 1e-3. A subscript of a number is lost, \\pi is a name, 1\\frac12 a product."""
    if not answer.isascii() or "{,}" in answer:  # what those parsers do not read
        return False
    try:
        one, other = (parse(_for_parser(text)) for text in (answer, gold))
        if same_value(one, other):
            return True
    except (Unreadable, Undecided):
        return False
    if variables(one) or variables(other) or any(_has_pi(side) for side in (one, other)):
        return False
    try:
        return abs(approximate(one, {}) - approximate(other, {})) <= TOLERANCE
    except Unsuited:
        return False


def _for_parser(text: str) -> str:
    """An integer before a fraction is a factor for sympy's parsers."""
    bare = re.sub(r"(\d)_\{?\d+\}?", r"\1", text)
    return re.sub(r"(\d)\\frac", r"\1\\cdot\\frac", bare)


def _has_pi(node: Node) -> bool:
    return any(isinstance(part, Symbol) and part.name == "\\pi" for part in walk(node))
