r"""Where the steps of a solution end in its text.

A step reaches from the end of the one before it to its own end, behind its last visible character: white space between
two steps belongs to the later one, white space at the end to none. A text cut at a step's end has the steps up to there.
Three ways to split:
- lines: a step is a line that is not blank
- numbered: a step begins with "Step k:" (Math-Shepherd), 步骤k： or 第k步： at the start of a line, or within one where k is one
  more than before; what stands before the first belongs to it
- sentences: a step is a line, cut also as DeepSeekMath cuts its reference solutions, at a full stop and a space before a
  capital letter, though not behind a title ("Mr.") or a list's number ("1."); and behind Chinese full stops
A fenced block of code is never cut, and goes with the block of its output. Left out on purpose: steps that a model finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Splitting = Literal["lines", "numbered", "sentences"]
BLOCK = re.compile(
    r"^[ \t]*```[^`\n]*$.*?(?:^[ \t]*```[ \t\r]*$(?!\s*^[ \t]*```output)|\Z)", re.MULTILINE | re.DOTALL
)
LINE = re.compile(r"\n")
SENTENCE = re.compile(
    r"\n|(?<=\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!^\d\.)(?<!^\d\d\.)[^\S\n]+(?=[A-Z])"
    r"|(?<=[。！？])(?![。！？”’」』）])|(?<=[。！？][”’」』）])(?![”’」』）])",
    re.MULTILINE,
)
NUMBER = re.compile(
    r"(?:(?P<line>^[^\S\n]*+[*#>]*+[^\S\n]*+)|(?<!\w))"
    r"(?:Step[^\S\n]+|步骤[^\S\n]*|第[^\S\n]*)(?P<k>\d{1,4})(?:[^\S\n]*步)?\**[^\S\n]*(?P<mark>[:：.、])",
    re.MULTILINE,
)


def step_ends(text: str, splitting: Splitting = "lines") -> tuple[int, ...]:
    """The offset behind each step's last visible character, rising; () where nothing is visible."""
    bare = BLOCK.sub(lambda found: "`" * len(found[0]), text)  # nothing to cut there
    ends, start = [], 0
    for border in (*_borders(bare, splitting), len(text)):
        if visible := len(text[start:border].rstrip()):
            ends.append(start + visible)
        start = border
    return tuple(ends)


def steps_of(text: str, ends: tuple[int, ...]) -> list[str]:
    """The text of each step, without white space around it."""
    return [text[start:end].strip() for start, end in zip((0, *ends), ends, strict=False)]


def _borders(text: str, splitting: Splitting) -> Iterator[int]:
    """Offsets between two steps, anywhere in the white space there; there may be no step between two of them."""
    if splitting == "numbered":
        return _numbers(text)
    return (found.start() for found in (LINE if splitting == "lines" else SENTENCE).finditer(text))


def _numbers(text: str) -> Iterator[int]:
    last: int | None = None
    for found in NUMBER.finditer(text):
        number = int(found["k"])
        goes_on = last is not None and number == last + 1 and found["mark"] in ":："
        if found["line"] is None and not goes_on:
            continue  # one that is spoken of
        if last is not None:
            yield found.start()
        last = number
