"""Answers to generated problems from the words of their questions alone: none of the generator's code.

Each family has a reader of its own: it looks for words, takes the numbers in their order and counts, searches or
simulates, by another route than the generator's where there is one. A question that fits no reader raises.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import count, permutations, product
from math import comb, gcd, isqrt, lcm, perm

# Sentences of a story by the operation that they tell; each with the number in a group.
TURNS = {
    "en": {
        r"(?:buys|gets|finds) (\d+) more|(\d+) (?:people )?get on|[Aa]dd (\d+)|brings it (\d+) more|Increase it by (\d+)": "+",
        r"gives away (\d+)|(\d+) (?:people )?get off|sells (\d+)|loses (\d+)|[Tt]ake away (\d+)|Customers buy (\d+) of"
        r"|Subtract (\d+) from": "-",
        r"(?:has|makes it|Make it) (\d+) times as|[Mm]ultiply by (\d+)": "*",
        r"keeps one of (\d+) equal|makes (\d+) equal parts and keeps one|into (\d+) equal piles and keeps one pile"
        r"|[Dd]ivide by (\d+)|Split it into (\d+) equal parts and take one": "/",
    },
    "zh": {
        r"又买了(\d+)|又得到(\d+)|又找到(\d+)|运来(\d+)|送来(\d+)|上来(\d+)|加上(\d+)|把它增加(\d+)": "+",
        r"送出(\d+)|卖出(\d+)|弄丢了(\d+)|下去(\d+)|减去(\d+)|买走(\d+)": "-",
        r"刚才的(\d+)倍|乘以(\d+)|扩大到(\d+)倍": "*",
        r"平均分成(\d+)份，(?:只留一份|店里只留下其中一份)|除以(\d+)|平均分成(\d+)份取一份": "/",
    },
}


def solve(family: str, question: str, language: str) -> Fraction:
    """The answer to a question of a family."""
    numbers = [Fraction(token) for token in re.findall(r"\d+/\d+|\d+", question)]
    return Fraction(READERS[family](question, numbers, language))


def has(question: str, pattern: str) -> bool:
    return re.search(pattern, question) is not None


def least(wanted: Callable[[int], bool], start: int = 1) -> int:
    return next(i for i in count(start) if wanted(i))


def evaluate(expression: str, **variables: Fraction) -> Fraction:
    """An expression or equation of the generator's, exactly."""
    exact = re.sub(r"\d+", lambda match: f"Fraction({match.group()})", expression.replace("^", "**"))
    return eval(exact.replace("mod", "%"), {"Fraction": Fraction, **FUNCTIONS, **variables})  # our own text


FUNCTIONS = {
    "sqrt": lambda a: Fraction(isqrt(int(a))) if isqrt(int(a)) ** 2 == a else None,
    "gcd": lambda a, b: Fraction(gcd(int(a), int(b))),
    "lcm": lambda a, b: Fraction(lcm(int(a), int(b))),
    "power": lambda a, b: a**b,
    "max": max,
}


def bare(question: str) -> str:
    """The longest stretch of bare mathematics."""
    found = re.findall(r"(?:[\dx(y][\dxy()+*/^= -]*[\dxy)])", question)
    return max(found, key=len).strip()


def equations(question: str) -> list[Callable[..., Fraction]]:
    """Left side less right side of each equation, as functions of x (and y)."""
    sides = [one.split("=") for one in re.findall(r"[\dxy()+*^-]+=[\dxy()+*^-]+", question)]
    return [
        lambda x, y=Fraction(0), left=left, right=right: evaluate(left, x=x, y=y) - evaluate(right, x=x, y=y)
        for left, right in sides
    ]


def pairs(numbers: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(numbers[::2], numbers[1::2], strict=True)), Fraction(0))


def chains(q, n, language):
    value = n[0]
    turns = [(match, op) for pattern, op in TURNS[language].items() for match in re.finditer(pattern, q)]
    assert len(turns) == len(n) - 1, q
    for match, op in sorted(turns, key=lambda turn: turn[0].start()):
        b = Fraction(next(group for group in match.groups() if group))
        value = {"+": value + b, "-": value - b, "*": value * b, "/": value / b}[op]
    return value


