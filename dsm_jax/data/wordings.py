"""The words of the problem generator: questions of each family in English and Chinese.

Only words: operands, answers and steps are made in `problems`. Sentences are short and the vocabulary is
small, so that a decoder of a million parameters can read them. Slots: a, b, c, d are operands, e a bare
expression, name and other two people, item a thing. Every operand of a problem stands in its question as
digits.
"""

from collections.abc import Mapping
from typing import NamedTuple

LANGUAGES = ("en", "zh")

NAMES = {"en": ("Tom", "Amy", "Sam", "Mia"), "zh": ("小明", "小红", "小刚", "小丽")}
ITEMS = {"en": ("pens", "cups", "eggs", "books"), "zh": ("支笔", "个杯子", "个鸡蛋", "本书")}
CLOSING = {"en": "The answer is \\boxed{{{answer}}}.", "zh": "答案是 \\boxed{{{answer}}}。"}


class Story(NamedTuple):
    """A chain of operations told as a story: an opening, a sentence for each operation, a question."""

    opening: str
    turns: Mapping[str, str]
    ask: str


STORIES = {
    "en": (
        Story(
            "{name} has {a} {item}.",
            {
                "+": "{name} buys {b} more.",
                "-": "{name} gives away {b}.",
                "*": "Then {name} has {b} times as many.",
            },
            "How many {item} does {name} have now?",
        ),
        Story(
            "A bus has {a} people.",
            {"+": "{b} get on.", "-": "{b} get off."},
            "How many people are on the bus?",
        ),
        Story(
            "A shop has {a} {item}.",
            {
                "+": "It gets {b} more.",
                "-": "It sells {b}.",
                "*": "Then it has {b} times as many.",
                "/": "It keeps one of {b} equal parts.",
            },
            "How many {item} are left?",
        ),
        Story(
            "Start with {a}.",
            {"+": "Add {b}.", "-": "Take away {b}.", "*": "Multiply by {b}.", "/": "Divide by {b}."},
            "What is the result?",
        ),
    ),
    "zh": (
        Story(
            "{name}有{a}{item}。",
            {"+": "又买了{b}{item}。", "-": "送出{b}{item}。", "*": "然后数量变成原来的{b}倍。"},
            "{name}现在有多少{item}？",
        ),
        Story("车上有{a}人。", {"+": "上来{b}人。", "-": "下去{b}人。"}, "车上有多少人？"),
        Story(
            "商店有{a}{item}。",
            {
                "+": "运来{b}{item}。",
                "-": "卖出{b}{item}。",
                "*": "然后数量变成原来的{b}倍。",
                "/": "平均分成{b}份，只留一份。",
            },
            "还有多少{item}？",
        ),
        Story(
            "从{a}开始，",
            {"+": "加上{b}，", "-": "减去{b}，", "*": "乘以{b}，", "/": "除以{b}，"},
            "结果是多少？",
        ),
    ),
}

QUESTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "value": {
        "en": ("Compute {e}.", "What is {e}?", "Find the value of {e}.", "Work out {e}."),
        "zh": ("计算 {e}。", "{e} 等于多少？", "求 {e} 的值。"),
    },
    "equation": {
        "en": ("Solve {e} for x.", "If {e}, what is x?", "Find x: {e}."),
        "zh": ("解方程 {e}。", "如果 {e}，x 等于多少？", "求 x：{e}。"),
    },
    "proportion": {
        "en": (
            "{b} {item} cost {a} coins. How much do {c} {item} cost?",
            "A car goes {a} km in {b} hours. How far does it go in {c} hours?",
            "{name} reads {a} pages in {b} days. How many pages are read in {c} days?",
            "A machine makes {a} {item} in {b} hours. How many does it make in {c} hours?",
        ),
        "zh": (
            "{b}{item}共{a}元，{c}{item}要多少元？",
            "汽车{b}小时行{a}千米，{c}小时行多少千米？",
            "{name}{b}天读{a}页书，{c}天读多少页？",
        ),
    },
    "two_parts": {
        "en": (
            "A car drives {a} hours at {b} km an hour and {c} hours at {d} km an hour. How far does it go?",
            "{name} buys {a} pens at {b} coins each and {c} cups at {d} coins each. What is the price?",
            "{name} works {a} days for {b} coins a day and {c} days for {d} coins a day. What is the pay?",
        ),
        "zh": (
            "汽车先行{a}小时，每小时{b}千米，再行{c}小时，每小时{d}千米，共行多少千米？",
            "{name}买了{a}支笔，每支{b}元，又买了{c}本书，每本{d}元，共多少元？",
        ),
    },
    "part": {
        "en": (
            "What is {b}% of {a}?",
            "A shop has {a} {item}. {b}% are red. How many are red?",
            "{name} has {a} coins and spends {b}%. How many coins are spent?",
        ),
        "zh": ("{a}的{b}%是多少？", "商店有{a}{item}，其中{b}%是红色的，红色的有多少？"),
    },
    "less": {
        "en": (
            "A bag costs {a} coins. It is {b}% off. What is the new price?",
            "{name} has {a} coins and spends {b}%. How many coins are left?",
            "What is {a} less {b}%?",
        ),
        "zh": ("一个包{a}元，降价{b}%，现价多少元？", "{name}有{a}元，花了{b}%，还剩多少元？"),
    },
    "more": {
        "en": (
            "A bag costs {a} coins. The price goes up by {b}%. What is the new price?",
            "{name} has {a} coins and gets {b}% more. How many coins is that?",
            "What is {a} plus {b}%?",
        ),
        "zh": ("一个包{a}元，涨价{b}%，现价多少元？", "{name}有{a}元，又增加了{b}%，现在有多少元？"),
    },
    "share": {
        "en": (
            "What is {f} of {a}?",
            "A shop has {a} {item}. {f} of them are red. How many are red?",
            "{name} has {a} coins and spends {f} of them. How many coins are spent?",
        ),
        "zh": ("{a}的{f}是多少？", "商店有{a}{item}，其中{f}是红色的，红色的有多少？"),
    },
    "difference": {
        "en": (
            "{name} has {a} boxes of {b} {item}. {other} has {c} boxes of {d}. How many more has {name}?",
            "How much larger is {a}*{b} than {c}*{d}?",
        ),
        "zh": (
            "{name}有{a}盒，每盒{b}{item}，{other}有{c}盒，每盒{d}{item}，{name}多多少？",
            "{a}*{b} 比 {c}*{d} 大多少？",
        ),
    },
    "larger": {
        "en": (
            "Which is larger, {f} or {g}?",
            "Find the larger of {f} and {g}.",
            "What is the maximum of {f} and {g}?",
        ),
        "zh": ("{f} 和 {g} 哪个大？", "求 {f} 与 {g} 中较大的数。"),
    },
}
