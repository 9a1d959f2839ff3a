"""Which `sub` and `sup` elements are mathematics: x<sub>1</sub>, 10<sup>23</sup>, (a+b)<sup>n</sup>.

A base is a single letter, a number of up to three digits, a bracket without words, or another index; then the
text has x_1 and 10^{23}. Anything else may be a footnote mark, an ordinal, a chemical formula or a unit (CO2,
km2), and stays as it is.

Left out on purpose: indices with markup of their own but for italic and bold ones.
"""

import html as entities
import re

_ELEMENT = re.compile(
    r"[^<>]*+>\s*(?:<(?:i|em|var|b)>)?([^<]{1,16})(?:</(?:i|em|var|b)>)?\s*</su[bp]\s*>", re.IGNORECASE
)
_LETTER = r"[A-Za-z\u0391-\u03c9]|&(?:[aA]lpha|[bB]eta|[gG]amma|[dD]elta|epsilon|zeta|eta|[tT]heta|kappa"
_LETTER += r"|[lL]ambda|mu|nu|xi|[pP]i|rho|[sS]igma|tau|[pP]hi|chi|[pP]si|[oO]mega);"
_BASE = re.compile(
    rf"(?:(?<![\w&;#.,$'\u2019])(?:{_LETTER}|(?P<number>\d{{1,3}}(?:\.\d{{1,4}})?))"
    r"|\((?P<inside>[^()]{1,40})\)|\|)(?:</(?:i|em|var|b|span)>)*\Z"
)
_TEXT = re.compile(r"[A-Za-z0-9\u0391-\u03c9\u221e+\-\u2212*/,.()'\u2032= ]{1,12}")
_WORD_OF_FOUR, _WORD_OF_THREE = re.compile("[A-Za-z]{4}"), re.compile("[A-Za-z]{3}")
_ORDINALS = frozenset(["st", "nd", "rd", "th"])
_ORDINALS_OF_NUMBERS = _ORDINALS | frozenset(["er", "re", "e", "o", "a", "eme", "te", "de", "c", "f"])
_LOOKED_AT = 60  # characters before an index


def index_at(page: str, name_end: int, base_from: int | None) -> tuple[str, int] | None:
    """(index as escaped TeX, end of the element) of a `sub` or `sup` whose name ends at name_end, or None.

    Its base stands between `base_from` and the element; None: another index stands there.
    """
    element = _ELEMENT.match(page, name_end)
    if not element:
        return None
    text = entities.unescape(element[1]).strip()
    if not _TEXT.fullmatch(text) or _WORD_OF_FOUR.search(text):
        return None
    start = name_end - len("<sub")
    if base_from is not None and not _has_base(page[max(base_from, start - _LOOKED_AT) : start], text):
        return None
    text = entities.escape(text.replace("\u2212", "-"))
    mark = "^" if page[name_end - 1] in "pP" else "_"
    return mark + (text if len(text) == 1 else f"{{{text}}}"), element.end()


def _has_base(before: str, text: str) -> bool:
    base = _BASE.search(before)
    if not base or (base["inside"] and _WORD_OF_THREE.search(base["inside"])):
        return False
    return text.lower() not in (_ORDINALS_OF_NUMBERS if base["number"] else _ORDINALS)
