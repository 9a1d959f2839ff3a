"""Presentation MathML to linear TeX: <msup><mi>x</mi><mn>2</mn></msup> is x^2.

For MathML that brings no TeX of its own. One pass over the tags with a stack, no recursion. Unknown elements
are rows of what they hold; elements that are not closed end with the formula.

Left out on purpose: content MathML, spacing, colours, alignment of tables; formulas of over MAX_CHARACTERS.
"""

import html as entities
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from dsm_jax.mine.extract.tex_symbols import ALPHABETS, FUNCTIONS, OVER, UNDER, WITH_LIMITS, symbol

MAX_CHARACTERS = 20_000  # of a formula's MathML: deep nesting costs their square

_TOKEN = re.compile(r"<(/?)(?:\w+:)?([A-Za-z][\w-]*)([^<>]*)>|([^<]+)|<")
_VARIANT = re.compile(r"""\bmathvariant\s*=\s*["']?([a-z-]+)""")
_FENCE = re.compile(r"""\b(open|close|separators)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NO_BAR = re.compile(r"""\blinethickness\s*=\s*["']?0""")
_RUNS_ON = re.compile(r"\\[A-Za-z]+\Z|[_^][^\\{}]\Z")  # into a letter or digit after it
_ONE_TOKEN = re.compile(r"[^\\{}^_\s]|\\[A-Za-z]+|\\[^A-Za-z]")
_NEEDS_NO_BRACES = re.compile(r"[\d.,]+|\\[A-Za-z]+\{[^{}]*\}|\([^()]*\)")
_PRESCRIPTS = "\0"


@dataclass
class _Open:
    """An element whose end has not been reached."""

    name: str
    attributes: str
    children: list[str] = field(default_factory=list)


def mathml_to_tex(inside: str) -> str:
    """The TeX of what a `math` element holds; "" where it is nothing, or too long."""
    if len(inside) > MAX_CHARACTERS:
        return ""
    if "<!--" in inside:
        first, *others = inside.split("<!--")
        inside = first + "".join(other.partition("-->")[2] for other in others)
    stack = [_Open("", "")]
    opened: Counter[str] = Counter()
    for closing, tag, attributes, text in _TOKEN.findall(inside):
        name = tag.lower()
        if text:
            _add_text(stack[-1], text)
        elif name and not closing:
            stack.append(_Open(name, attributes))
            opened[name] += 1
            if attributes.endswith("/"):
                _close(stack, opened)
        elif opened[name]:
            while stack[-1].name != name:
                _close(stack, opened)
            _close(stack, opened)
    while len(stack) > 1:
        _close(stack, opened)
    return _row(stack[0].children).replace(_PRESCRIPTS, "").strip()


def _add_text(element: _Open, text: str) -> None:
    if element.name in _LEAVES:
        element.children.append(entities.unescape(text))
    elif text.strip():
        element.children.append(_symbols(entities.unescape(text).strip()))


def _close(stack: list[_Open], opened: Counter[str]) -> None:
    element = stack.pop()
    opened[element.name] -= 1
    if element.name in ("annotation", "annotation-xml"):
        return
    write = _LEAVES.get(element.name) or _ELEMENTS.get(element.name)
    stack[-1].children.append(write(element) if write else _row(element.children))


def _row(parts: Sequence[str]) -> str:
    """The parts in a line, with a space where a command or an index would run into a letter."""
    written: list[str] = []
    for part in parts:
        if written and part[:1].isalnum() and _RUNS_ON.search(written[-1]):
            written.append(" ")
        if part:
            written.append(part)
    return "".join(written)


def _symbols(text: str) -> str:
    return _row([symbol(character) for character in text])


def _identifier(element: _Open) -> str:
    text = " ".join("".join(element.children).split())
    if "\\" + text in FUNCTIONS:
        return "\\" + text
    if len(text) > 1 and text.isalpha():
        return f"\\mathrm{{{text}}}" if text.isascii() else f"\\text{{{text}}}"
    variant = _VARIANT.search(element.attributes)
    alphabet = ALPHABETS.get(variant[1]) if variant else None
    return f"\\{alphabet}{{{_symbols(text)}}}" if alphabet and text else _symbols(text)


def _number(element: _Open) -> str:
    return _symbols("".join("".join(element.children).split()))


def _text(element: _Open) -> str:
    text = " ".join(re.split(r"\s+", "".join(element.children)))
    if not any(map(str.isalpha, text)):
        return _symbols(text)
    return "\\text{" + re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", "/")) + "}"


