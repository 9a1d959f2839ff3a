"""Formulas as TeX in a page's HTML: one scan over its characters, before it is parsed.

Becomes `$TeX$` (`$$TeX$$` where displayed), escaped as text:
- MathML with a TeX annotation or an alttext, under a namespace prefix too; other MathML by mathml.py;
- `math/tex` and `math/mml` scripts, as MathJax 2 leaves them;
- images of equations (equation_images.py).
Sub- and superscripts that are indices and exponents become x_1 and 10^{23} (indices.py). Formulas that are
text already ($..$, \\(..\\), environments) stay. Scripts, styles and comments go, so that no "$" of theirs
counts as a formula. Figures that hold code, tables or formulas become plain elements: extraction drops figures.

Every step moves on, and what is not found once is not looked for again: time is linear in the page's length.

Left out on purpose: AsciiMath, TeX with a raw "<" before a letter (a tag to any parser).
"""

import html as entities
import re
from collections.abc import Callable
from dataclasses import dataclass

from dsm_jax.mine.extract.equation_images import image_tex
from dsm_jax.mine.extract.indices import index_at
from dsm_jax.mine.extract.markup import attribute
from dsm_jax.mine.extract.mathml import mathml_to_tex

# The elements of _READERS and a few more: a regex of their names would be slower.
_OPENING = re.compile(r"<(!--|[sSiImMfF][uUmMcCtTaAiIl:][^\s<>/]*+)")
_REST_OF_TAG = re.compile(r"""((?:[^<>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+)>""")
_ANNOTATION = re.compile(r"<(?:\w+:)?annotation\s([^<>]*+)>", re.IGNORECASE)
_ENCODING_TEX = re.compile(
    r"""(?<![\w-])encoding\s*=\s*["']?(?:application/x-)?(?:la)?tex\b""", re.IGNORECASE
)
_TEX_SCRIPT = re.compile(r"""(?<![\w-])type\s*=\s*["']?\s*math/(tex|mml)""", re.IGNORECASE)
_CDATA = re.compile(r"^\s*(?:%\s*)?<!\[CDATA\[|(?:%\s*)?\]\]>\s*$")
_FIGURE = re.compile(r"<figure\b([^<>]*+)>((?:[^<]++|<(?!/?figure\b))*+)</figure\b")
_TEXT_IN_FIGURE = re.compile(r"<(?:pre|code|table)\b|(?:\A|>)[^<>]*(?:\$(?!\d)|\\[(\[])", re.IGNORECASE)
_HIDDEN = re.compile(
    r"""display\s*:\s*none|visibility\s*:\s*hidden|aria-hidden\s*=\s*["']?true|[\s"'-]hidden[\s"'>=]""",
    re.IGNORECASE,
)
_ONLY_TAGS = re.compile(r"(?:\s|<[^<>]*>)*+")
_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*%")
_DELIMITERS = (("$$", "$$", True), ("\\[", "\\]", True), ("\\(", "\\)", False), ("$", "$", False))
_IS_TEXT_ALREADY = re.compile(
    r"\\begin\{(?:displaymath|math|equation|eqnarray|align|alignat|flalign|gather|multline)\*?\}"
)


@dataclass(frozen=True)
class Marked:
    """A page's HTML with its formulas as TeX, and how many there were."""

    html: str
    formulas: int
    scripts: int
    """Of them in scripts, as MathJax 2 has them."""
    hidden: int
    """Of them in the elements that KaTeX and MathJax hide beside what they draw."""


def mark_formulas(page: str) -> str:
    """The page's HTML with every formula as escaped `$TeX$`, without scripts, styles and comments."""
    return scan(page).html


def scan(page: str) -> Marked:
    """mark_formulas with what it found."""
    return _Scan(page).run()