def calculations(q, n, language):
    return evaluate(bare(q))


def fractions(q, n, language):
    if has(q, r"earn|work|pays .* earns|挣了|报酬|给了"):
        return n[0] * (1 - n[1]) * (1 - n[2]) + n[3]
    if has(q, r"rest|left|余下"):
        return n[0] * (1 - n[1]) * (1 - n[2])
    if has(q, r"[-+*/](?:\d|\()|\)[-+*/]") and has(q, r"\d[-+*]|\)"):
        return evaluate(bare(q))
    whole, part = sorted(n, key=lambda one: -one.denominator)[::-1]
    return whole * part


def linear(q, n, language):
    if "=" in q:
        (f,) = equations(q)
        return -f(Fraction(0)) / (f(Fraction(1)) - f(Fraction(0)))
    if len(n) == 4:  # savings of two people
        return least(lambda weeks: n[0] + n[1] * weeks == n[2] + n[3] * weeks)
    if len(n) == 5:
        assert has(q, r"adds .*(?:away|subtracts)|加上.*减去"), q
        return least(lambda x: ((x + n[0]) * n[1] - n[2]) / n[3] == n[4])
    sign = -1 if has(q, r"away|subtracts|减去") else 1
    assert sign == -1 or has(q, r"adds|加上"), q
    return least(lambda x: x * n[0] + sign * n[1] == n[2])


def rates(q, n, language):
    if has(q, r"towards|相遇"):
        alone = n[1] * n[2] if len(n) == 4 else 0
        together = n[1] + n[3] if len(n) == 4 else n[1] + n[2]
        return least(lambda hours: alone + together * hours == n[0])
    if has(q, r"change|back|找"):
        return n[-1] - pairs(n[:-1])
    return n[1] / n[0] * n[2] if len(n) == 3 else pairs(n)


def percentages(q, n, language):
    percents = [Fraction(int(one), 100) for one in re.findall(r"(\d+)%", q)]
    amounts = [Fraction(one) for one in re.findall(r"\d+(?![\d%])", q)]
    if len(amounts) == 2:
        assert has(q, r"off|discount|优惠|减去") and has(q, "tax|税"), q
        return amounts[0] * amounts[1] * (1 - percents[0]) * (1 + percents[1])
    (a,) = amounts
    if has(q, "come by bus|bus brings|some coins|saved coins|coins that|校车|存款"):
        return a / percents[0]
    if has(q, "girls|rent|女生|房租"):
        return a * (1 - percents[0]) * percents[1]
    if len(percents) == 2:
        assert has(q, "(goes up|rises|raises).*(goes down|falls|cut)|(涨|提高).*(降)"), q
        return a * (1 + percents[0]) * (1 - percents[1])
    if has(q, r"decreased|Lower|off|goes down|falls|left|still have|remain|减少|降|剩|还有"):
        return a * (1 - percents[0])
    if has(q, r"increased|Raise|goes up|rises|grows|grown|more|higher|增加|涨|比去年多"):
        return a * (1 + percents[0])
    return a * percents[0]


