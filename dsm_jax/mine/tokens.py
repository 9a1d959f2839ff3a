"""A page's text as tokens: what fastText sees, and what budgets count.

For fastText TeX commands and words are separate tokens (`x^2\\frac` is none), with a token of its own before
every formula, digits and other marks dropped, lower-cased, CJK one character a token.
"""

import re

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\\[A-Za-z]+|[{CJK}]|[^\W\d_{CJK}]+")
_ASCII_TOKEN = re.compile(r"\\?[A-Za-z]+")  # the same in ASCII, in half the time
# A "$" opens before and closes after a character that is no space, and a closing one has no digit after it:
# prices and shell variables are no formulas. No alternative looks past the next mark, so the search is linear.
_FORMULA = re.compile(
    r"\$\$[^$]++\$\$"
    r"|\$(?=\S)[^$]{1,1000}+(?<=\S)\$(?!\d)"
    r"|(?<!\\)\\\([^\\]*+(?:\\[^()\[\]][^\\]*+)*+\\\)"
    r"|(?<!\\)\\\[[^\\]*+(?:\\[^()\[\]][^\\]*+)*+\\\]"
)
_CJK_CHARACTER = re.compile(f"[{CJK}]")


def fasttext_tokens(text: str) -> str:
    """The text as fastText sees it: one line, tokens joined by spaces, `\\formula` before every formula."""
    if "$" in text or "\\" in text:
        text = _FORMULA.sub(lambda formula: "\\formula " + formula[0], text)
    tokens = _ASCII_TOKEN if text.isascii() else _TOKEN
    return " ".join(tokens.findall(text)).lower()


def count_words(text: str) -> int:
    """The tokens that budgets count: words between white space, and each CJK character."""
    characters = len(_CJK_CHARACTER.findall(text))
    return len(_CJK_CHARACTER.sub(" ", text).split() if characters else text.split()) + characters