class _Scan:
    """The place reached in a page, and the pieces of its new HTML."""

    def __init__(self, page: str):
        self.page = page
        self.pieces: list[str] = []
        self.done = 0  # up to here the page is in pieces
        self.formulas = self.scripts = self.hidden = self.figures = 0
        self.last_tex, self.last_end = "", 0  # of a `math` element
        self.index_end = 0
        self.absent: set[str] = set()

    def run(self) -> Marked:
        page = self.page
        match = _OPENING.search(page)
        while match:
            start, end = match.span()
            name = match[1]
            read = _READERS.get(name) or _READERS.get(name.lower())
            match = _OPENING.search(page, read(self, start, end) if read else end)
        self.pieces.append(page[self.done :])
        html = "".join(self.pieces)
        if self.figures:
            html, inner = _FIGURE.subn(_figure, html)
            html = _FIGURE.sub(_figure, html) if inner < self.figures else html  # those around others
        return Marked(html, self.formulas, self.scripts, self.hidden)

    def replace(self, start: int, end: int, replacement: str) -> int:
        self.pieces += (self.page[self.done : start], replacement)
        self.done = end
        return end

    def find(self, text: str, start: int) -> int:
        """str.find, once only for what is not there."""
        if text in self.absent:
            return -1
        place = self.page.find(text, start)
        if place < 0:
            self.absent.add(text)
        return place

    def formula(self, start: int, end: int, tex: str, display: bool = False) -> int:
        """Puts the TeX in the place of page[start:end]."""
        tex = tex.strip()
        written = _in_dollars(tex, display)
        self.formulas += bool(written)
        return self.replace(start, end, written)

    def tag(self, name_end: int) -> tuple[str, int] | None:
        """(attributes, end) of the opening tag that has its name up to name_end."""
        end = self.page.find(">", name_end, name_end + 2000)
        attributes = self.page[name_end:end] if end >= 0 else "<"
        if "<" in attributes or "'" in attributes or attributes.count('"') % 2:  # the ">" may be in quotes
            tag = _REST_OF_TAG.match(self.page, name_end)
            return (tag[1], tag.end()) if tag else None
        return attributes, end + 1

    def close(self, name: str, start: int) -> tuple[int, int] | None:
        """Begin and end of the closing tag of a name, as it is spelled, from `start` on."""
        close = self.find("</" + name, start)
        if close < 0:
            return None
        end = self.find(">", close)
        return close, len(self.page) if end < 0 else end + 1

    def read_comment(self, start: int, name_end: int) -> int:
        close = self.find("-->", start + 2)
        return name_end if close < 0 else self.replace(start, close + 3, "")

    def read_style(self, start: int, name_end: int) -> int:
        close = self.close(self.page[start + 1 : name_end], name_end)
        return self.replace(start, close[1], "") if close else name_end

    def read_script(self, start: int, name_end: int) -> int:
        tag = self.tag(name_end)
        close = self.close(self.page[start + 1 : name_end], tag[1]) if tag else None
        if not tag or not close:
            return name_end
        kind = _TEX_SCRIPT.search(tag[0]) if "ath/" in tag[0] else None
        if not kind:
            return self.replace(start, close[1], "")
        self.scripts += 1
        inside = self.page[tag[1] : close[0]]
        if kind[1].lower() == "mml":
            return self.formula(start, close[1], _math_tex("", inside), _is_display(inside.partition(">")[0]))
        display = "mode=display" in tag[0].replace(" ", "")
        return self.formula(start, close[1], _CDATA.sub("", inside), display)

    def read_math(self, start: int, name_end: int) -> int:
        name = self.page[start:name_end]
        close = self.close(name[1:], name_end)
        if not close:
            return name_end
        nested = self.page.rfind(name, name_end, close[0])
        tag = self.tag(name_end)
        if nested >= 0 or not tag or tag[1] > close[0]:  # the outer one is not closed, or no formula
            return max(nested, name_end)
        tex = _math_tex(tag[0], self.page[tag[1] : close[0]])
        if not tex:
            return close[1]
        self.last_tex, self.last_end = tex, close[1]
        return self.formula(self._show(start), close[1], tex, _is_display(tag[0]))

    def _show(self, start: int) -> int:
        """Where an element that begins with the formula hides it, beside an image, it hides it no more."""
        if self.page[start - 1 : start] != ">" and self.page[start - 2 : start - 1] not in "> \n\t":
            return start  # after a word and a space, as nearly all are
        place = max(self.done, start - 300)
        before = self.page[place:start].rstrip()
        if before[-1:] != ">":
            return start
        tag = before.rfind("<")
        wrapper = before[max(tag, 0) :]
        if "katex-mathml" in wrapper or "ssistive" in wrapper:
            self.hidden += 1
        elif ("none" in wrapper or "hidden" in wrapper) and _HIDDEN.search(wrapper):
            name = re.match(r"<(?:span|div)\b", wrapper)
            if name:
                return self.replace(place + tag, start, name[0] + ">")
        return start

    def read_image(self, start: int, name_end: int) -> int:
        tag = self.tag(name_end)
        if not tag:
            return name_end
        tex = image_tex(tag[0])
        if not tex:
            return tag[1]
        if self._is_copy(tex, start):
            return self.replace(start, tag[1], "")
        return self.formula(start, tag[1], tex)

    def _is_copy(self, tex: str, start: int) -> bool:
        """Is the image at `start` one of the formula that stands directly before it?"""
        near = self.last_tex and start - self.last_end < 300
        return bool(
            near
            and tex.split() == self.last_tex.split()
            and _ONLY_TAGS.fullmatch(self.page, self.last_end, start)
        )

    def read_figure(self, start: int, name_end: int) -> int:
        self.figures += 1
        return name_end

    def read_index(self, start: int, name_end: int) -> int:
        index = index_at(self.page, name_end, None if start == self.index_end else self.done)
        if not index:
            return name_end
        self.index_end = index[1]
        return self.replace(start, index[1], index[0])


