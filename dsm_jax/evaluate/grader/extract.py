r"""Finds the final answer in a response.

Strict: the last `\boxed{}`, else what follows the last marker ("answer is", "####", 答案是, 故选, ...) on its line. Boxes that one
sentence joins ("\boxed{1} and \boxed{2}") are one answer; of boxes that stand apart only the last counts; a box that
does not close is no answer. Flexible: where there is no marker, the whole text if it reads as an answer, else its last formula or
number. Time is linear in the response. Left out on purpose: guessing which of several statements was meant.
"""

import re

from dsm_jax.evaluate.grader.choices import choice
from dsm_jax.evaluate.grader.normalise import MAX_ANSWER, plain
from dsm_jax.evaluate.grader.numbers import quantity
from dsm_jax.evaluate.grader.parse import parse
from dsm_jax.evaluate.grader.tree import Unreadable, Words, walk

TAIL = 10_000  # characters at the end in which flexible mode looks
MAX_BOXES = 30
MAX_GAP = 80  # characters between two boxes of one answer

_MARKERS = (
    "nswer is", "NSWER IS", "nswer:", "NSWER:", "nswer：", "nswer:**", "nswer**:", "nswer**\n", "nswer**：", "nswers are", "nswers:", "ption is", "hoice is",
    "####", "\nA:", "答案是", "答案为", "答案：", "答案:", "答案选", "故选", "应选", "因此选", "所以选", "选择", "题选", "答案】", "选项是", "选项为",
)  # fmt: skip
_EDGE = " .。*\t\r\"'“”_"
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)|\\boxed\s+(?=[^\s{])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_DELIMITER = re.compile(r"\$+|\\[()\[\]]|\\q?quad|\\[,;: ]|\\(?:text|textnormal|mbox)\s*\{|[{}]")
_JOINT = re.compile(
    r"(?P<before>[^,;&]*?)\s*(?:,|;|&|、|，|；|\band\b|\bor\b|和|与|以及|或)[\s,;]*(?:and|or)?\s*(?P<after>.*)",
    re.DOTALL,
)
_BRACES = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
_HIDDEN = re.compile(  # phantoms and comments; and struck or white boxes
    rf"\\[vh]?phantom\s*{_BRACES}|<!--(?:(?!<!--).)*?-->|\\iffalse\b(?:(?!\\iffalse).)*?\\fi\b|(?<!\\)%[ \t]*(?:\w+[ \t]+){{0,3}}[Aa]nswer\b[^\n]*"
    r"|(?:^|(?<=\n))[ \t]*%[^\n]*|(?<=\}) ?% ?[^\n,.]{0,40}\\boxed[^\n]*"
    rf"|(?P<struck>\\(?:[bx]?cancel|sout)\s*{_BRACES}|~~[^~\n]+~~|\\(?:text)?color\s*\{{white\}}\s*(?:\\boxed\s*)?{_BRACES})",
    re.DOTALL,
)
_WRAPPED = re.compile(r"\\text ?\{([^{}]*)\}")
_LABEL = re.compile(r"(?:[A-Za-z](?:_\{?\w+\}?)?(?:\([A-Za-z]\))?\s*=)?\s*")
_REJECTS = re.compile(
    r"\b(?:not|no|wrong|wait|but|instead|rather|actually|hence|so|is|are|then|incorrect)\b|不|错",
    re.IGNORECASE,
)

_CLAUSE = re.compile(
    r"[,;，。]?\s*(?:\b(?:because|since|as|so|which|therefore|thus|hence|not|rather|instead)\b|因为|而不是|不是)|。|[*$\"]*\.[*$\"]*\s+[A-Z<\[]|\s*<(?:\||/?s>|/|think)|\.\s*$"
)
_DENIED = re.compile(r"(?:\b(?:not|cannot be)|n't|不是|并非|不等于)[\s$({*\[\\]*$", re.IGNORECASE)
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\])+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BETWEEN_MATH = re.compile(r"\s*(?:,|;|、|，|\band\b|\bor\b|和|或)?\s*(?:and|or)?\s*")
_LAST_NUMBER = re.compile(
    r"(?<![A-Za-z\d.,}])(?:[-−–](?:\\?\$)?)?(?:\d(?:[\d,]*\d)?(?:\.\d+)?|\.\d+)(?:/\d+)?%?(?!\{)"
)
_OR = re.compile(r"\bor\b|或")
_HEDGE = re.compile(r"[ \t]*(?:,?[ \t]*\bor\b|或)[ \t]*|[ \t]+")
_SENTENCES = re.compile(r"[\n。]\s*(?=\S)|[.!]\s+(?=\S)")
_STATED = re.compile(r"(?:\bis\b|\bare\b|\bequals\b|=|:|：|是|为)\s*(?=[^=:：是为]+$)")