def comparisons(q, n, language):
    if "/" in q:
        return max(n)
    if len(n) == 6:
        return n[0] * n[1] + n[2] - n[3] * n[4] - n[5]
    return pairs(n[: len(n) // 2]) - pairs(n[len(n) // 2 :])


def systems(q, n, language):
    if "=" in q:
        f, g = equations(q)
        zero, one = Fraction(0), Fraction(1)
        (c, a, b), (r, p, s) = (
            (-h(zero, zero), h(one, zero) - h(zero, zero), h(zero, one) - h(zero, zero)) for h in (f, g)
        )
        x, y = (c * s - b * r) / (a * s - b * p), (a * r - c * p) / (a * s - b * p)
        assert f(x, y) == g(x, y) == 0
        return x
    if has(q, "legs|脚"):
        return least(lambda rabbits: 4 * rabbits + 2 * (n[0] - rabbits) == n[1], 0)
    if len(n) == 4:
        return least(lambda adults: adults * n[1] + (n[0] - adults) * n[2] == n[3], 0)
    if len(n) == 6:
        return least(lambda pen: n[3] * pen + n[4] * (n[2] - n[0] * pen) / n[1] == n[5])
    larger = least(lambda x: x - (n[0] - x) == n[1])
    return larger if asks_for_larger(q, language) else n[0] - larger


def asks_for_larger(q: str, language: str) -> bool:
    *_, ask = [one for one in re.split(r"[.?？。] ?", q) if one]
    if has(q, "numbers|个数|两数"):
        return has(ask, "larger|大")
    name = r"([A-Z][a-z]+)" if language == "en" else r"(小.)"
    rich = r"(小.)的?比小.的?多|比(小.)少"
    if language == "en":
        rich = rf"{name} has \d+ more than|more for {name} than|fewer than {name}"
    groups = re.search(rich, q).groups()
    people = [one for one in re.findall(name, ask) if one not in ("How", "Find")]
    return people == [next(group for group in groups if group)]


def divisibility(q, n, language):
    a, b = int(n[0]), int(n[1])
    if "*" in q:
        return evaluate(re.search(r"\d+\*\d+\+\d+", q).group()) % n[3]
    if has(q, "greatest common|divides both|最大公约数"):
        return max(i for i in range(1, a + 1) if a % i == b % i == 0)
    if has(q, "bag|袋") and len(n) == 2:
        bags = max(i for i in range(1, a + 1) if a % i == b % i == 0)
        return (
            Fraction(a + b, bags) if has(q, "things|together does each|每袋.*多少件|总件数|每袋里") else bags
        )
    if len(n) == 4:
        return least(lambda i: all(i % int(one) == n[3] and i >= one for one in n[:3]))
    if has(q, "least common|both .* divide|最小公倍数|bus|bell|车|铃"):
        return least(lambda i: all(i * max(n) % one == 0 for one in n)) * max(n)
    if has(q, "left over|stay outside|还剩|剩下"):
        return a - b * max(i for i in range(a + 1) if i * b <= a)
    if has(q, "needed|does it take|enough|至少"):
        return least(lambda boxes: boxes * b >= a)
    assert has(q, "full|装满"), q
    return max(i for i in range(a + 1) if i * b <= a)


def sequences(q, n, language):
    if has(q, "sequence|same amount|数列"):
        a, b, c = map(int, re.search(r"(\d+)[,，] ?(\d+)[,，] ?(\d+)", q).groups())
        place = int(re.search(r"number (\d+)|第 (\d+)", q).group(0).split()[-1])
        assert b - a == c - b
        return a + sum([b - a] * (place - 1))
    if has(q, "times|倍"):
        days = [n[0] * n[1] ** i for i in range(int(n[2]) + 1)]
        return days[-1] if has(q, "cells|细胞") else sum(days[:-1])
    rows = [n[0] + n[1] * i for i in range(int(n[2]))]
    if has(q, "last row|the last day|最后"):
        return rows[-1]
    return sum(rows) * (n[3] if len(n) == 4 else 1)


def geometry(q, n, language):
    if has(q, "path|小路"):
        ring = 2 * n[2] * (n[0] + n[1]) + 4 * n[2] ** 2
        return ring * (n[3] if len(n) == 4 else 1)
    if has(q, "pond|水池"):
        return n[0] * n[1] - n[2] * n[3]
    if has(q, "tank|水箱"):
        return n[0] * n[1] * n[2] / n[3]
    if has(q, "volume|体积"):
        return n[0] * n[1] * n[2]
    if has(q, "[Tt]riangle|三角形"):
        return n[0] * n[1] / 2
    if len(n) == 3:
        return (n[0] + n[1] + n[0] + n[1]) * n[2]
    if has(q, "other side|side of|wide, in|perimeter of|wire|周长|铁丝") and not has(q, "around"):
        return least(lambda width: 2 * (n[1] + width) == n[0])
    return n[0] + n[1] + n[0] + n[1]


def averages(q, n, language):
    if has(q, "pages|页"):
        return sum(n) / len(n)
    if has(q, "captain|队长"):
        scores = [n[1]] * int(n[0]) + [n[3]] * int(n[2])
        return (sum(scores) - n[4]) / (len(scores) - 1)
    if has(q, "team|队"):
        scores = [n[1]] * int(n[0]) + [n[3]] * int(n[2])
        return sum(scores) / len(scores)
    if has(q, "should|wants|needed|must|达到|使|应该"):
        return least(lambda score: (n[0] * n[1] + score) / (n[0] + 1) == n[2])
    if has(q, "on average|has an average|The average of|平均每次\\d|平均分是\\d|平均得\\d"):
        return (n[0] * n[1] + n[2]) / (n[0] + 1)
    return sum(n) / len(n)


def ratios(q, n, language):
    if has(q, "flour|面粉"):
        return next(u for u in count(1) if u * n[0] == n[2]) * n[1]
    if has(q, "girls|女生"):
        unit = least(lambda u: u * n[1] - u * n[0] == n[2])
        return unit * n[0] + unit * n[1]
    if has(q, "cement|水泥"):
        unit = least(lambda u: u * n[0] == n[3])
        return sum(unit * part for part in n[:3]) * n[4]
    unit = least(lambda u: u * sum(n[1:]) == n[0])
    if has(q, "How many more|By how many|more are for|多得|少得|多分到"):
        return unit * n[1] - unit * n[2]
    return unit * n[1]


def probability(q, n, language):
    n = [int(one) for one in n]
    if has(q, "outfit|搭配|配成|一套"):
        return sum(1 for _ in product(*map(range, n)))
    if has(q, "hand|握"):
        return comb(n[0], 2)
    if has(q, "prize|Gold|奖|并列"):
        return perm(n[0], 3)
    balls = [colour for colour, number in zip("rbg", n, strict=False) for _ in range(number)]
    if not has(q, "[Tt]wo|then another|两个|再摸"):
        others = has(q, "not red|blue or green|不是|蓝球或绿球")
        return Fraction(sum((ball == "r") != others for ball in balls), len(balls))
    drawn = list(permutations(balls, 2))
    if has(q, "at least|one or both|至少"):
        good = [pair for pair in drawn if "r" in pair]
    elif has(q, "different|one red and one|one is red and|颜色不同|一个红球和一个|一红一蓝"):
        good = [pair for pair in drawn if set(pair) == {"r", "b"}]
    else:
        assert has(q, "both|two red|两个都是|两次都|两个红球"), q
        good = [pair for pair in drawn if pair == ("r", "r")]
    return Fraction(len(good), len(drawn))


def quadratics(q, n, language):
    if "=" in q:
        (f,) = equations(q)
        roots = [x for x in range(-60, 61) if f(x) == 0]
        assert len(roots) == 2, q
        return max(roots) if has(q, "larger|positive|大|正数") else min(roots)
    if has(q, "rooms|房"):
        return least(lambda side: side * side + n[1] * n[2] == n[0])
    if has(q, "square garden|is a square|正方形"):
        return 4 * least(lambda side: side * side == n[0])
    if has(q, "whole number|整数"):
        return least(lambda x: x * (x + 1) == n[0])
    width = least(lambda w: w * (w + n[0]) == n[1])
    return (
        width + n[0]
        if has(q, r"long is|longer side|length of the garden in|。长是|。它的长|，长是|，它的长|求花园的长")
        else width
    )


READERS = {
    "chains": chains,
    "calculations": calculations,
    "fractions": fractions,
    "equations": linear,
    "rates": rates,
    "percentages": percentages,
    "comparisons": comparisons,
    "systems": systems,
    "divisibility": divisibility,
    "sequences": sequences,
    "geometry": geometry,
    "averages": averages,
    "ratios": ratios,
    "probability": probability,
    "quadratics": quadratics,
}