def _fixed(count: int, form: Callable[..., str]) -> Callable[[_Open], str]:
    """Of so many children; a row where there are others."""
    return lambda element: (
        form(*element.children) if len(element.children) == count else _row(element.children)
    )


def _scripts(base: str, below: str | None = None, above: str | None = None) -> str:
    tex = base if _ONE_TOKEN.fullmatch(base) or _NEEDS_NO_BRACES.fullmatch(base) else f"{{{base}}}"
    if below is not None:
        tex += "_" + _argument(below)
    if above is not None:
        tex += above if re.fullmatch("'+", above) else "^" + _argument(above)
    return tex


def _argument(tex: str) -> str:
    return tex if _ONE_TOKEN.fullmatch(tex) else f"{{{tex}}}"


def _under(base: str, below: str) -> str:
    if below in UNDER:
        return f"\\{UNDER[below]}{{{base}}}"
    return _scripts(base, below) if base in WITH_LIMITS else f"\\underset{{{below}}}{{{base}}}"


def _over(base: str, above: str) -> str:
    if above in OVER:
        return f"\\{OVER[above]}{{{base}}}"
    return _scripts(base, None, above) if base in WITH_LIMITS else f"\\overset{{{above}}}{{{base}}}"


def _under_over(base: str, below: str, above: str) -> str:
    return _scripts(base, below, above) if base in WITH_LIMITS else _under(_over(base, above), below)


def _fraction(element: _Open) -> str:
    if len(element.children) != 2:
        return _row(element.children)
    above, below = element.children
    return (
        f"{{{above} \\atop {below}}}"
        if _NO_BAR.search(element.attributes)
        else f"\\frac{{{above}}}{{{below}}}"
    )


def _fenced(element: _Open) -> str:
    marks = {"open": "(", "close": ")", "separators": ","}
    marks |= {
        name: entities.unescape(double or single)
        for name, double, single in _FENCE.findall(element.attributes)
    }
    between = marks["separators"].replace(" ", "")
    parts = [_symbols(marks["open"])]
    for i, child in enumerate(element.children):
        if i and between:
            parts.append(symbol(between[min(i, len(between)) - 1]))
        parts.append(child)
    return _row([*parts, _symbols(marks["close"])])


def _multiscripts(element: _Open) -> str:
    base, *scripts = element.children or [""]
    split = scripts.index(_PRESCRIPTS) if _PRESCRIPTS in scripts else len(scripts)
    before, after = scripts[split + 1 :], scripts[:split]

    def pairs(these: Sequence[str], of: str) -> str:
        for below, above in zip_longest(these[::2], these[1::2], fillvalue=""):
            of = _scripts(of, below or None, above or None)
        return of

    return (pairs(before, "") if before else "") + pairs(after, base)


def _table(element: _Open) -> str:
    return r"\begin{matrix}" + r" \\ ".join(element.children) + r"\end{matrix}"


_LEAVES: dict[str, Callable[[_Open], str]] = {
    "mi": _identifier,
    "mo": _identifier,
    "mn": _number,
    "mtext": _text,
    "ms": _text,
}
_ELEMENTS: dict[str, Callable[[_Open], str]] = {
    "msup": _fixed(2, lambda base, above: _scripts(base, None, above)),
    "msub": _fixed(2, _scripts),
    "msubsup": _fixed(3, _scripts),
    "munder": _fixed(2, _under),
    "mover": _fixed(2, _over),
    "munderover": _fixed(3, _under_over),
    "mfrac": _fraction,
    "msqrt": lambda element: f"\\sqrt{{{_row(element.children)}}}",
    "mroot": _fixed(2, lambda inside, index: f"\\sqrt[{index}]{{{inside}}}"),
    "mfenced": _fenced,
    "mmultiscripts": _multiscripts,
    "mprescripts": lambda element: _PRESCRIPTS,
    "mtable": _table,
    "mtr": lambda element: " & ".join(element.children),
    "mlabeledtr": lambda element: " & ".join(element.children[1:]),
    "mspace": lambda element: " ",
    "semantics": lambda element: element.children[0] if element.children else "",
    "mphantom": lambda element: "",
}
