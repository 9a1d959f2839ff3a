"""HTML to text that keeps the mathematics.

formulas.py turns what carries mathematics into `$TeX$` in the raw HTML; resiliparse then parses it and takes
the main content. Main-content removal eats proofs written as lists: where under four fifths of a page's
formula marks survive, the full text is taken. Code keeps its lines and spaces; a table keeps its rows as
lines, with tabs between the cells. A page that no parser takes in time proportional to its length (bounds.py)
is taken as what is between its tags.

Left out on purpose: alt texts of ordinary images, forms, what a page hides.
"""

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from dsm_jax.mine.extract.bounds import parses_in_linear_time, text_between_tags, without_options
from dsm_jax.mine.extract.formulas import mark_formulas, scan

__all__ = ["decode", "mark_formulas", "page_text"]

MIN_FORMULAS_KEPT = 0.8  # of a page's formula marks, or the full text is taken
_MARKS = {
    "$": re.compile(r"\$(?!\d)"),  # before a digit it may be a price
    "\\": re.compile(r"\\(?:[(\[]|begin\{)"),
}
# LaTeXML puts a class on every cell and word; telling them from boilerplate took two fifths of a page's time.
_CLASSES_OF_LATEXML = re.compile(
    r' class="ltx_(?:td|tr|th|tbody|eqn|equation|align|p|text|emph)(?=[ _"])[^"]*"'
)
_WIDER = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}  # what is meant by the names
_NOT_ASCII = ("utf-16-le", "utf-16-be", "iso2022_jp")  # in which ASCII bytes may stand for something else
_NAMES_CHARSET = re.compile(rb"<meta[^>]+charset", re.IGNORECASE)

# What KaTeX and MathJax draw: beside a script with its source, and beside a hidden element with its source.
_DRAWN_FOR_SCRIPTS = [".MathJax_Preview", ".MathJax", ".MathJax_Display", ".MathJax_SVG", ".mjx-chtml"]
_DRAWN_FOR_HIDDEN = [
    ".katex-mathml + .katex-html",
    "mjx-container > mjx-math",
    ".MathJax > nobr",
    ".mjx-math",
]
# An element with one sign or one CJK character: resiliparse takes it for a bullet and drops it from the main content.
_ALONE = re.compile(
    r">\s*([\u2010-\u2015\u2190-\u22ff\u27c0-\u27ef\u2980-\u2aff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])\s*(?=</)"
)
_JOINER = "\u2060"  # no sign: with it there are two characters


def decode(body: bytes, charset: str | None) -> str:
    """Page bytes to text; never fails.

    UTF-8 where the bytes are that; then the declared charset, the page's own and the detected one: the first
    that decodes every byte, else the one that decodes most.
    """
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace")
    declared = map_encoding_to_html5(charset.strip(" \"';,"), fallback_utf8=False) if charset else None
    if declared not in _NOT_ASCII:
        text = body.decode("utf-8", "replace")
        if 4 * text.count("\ufffd") <= len(body) - len(
            text
        ):  # broken characters against whole ones' further bytes
            return text.removeprefix("\ufeff")
    best, fewest = "", len(body) + 1
    for encoding in _candidates(body, declared):
        text = body.decode(_WIDER.get(encoding, encoding), "replace")
        broken = text.count("\ufffd")
        if broken < fewest:
            best, fewest = text, broken
        if not broken:
            break
    return best


def _candidates(body: bytes, declared: str | None) -> list[str]:
    """Encodings, the likeliest first. Servers that know nothing of a page say ISO-8859-1 (in HTML: cp1252)."""
    own, detected = detect_encoding(body, from_html_meta=True), detect_encoding(body)
    if declared == "cp1252":
        says_more = _NAMES_CHARSET.search(body[:1024]) or detected in (
            "gb18030",
            "big5",
            "shift_jis",
            "euc_jp",
            "euc_kr",
        )
        named = [own, declared] if says_more else [declared, own]
    else:
        named = [declared, own]
    return [encoding for encoding in (*named, detected, "cp1252", "utf-8") if encoding]


def page_text(page: str) -> str:
    """Main text of an HTML page, formulas as `$TeX$` (`$$TeX$$` for displayed ones)."""
    marked = scan(page)
    html = marked.html
    if marked.formulas and 'class="ltx_' in html:
        html = _CLASSES_OF_LATEXML.sub("", html)
    html = without_options(html)
    if not parses_in_linear_time(html):
        return _tidy(text_between_tags(html))
    tree = HTMLTree.parse(html if html.isascii() else _ALONE.sub(rf">\1{_JOINER}", html))
    drawn = (_DRAWN_FOR_SCRIPTS if marked.scripts else []) + (_DRAWN_FOR_HIDDEN if marked.hidden else [])
    text = extract_plain_text(tree, main_content=True, alt_texts=False, skip_elements=drawn)
    if _formula_marks(text) < MIN_FORMULAS_KEPT * _formula_marks(html):  # the HTML's count is an upper bound
        whole = extract_plain_text(tree, main_content=False, alt_texts=False, skip_elements=drawn)
        if _formula_marks(text) < MIN_FORMULAS_KEPT * _formula_marks(whole):
            text = whole
    return _tidy(text)


def _tidy(text: str) -> str:
    return "\n".join(map(str.rstrip, text.replace(_JOINER, "").splitlines())).strip()


def _formula_marks(text: str) -> int:
    """How many signs of formulas there are in a text."""
    return sum(len(marks.findall(text)) for sign, marks in _MARKS.items() if sign in text)
