"""HTML to text that keeps the mathematics.

A pass over the raw HTML turns what carries TeX (MathML with an alttext or a TeX annotation, `math/tex`
scripts, alt texts of equation images) into `$...$`; resiliparse then takes the main content. Main-content
removal eats proofs written as lists, so a page that loses more than a fifth of its formula marks is taken as
full text.

Left out on purpose: MathML without any TeX (its symbols stay as plain text), AsciiMath, language detection.
"""

import html as html_entities
import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

MIN_FORMULAS_KEPT = 0.8  # of a page's "$" marks, or the full text is taken

_MATHML = re.compile(r"<math\b([^>]*)>(.*?)</math\s*>", re.DOTALL | re.IGNORECASE)
_ALTTEXT = re.compile(r"""\balttext\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_ANNOTATION = re.compile(
    r"""<annotation\b[^>]*encoding\s*=\s*["'](?:application/x-(?:la)?tex|tex|latex)["'][^>]*>(.*?)</annotation\s*>""",
    re.DOTALL | re.IGNORECASE,
)
_TEX_SCRIPT = re.compile(
    r"""<script\b([^>]*\btype\s*=\s*["']?math/tex[^>]*)>(.*?)</script\s*>""", re.DOTALL | re.IGNORECASE
)
_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_IMAGE_ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]+)"|'([^']+)')""", re.IGNORECASE)
_IMAGE_IS_TEX = re.compile(
    r"""\bclass\s*=\s*["'][^"']*\b(?:tex|latex|math|mwe-math[\w-]*|equation)\b|\bsrc\s*=\s*["'][^"']*"""
    r"""(?:latex|mimetex|mathtex|codecogs|/math/)""",
    re.IGNORECASE,
)
_RENDERED = ".katex-html, .MathJax_Preview, .MathJax, .MathJax_Display, .MathJax_SVG, mjx-container"


def decode(body: bytes, charset: str | None) -> str:
    """Page bytes to text: the declared charset, else the page's own or the detected one; never fails."""
    encoding = (charset and map_encoding_to_html5(charset, fallback_utf8=False)) or detect_encoding(
        body, from_html_meta=True
    )
    return bytes_to_str(body, encoding or "utf-8", errors="replace")


def page_text(page: str) -> str:
    """Main text of an HTML page, formulas as `$TeX$` (`$$TeX$$` for displayed ones)."""
    marked = mark_formulas(page)
    tree = HTMLTree.parse(marked)
    if marked != page and ("katex-html" in marked or "MathJax" in marked or "mjx-container" in marked):
        for node in list(tree.body.query_selector_all(_RENDERED)) if tree.body else []:
            if node.parent is not None:
                node.parent.remove_child(node)
    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    if _formula_marks(text) < MIN_FORMULAS_KEPT * _formula_marks(
        marked
    ):  # the HTML's count is an upper bound
        whole = extract_plain_text(tree, main_content=False, alt_texts=False)
        if _formula_marks(text) < MIN_FORMULAS_KEPT * _formula_marks(whole):
            text = whole
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def _formula_marks(text: str) -> int:
    return text.count("$") + text.count("\\(") + text.count("\\[")


def mark_formulas(page: str) -> str:
    """The page's HTML with every formula that carries TeX replaced by `$TeX$`, escaped as text."""
    page = _MATHML.sub(_mathml, page)
    page = _TEX_SCRIPT.sub(_tex_script, page)
    return _IMAGE.sub(_image, page)


def _mathml(match: re.Match[str]) -> str:
    attributes, inside = match.groups()
    annotation, alttext = _ANNOTATION.search(inside), _ALTTEXT.search(attributes)
    if alttext and (alttext[1] or alttext[2]):
        tex = alttext[1] or alttext[2]
    elif annotation:
        tex = annotation[1]
    else:
        return match[0]
    return _dollars(tex, display='display="block"' in attributes)


def _tex_script(match: re.Match[str]) -> str:
    return _dollars(html_entities.escape(match[2], quote=False), display="mode=display" in match[1])


def _image(match: re.Match[str]) -> str:
    alt = _IMAGE_ALT.search(match[0])
    if not alt or not _IMAGE_IS_TEX.search(match[0]):
        return match[0]
    return _dollars((alt[1] or alt[2]).strip().strip("$"), display=False)


def _dollars(escaped_tex: str, display: bool) -> str:
    tex = " ".join(escaped_tex.replace("<", "&lt;").replace(">", "&gt;").split())
    if not tex:
        return ""
    return f" $${tex}$$ " if display else f"${tex}$"