def find(response: str, mode: str) -> tuple[str | None, str]:
    """The final answer as it stands in the response, or None and why there is none."""
    response = _visible(response)
    answer, reason = marked(response)
    if answer is None and mode == "flexible" and reason == "no answer marker":
        if response.rstrip().endswith(("?", "？")):
            return None, "the response ends in a question"
        answer, reason = _unmarked(response), ""
    if answer is None:
        return None, reason
    if not 0 < len(answer) <= MAX_ANSWER:
        return None, f"the answer is {f'longer than {MAX_ANSWER} characters' if answer else 'empty'}"
    return answer, ""


def _visible(response: str) -> str:
    if not any(
        sign in response for sign in ("phantom", "<!--", "%", "~~", "cancel", "sout", "white", "iffalse")
    ):
        return response
    return _HIDDEN.sub(lambda m: m[0] if m["struck"] and "boxed" not in m[0] else "", response)


def find_gold(gold: str) -> str:
    """The answer in a gold answer, which may be bare, boxed, marked, or a worked solution."""
    answer, _ = marked(gold)
    if answer is not None:
        return answer
    return gold if len(gold) < 100 or readable(gold) else _unmarked(gold)


def marked(text: str) -> tuple[str | None, str]:
    """What the last boxes hold, else what follows the last marker; or None and why."""
    boxed, reason = last_boxes(text)
    if boxed is not None and ("nswer" in boxed or "答案" in boxed):
        boxed = marked(_WRAPPED.sub(r"\1", boxed))[0] or boxed
    if boxed is not None or reason != "no box":
        return boxed, reason
    place, marker = max((text.rfind(marker), marker) for marker in _MARKERS)
    if place < 0:
        return None, "no answer marker"
    start = place + len(marker)
    rest = text[start : start + 2 * MAX_ANSWER].lstrip(" :：*").lstrip()
    return _stated(rest.split("\n", 1)[0] if not rest.startswith(("\\[", "$$", "\\begin")) else rest), ""


def last_boxes(text: str) -> tuple[str | None, str]:
    """The content of the last box, together with boxes before it that the same sentence joins to it."""
    place = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if place < 0:
        return None, "no box"
    found = _box(text, place)
    if found is None:
        return None, f"the last box is not closed within {MAX_ANSWER} characters"
    if _is_denied(text, place):
        return "", ""
    contents, last = [found[0]], place
    while len(contents) < MAX_BOXES:
        before = max(text.rfind("\\boxed", 0, place), text.rfind("\\fbox", 0, place))
        box = _box(text, before) if before >= 0 else None
        if box is None or box[1] > place or not _are_joined(text[box[1] : place]):
            break
        contents.append(box[0])
        place = before
    if len(set(contents)) == 1:
        return contents[0], ""
    return (_joint(text, place, last).join(reversed(contents)) if all(contents) else ""), ""


def _box(text: str, place: int) -> tuple[str, int] | None:
    """Content and end of the box that starts at place."""
    match = _BOX.match(text, place)
    if not match:
        return None
    if text[match.end()] != "{":
        word = re.compile(r"[^\s${}\\]+").match(text, match.end())
        return (word[0].rstrip(".,"), word.end()) if word else None
    depth = 0
    for brace in _BRACE.finditer(text, match.end(), match.end() + MAX_ANSWER + 2):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[match.end() + 1 : brace.start()].strip(), brace.end()
    return None