_READERS: dict[str, Callable[[_Scan, int, int], int]] = {
    "!--": _Scan.read_comment,
    "script": _Scan.read_script,
    "figure": _Scan.read_figure,
    "style": _Scan.read_style,
    "math": _Scan.read_math,
    "m:math": _Scan.read_math,
    "mml:math": _Scan.read_math,
    "mathml:math": _Scan.read_math,
    "img": _Scan.read_image,
    "sub": _Scan.read_index,
    "sup": _Scan.read_index,
}


def _figure(figure: re.Match[str]) -> str:
    """A figure that holds text is a plain element: extraction drops figures."""
    return f"<div{figure[1]}>{figure[2]}</div" if _TEXT_IN_FIGURE.search(figure[2]) else figure[0]


def _math_tex(attributes: str, inside: str) -> str:
    """The TeX of a `math` element: annotation, alttext, itself where it holds no tag, or converted."""
    return (
        _annotation(inside)
        or attribute("alttext", attributes)
        or attribute("data-latex", attributes)
        or (mathml_to_tex(inside) if "<" in inside else entities.unescape(inside).strip())
    )


def _annotation(inside: str) -> str:
    if "nnotation" not in inside:
        return ""
    for tag in _ANNOTATION.finditer(inside):
        if _ENCODING_TEX.search(tag[1]):
            close = inside.find("</", tag.end())
            text = inside[tag.end() : close if close >= 0 else len(inside)]
            return _CDATA.sub("", text) if "<![" in text else entities.unescape(text).strip()
    return ""


def _is_display(attributes: str) -> bool:
    if "block" not in attributes and "mode" not in attributes:
        return False
    return attribute("display", attributes) == "block" or attribute("mode", attributes) == "display"


def _in_dollars(tex: str, display: bool) -> str:
    """The TeX between dollars as HTML text; as it is where it is text with formulas."""
    if tex.startswith(("$", "\\(", "\\[", "\\begin{")):
        if _IS_TEXT_ALREADY.match(tex):
            return _one_line(entities.escape(tex))
        for opening, closing, is_display in _DELIMITERS:
            if tex.startswith(opening) and tex.endswith(closing) and len(tex) > len(opening + closing):
                inside = tex[len(opening) : -len(closing)]
                if opening in inside or "$" in opening and "$" in inside.replace("\\$", ""):
                    return entities.escape(" ".join(tex.split()))
                tex, display = inside, display or is_display
                break
    written = _one_line(entities.escape(tex))
    if (len(written) - len(written.rstrip("\\"))) % 2:  # or it would escape the dollar
        written += " "
    if not written:
        return ""
    return f" $${written}$$ " if display else f"${written}$"


def _one_line(tex: str) -> str:
    """White space as single spaces; a comment's end of line stays, or it would swallow the rest."""
    if "%" not in tex or "\n" not in tex:
        return " ".join(tex.split())
    lines = [" ".join(line.split()) for line in tex.split("\n")]
    return "".join(line + ("<br>" if _COMMENT.search(line) else " ") for line in lines[:-1]) + lines[-1]
