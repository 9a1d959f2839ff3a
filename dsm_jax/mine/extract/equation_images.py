"""The TeX of images of equations: Wikipedia, WordPress, latex2html, codecogs, mimetex, Canvas, Zhihu, others.

An image is one by its class, its address or a data attribute, or by an alt text in dollars. What looks like
words is no TeX, whatever the image.

Left out on purpose: MathML in attributes (WIRIS), alt texts that describe an equation in words.
"""

import re
from urllib.parse import unquote

from dsm_jax.mine.extract.markup import attribute

_CLASS = re.compile(r"\b(?:tex|latex|math|mwe-math[\w-]*|equation(?:_image)?|texrender)\b")
_ADDRESS = re.compile(r"latex|mimetex|mathtex|codecogs|/math/|equation\?tex=|cht=tx")
_DATA = ("data-latex", "data-tex", "data-equation")
_TEX_IN_ADDRESS = re.compile(
    r"[?&;](?:latex|tex|chl)=([^&]+)|(?:codecogs\.com/[\w./]+|(?:mime|math)tex(?:\.f?cgi)?)\?(.+)",
    re.IGNORECASE | re.DOTALL,
)
_SIZES = "[lL]arge|LARGE|[hH]uge|small|tiny|normalsize"
_DRAWING_OPTIONS = re.compile(
    rf"\s*(?:\\(?:inline|dpi\s*\{{?\d+\}}?|bg_\w+|fn_\w+|{_SIZES})(?![A-Za-z])\s*)+"
)
_MARKED_UP = re.compile(r"[\\^_{}=<>+]")
_WORDS = re.compile(r"[^\W\d_]{4}|[\u3040-\u9fff]")
_DELIMITED = re.compile(
    r"(\$\$?)(?!\d+\b)[^$]+\1|\\\(.+\\\)|\\\[.+\\\]|\\begin\{(\w+\*?)\}.+\\end\{\2\}", re.DOTALL
)
_LOOKED_AT = 4000  # characters of a tag; longer ones hold pictures


def image_tex(attributes: str) -> str:
    """The TeX of an image with these attributes; "" where it is none of an equation."""
    attributes = attributes[:_LOOKED_AT]
    words = attributes.lower()
    delimited = "$" in words or "\\" in words
    if not (delimited or "tex" in words or "math" in words or "equation" in words or "cht=" in words):
        return ""  # nearly all images, and cheap
    is_equation = _is_equation(words)
    if not is_equation and not delimited:
        return ""
    for name in ("data-latex", "data-tex", "data-equation-content", "alt", "title"):
        tex = attribute(name, attributes).removeprefix("LaTeX:").strip()
        if _DELIMITED.fullmatch(tex) or (is_equation and _looks_like_tex(tex)):
            return tex
    return _tex_in_address(attributes) if is_equation else ""


def _is_equation(words: str) -> bool:
    if any(name in words for name in _DATA) or _CLASS.search(attribute("class", words)):
        return True
    return _ADDRESS.search(attribute("src", words) or attribute("data-src", words)) is not None


def _looks_like_tex(text: str) -> bool:
    return bool(text) and (_MARKED_UP.search(text) is not None or not _WORDS.search(text))


def _tex_in_address(attributes: str) -> str:
    found = _TEX_IN_ADDRESS.search(attribute("src", attributes) or attribute("data-src", attributes))
    if not found:
        return ""
    if found[1]:
        return unquote(found[1].replace("+", " ")).strip()
    return _DRAWING_OPTIONS.sub("", unquote(found[2]).replace("&space;", " ")).strip()