def _are_joined(gap: str) -> bool:
    """Nothing, or at most a few words, a comma or "and", and a name with an equal sign."""
    if not gap.strip(" "):
        return True
    if len(gap) > MAX_GAP or "\n\n" in gap:
        return False
    bare = _DELIMITER.sub(" ", gap).strip(" \\")
    match = _JOINT.fullmatch(bare)
    if not match or not _LABEL.fullmatch(match["after"]):
        return False
    before = match["before"]
    return "." not in before and len(before.split()) <= 4 and not _REJECTS.search(before)


def _stated(line: str) -> str:
    """The answer at the start of a line such as "5 because 3 + 2 = 5"; or at its end: "the largest n is 34."."""
    line = line.strip()
    if math := _leading_math(line):
        return math
    clause = _CLAUSE.search(line)
    head = (line[: clause.start()] if clause else line).strip(_EDGE)
    if not head or readable(head):
        return head
    stated = _STATED.search(head)
    if stated and readable(head[stated.end() :].strip(_EDGE)):
        return head[stated.end() :].strip(_EDGE)
    return line.strip(_EDGE)


def _leading_math(line: str) -> str | None:
    """$...$ at the start, with what is joined to it, where nothing but the end of a clause follows."""
    if not (match := _MATH.match(line.lstrip("\"'*"))):
        return None
    line = line.lstrip("\"'*")
    end = match.end()
    while (
        (joint := _BETWEEN_MATH.match(line, end))
        and joint.end() > end
        and (more := _MATH.match(line, joint.end()))
    ):
        end = more.end()
    rest = line[end:].lstrip(_EDGE)
    return line[:end] if not rest or line[end:].lstrip("*\"' ")[:1] in (".", ",", "。", "<", ";") else None


def readable(text: str) -> bool:
    """Whether the text is an answer and not a sentence: a number, a choice, mathematics, one or two words."""
    if len(text) > MAX_ANSWER:
        return False
    if quantity(text) or choice(text):
        return True
    try:
        node = parse(text)
    except Unreadable:
        return False
    return not any(isinstance(part, Words) and len(part.text.split()) > 2 for part in walk(node))


def _unmarked(text: str) -> str:
    """The whole text if it is an answer, else its last formula or number."""
    whole = text.strip()
    if len(whole) <= MAX_ANSWER and readable(whole):
        return whole
    last = _SENTENCES.split(whole[-MAX_ANSWER:])[-1]
    if choice(last):
        return last
    start = max(0, len(text) - TAIL)
    maths, numbers = (
        [match for match in pattern.finditer(text, start) if not _is_denied(text, match.start())]
        for pattern in (_MATH, _LAST_NUMBER)
    )
    if maths and (not numbers or numbers[-1].start() < maths[-1].end()):
        return _last_run(text, maths)
    return _last_numbers(text, numbers) if numbers else whole


def _last_numbers(text: str, numbers: list[re.Match[str]]) -> str:
    """The last number, with those that only a space or "or" parts from it: "3 or 4" is not 4."""
    start = len(numbers) - 1
    while start and _HEDGE.fullmatch(text, numbers[start - 1].end(), numbers[start].start()):
        start -= 1
    return " or ".join(match.group() for match in numbers[start:])


def _last_run(text: str, maths: list[re.Match[str]]) -> str:
    """The last formula, with those that only a comma, a space or "and" parts from it."""
    start = len(maths) - 1
    while start and _BETWEEN_MATH.fullmatch(text, maths[start - 1].end(), maths[start].start()):
        start -= 1
    formulas = [next(filter(None, match.groups()), "").strip() for match in maths[start:]]
    return _joint(text, maths[start].end(), maths[-1].start()).join(formulas)


def _joint(text: str, start: int, end: int) -> str:
    return " or " if _OR.search(text, start, end) else ", "


def _is_denied(text: str, place: int) -> bool:
    """Whether what stands at this place is what the answer is not."""
    return bool(_DENIED.search(text, max(0, place - 20), place))


def readings(formula: str) -> list[str]:
    """What an unmarked formula may state: itself, and the last member of its chain of equal signs, without what it is about."""
    found = plain(formula)
    exact, _, about = found.partition("\\approx")
    last = re.split(r"(?<![<>!\\])=", exact)[-1] or about
    return [formula, last] if last != found else [formula]
