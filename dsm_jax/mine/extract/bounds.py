"""Pages that an HTML parser cannot take in time and memory proportional to their length, told by their tags.

Three things cost more: elements nested in hundreds of others (main-content removal walks up from each),
formatting elements left open (each new paragraph gets a copy of all of them), and tags with thousands of
attributes (each one is compared with the others). Short pages pass, whatever they are.

The options of a form, whose cost grows with the square of their number, are taken out of longer pages: no text has them.

Left out on purpose: what a parser would make of wrong nesting; the numbers here are estimates.
"""

import html as entities
import re

_MANY_TAGS = 2000  # fewer cost little, whatever they are
_LONG = 250_000  # characters, of a page whose attributes are counted
_WORK = (50_000, 64)  # open elements summed up over the tags: so many, and so many for each tag more
_FORMATTING_WORK = 8  # an open formatting element counts as so many others

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_ATTRIBUTE = r"""[\s/]*+[^\s=>/]++(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"']*+))?+"""
_ATTRIBUTES = re.compile(rf"<[a-zA-Z][^\s/>]*+((?:{_ATTRIBUTE})*+)")
_ONE_ATTRIBUTE = re.compile(_ATTRIBUTE)
_MANY_ATTRIBUTES = 1000
_EMPTY = "area base br col embed hr img input link meta source track wbr"
_CLOSED_BY_OTHERS = (
    "html head body p li dt dd option optgroup tr td th thead tbody tfoot colgroup caption rp rt"
)
_NEVER_OPEN = frozenset(f"{_EMPTY} {_CLOSED_BY_OTHERS}".split())
_FORMATTING = frozenset(re.findall(r"\w+", "a b big code em font i nobr s small strike strong tt u"))
_OPTION_TAG = re.compile(r"</?opt(?:ion|group)\b[^<>]*>", re.IGNORECASE)
_BREAKS = re.compile(
    r"</?(?:p|div|br|li|tr|h[1-6]|table|ul|ol|pre|section|article|blockquote)\b[^<>]*>", re.IGNORECASE
)
_ANY_TAG = re.compile(r"<[/!?a-zA-Z][^<>]*>")


def parses_in_linear_time(html: str) -> bool:
    """Will a parser take the page, whose scripts and comments are gone, in time proportional to its length?"""
    if len(html) > _LONG and any(map(_has_many_attributes, _ATTRIBUTES.finditer(html))):
        return False
    return html.count("<") < _MANY_TAGS or _open_elements_are_few(html)


def without_options(html: str) -> str:
    """The page without the tags of a form's options; short pages as they are."""
    return _OPTION_TAG.sub(" ", html) if html.count("<") >= _MANY_TAGS else html


def _open_elements_are_few(html: str) -> bool:
    work = open_cost = tags = 0
    opened: dict[str, int] = {}
    for closing, written in _TAG.findall(html):
        name = written.lower()
        cost = 0 if name in _NEVER_OPEN else _FORMATTING_WORK if name in _FORMATTING else 1
        if not closing:
            tags += 1
            work += open_cost
        if cost and not closing:
            opened[name] = opened.get(name, 0) + 1
            open_cost += cost
        elif cost and opened.get(name):
            opened[name] -= 1
            open_cost -= cost
    return work <= _WORK[0] + _WORK[1] * tags


def _has_many_attributes(tag: re.Match[str]) -> bool:
    return len(tag[1]) > 2 * _MANY_ATTRIBUTES and len(_ONE_ATTRIBUTE.findall(tag[1])) > _MANY_ATTRIBUTES


def text_between_tags(html: str) -> str:
    """The page's text without a parser: tags go, those that end a line become line breaks."""
    lines = entities.unescape(_ANY_TAG.sub("", _BREAKS.sub("\n", html.replace("\n", " ")))).split("\n")
    return "\n".join(filter(None, (" ".join(line.split()) for line in lines)))
