"""Answers in words: numbers written out in English and Chinese, yes and no, the empty set; text compared as text.

Left out on purpose: synonyms, paraphrases, spelling mistakes.
"""

from __future__ import annotations

import re
from fractions import Fraction

from dsm_jax.evaluate.grader.normalise import as_text

NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(NUMBER_WORDS)} | {
    word: 10 * ten for ten, word in enumerate(_TENS, 2)
}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
          "ninth": 9, "tenth": 10, "twelfth": 12}  # fmt: skip
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_POWERS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]+")
_NAME = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_ARTICLE = re.compile(
    r"^(\s*(?:\\text\s*\{\s*)?)(?:an?|the)\s+(?=[A-Za-z]{3})(?!(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt))",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[\W\d_]*[A-Za-z]{3,}[A-Za-z\s,.'-]*")
_SAME_WORDS = [
    {"nosolution", "nosolutions", "norealsolution", "norealsolutions", "none", "emptyset", "varnothing", "noneexist", "无解", "方程无解", "空集", "{}"},
    {"充分不必要条件", "充分而不必要条件", "充分非必要条件", "充分不必要"},
    {"必要不充分条件", "必要而不充分条件", "必要非充分条件", "必要不充分"},
    {"既不充分也不必要条件", "既不充分又不必要条件", "既非充分也非必要条件", "既不充分也不必要"},
    {"充要条件", "充分必要条件", "充要"},
    {"undefined", "doesnotexist", "dne", "不存在", "无意义"},
    {"yes", "是"},
    {"no", "否", "不是"},
    {"true", "正确", "对"},
    {"false", "错误", "错"},
    {"infinity", "infty", "oo", "inf", "+infty", "无穷", "无穷大", "正无穷"},
    {"allrealnumbers", "mathbb{R}", "allreals", "realnumbers", "全体实数", "(-infty,infty)", "(-infty,+infty)"},
]  # fmt: skip


def same_text(answer: str, gold: str, *, cased: bool = False) -> bool:
    """Whether both are the same text; the case of words is free, that of single letters and formulas is not."""
    one, other = as_text(answer), as_text(gold)
    if not one or not other:
        return False
    if one == other:
        return True
    if cased and not (_is_wordy(answer) or _is_wordy(gold)):
        return False
    one, other = _in_lower_case(answer), _in_lower_case(gold)
    return one == other or any(one in names and other in names for names in _SAME_WORDS)


def text_key(answer: str) -> str:
    """The text without what does not matter: spaces, typesetting, the case of words."""
    return _in_lower_case(answer) if _is_wordy(answer) else as_text(answer)


def _in_lower_case(answer: str) -> str:
    return as_text(_ORDINAL.sub("", _ARTICLE.sub(r"\1", _NAME.sub(_lower, answer))))


def _lower(match: re.Match[str]) -> str:
    """What has capitals inside, as genes and formulas do, stays."""
    word = match[0]
    return word.lower() if word.isupper() or word.istitle() else word


def _is_wordy(text: str) -> bool:
    return "\\text" in text or bool(_SENTENCE.fullmatch(text))


def number_in_words(text: str) -> Fraction | None:
    """A number written out: "twenty-one", "two thirds", "负三", "二分之一", "百分之五十"; None for other text."""
    bare = as_text(text)
    if bare.isascii():
        return _english(re.sub(r"\\text\{([^{}]*)\}", r"\1", text))
    return _chinese(bare)


def _english(text: str) -> Fraction | None:
    words = [
        word
        for word in re.split(r"[\s-]+", text.lower().strip(" ."))
        if word and word not in ("and", "a", "an")
    ]
    negative = bool(words) and words[0] in ("negative", "minus")
    words = words[negative:]
    if not words or len(words) > 20:
        return None
    below = _PARTS.get(words[-1].removesuffix("s") if words[-1] != "halves" else "halves")
    value = _count(words[:-1]) if below else _count(words)
    if below and len(words) == 1:
        value = 1
    return None if value is None else Fraction(-value if negative else value, below or 1)


def _count(words: list[str]) -> int | None:
    total = part = 0
    for word in words:
        if word in _SMALL:
            part += _SMALL[word]
        elif word == "hundred":
            part = max(1, part) * 100
        elif word in _LARGE:
            total, part = total + max(1, part) * _LARGE[word], 0
        else:
            return None
    return total + part if words else None


def _chinese(text: str) -> Fraction | None:
    if text in ("半", "一半"):
        return Fraction(1, 2)
    if text.startswith("负"):
        value = _chinese(text[1:])
        return None if value is None else -value
    if "又" in text:
        whole, _, rest = text.partition("又")
        parts = _chinese(whole), _chinese(rest)
        return None if None in parts else parts[0] + parts[1]  # type: ignore[operator]
    if "分之" in text:
        below, _, above = text.partition("分之")
        parts = _chinese_decimal(below), _chinese_decimal(above)
        return parts[1] / parts[0] if parts[0] and parts[1] is not None else None
    return _chinese_decimal(text)


def _chinese_decimal(text: str) -> Fraction | None:
    if re.fullmatch(r"\d{1,30}(\.\d{1,30})?", text):
        return Fraction(text)
    whole, point, decimals = text.partition("点")
    value = _chinese_integer(whole)
    if value is None or (
        point and not (decimals and all(c in _DIGITS for c in decimals) and len(decimals) < 30)
    ):
        return None
    digits = "".join(str(_DIGITS[c]) for c in decimals)
    return value + (Fraction(int(digits), 10 ** len(digits)) if digits else 0)


def _chinese_integer(text: str) -> Fraction | None:
    if not _CHINESE.fullmatch(text) or len(text) > 30:
        return None
    if len(text) > 1 and all(c in _DIGITS for c in text):  # 二〇二四
        return Fraction("".join(str(_DIGITS[c]) for c in text))
    total = part = digit = 0
    for c in text:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _POWERS:
            part, digit = part + max(1, digit) * _POWERS[c], 0
        else:
            total, part, digit = (total + part + digit) * _MYRIADS[c], 0, 0
    return Fraction(total + part + digit)
