"""What may follow a number in an answer without changing its value: units of a table, and counting nouns.

"5 km", "5km" and "5 apples" are 5; "5x", "5 x", "5 halves", "5 squared", "5 dozen" and "5分之一" are not. Only
units of the table may be glued to the number or have a single letter. Left out on purpose: conversion (5 km
is not 5000 m).
"""

import re
from collections import Counter
from typing import NamedTuple

# One unit a line: its canonical name, then other spellings. Names of four letters and more also take an s.
_TABLE = r"""
km, kilometer, kilometre, kms, 公里, 千米
m, meter, metre, 米
cm, centimeter, centimetre, cms, 厘米
mm, millimeter, millimetre, 毫米
dm, decimeter, decimetre, 分米
mi, mile, 英里
yd, yard, yds
ft, foot, feet
in, inch, inches
kg, kilogram, kgs, kilo, 千克, 公斤
g, gram, 克
mg, milligram, 毫克
t, ton, tonne, 吨
lb, pound, lbs
oz, ounce
L, l, liter, litre, 升
mL, ml, milliliter, millilitre, 毫升
gal, gallon
qt, quart
pt, pint
cup, cups
tbsp, tablespoon
tsp, teaspoon
s, sec, secs, second, 秒, 秒钟
ms, millisecond, 毫秒
min, mins, minute, 分钟, 分
h, hr, hrs, hour, 小时, 时
day, days, 天, 日
week, 周, 星期
month, 月, 个月
year, yr, yrs, 年
dollar, usd
cent, cents
euro, eur
yuan, rmb, 元, 块, 块钱
角
degree, deg, 度
degree celsius, degrees celsius, degree c, degrees c, degreesc, 摄氏度
degree fahrenheit, degrees fahrenheit, degree f, degrees f, degreesf
rad, radian
unit
N, newton
J, joule
kJ, kilojoule
W, watt
kW, kilowatt
V, volt
Pa, pascal
Hz, hertz
mol, mole
K, kelvin
eV, electronvolt
\Omega, ohm
\mu m, micrometer, micron, um
nm, nanometer, nanometre
person, people, 人
mi/h, mph
km/h, kph, kmh
am, AM
pm, PM
公顷
亩
"""
_UNITS = {
    name: line.split(", ")[0]
    for line in _TABLE.strip().split("\n")
    for word in line.split(", ")
    for name in ([word, word + "s"] if re.fullmatch("[a-z ]{4,}", word) else [word])
}
_POWERS = {
    "square": 2,
    "sq": 2,
    "squared": 2,
    "平方": 2,
    "cubic": 3,
    "cubed": 3,
    "立方": 3,
}
_FACTOR = re.compile(
    r"(?:(?P<before>square|sq|cubic)\.?\s+|(?P<chinese>平方|立方))?(?P<name>.+?)"
    r"(?:\s+(?P<after>squared|cubed)|\^?\{?(?P<power>[23])\}?|\^\{?(?P<any>-?\d)\}?)?"
)
_PER = re.compile(r"\s*/\s*|\s+per\s+")
_METRES_PER_SECOND = re.compile(r"(?<![A-Za-z])ms(?=\^\{?-)")
_BY = re.compile(r"\s*(?:\\cdot|\\times|\*)\s*|\s+")

_WORD = r"[A-Za-z\u00c0-\u024f]"
_NOUN = re.compile(rf"{_WORD}{{3,}}(?:[ \-/'’.,]+(?:{_WORD}{{2,}}|[as]\b))*")
_MEASURES = (
    "个只本支枝张条名位件块辆头匹棵株朵座幢栋间套页岁次人元角分米盒箱袋瓶杯碗盘包筐篮桶斤筒束排行列组队班双对副台"
    "艘架颗粒根把题道户家种步"
)
_COUNTED = re.compile(f"[{_MEASURES}][\u4e00-\u9fff]{{0,6}}")  # a measure word, and what is counted
_CHANGES_VALUE = re.compile(
    r"(?i)\b(?:hal(?:f|ves)|thirds?|quarters?"
    r"|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|[a-z]+teen|[a-z]+tie)ths?"
    r"|(?:hundred|thousand|[a-z]+illion)(?:th)?s?|mil|mln|bn|grand|lakhs?|crores?|dozens?|score|gross"
    r"|squared|cubed|power|raised|factorial|root|sqrt|a?(?:sin|cos|tan|cot|csc)h?|sec|arc[a-z]+|log|ln|exp"
    r"|divided|multiplied|added|subtracted|times|plus|minus|over|mod|modulo|choose|double|triple|twice|fold"
    r"|more|less|fewer|greater|than|below|above|remainder|repeating|recurring|negative|infinity|pi"
    r"|approximately|about|roughly|around|perhaps|maybe|probably|possibly|almost|nearly|guess|think|unsure|sure"
    r"|and|or|to|not|nor|but|is|either|else|versus|vs|wrong|mille?|base|inverse|reciprocal"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[a-z]+teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b"
    r"|\b(?:square|cubic|sq)$"
    r"|[半倍成折之百千万亿打零一二三四五六七八九十两负多少余几来方根加减乘除或]"
)

_CHANGES_COUNT = re.compile("[半多余几或又以左百千万亿一二三四五六七八九十两]|^.[成分倍]|比|次[方幂]")


class Unit(NamedTuple):
    """`free`: of a gold answer, it may be left out; not where it may be a variable (2m)."""

    name: str
    free: bool
    listed: bool = False


def read_unit(text: str) -> Unit | None:
    """The unit in `text`, what follows a number with its leading space; None where it is something else."""
    bare = text.strip(" .\t\r\n")
    if not bare:
        return Unit("", True)
    listed = _listed(bare)
    if listed == "K" and not text[0].isspace():  # 5K is 5000
        return None
    if listed:  # a gold "2m" is more often a product than two metres
        return Unit(listed, len(bare) > 1 or text != bare or not bare.isascii(), True)
    if _COUNTED.fullmatch(bare):
        return None if _CHANGES_COUNT.search(bare) else Unit(bare, True)
    if _CHANGES_VALUE.search(bare):
        return None
    if text[0].isspace() and _NOUN.fullmatch(bare):
        return Unit(bare.lower().rstrip("s"), True)
    return None


def _listed(text: str) -> str | None:
    """Units of the table with their powers, in canonical form: "m^2", "km h^-1" for km/h and "km h^{-1}"; else None."""
    powers: Counter[str] = Counter()
    for place, part in enumerate(_PER.split(_METRES_PER_SECOND.sub("m s", text), maxsplit=3)):
        factors = [_factor(part)]
        if factors == [None]:
            factors = [_factor(each) for each in _BY.split(part)]
        for factor in factors:
            if factor is None:
                return None
            for name, power in _UNIT_POWERS.get(factor[0], {factor[0]: 1}).items():
                powers[name] += power * (-factor[1] if place else factor[1])
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items()))


_UNIT_POWERS = {"mi/h": {"mi": 1, "h": -1}, "km/h": {"km": 1, "h": -1}}


def _factor(text: str) -> tuple[str, int] | None:
    match = _FACTOR.fullmatch(text)
    name = match and (_UNITS.get(match["name"]) or _long(match["name"]))
    return (name, _power(match)) if match and name else None


def _long(name: str) -> str | None:
    return _UNITS.get(name.lower()) if len(name) > 1 else None


def _power(match: re.Match[str]) -> int:
    word = match["before"] or match["chinese"] or match["after"]
    return _POWERS[word] if word else int(match["power"] or match["any"] or 1)
