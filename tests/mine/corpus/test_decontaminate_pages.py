"""Decontamination on real pages: questions planted in their HTML are found, and hardly anything else is."""

import html
import random
import re
import unicodedata
from collections import Counter

import pytest

from dsm_jax.data.benchmarks import benchmark_texts, read_benchmarks
from dsm_jax.mine.corpus.decontaminate import LONG, SHORT, Benchmarks, BenchmarkText
from dsm_jax.mine.corpus.letters import find_grams, fold, is_word, letters_of
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.web.read import index_warc, read_block

# Rule B's questions at hand are English but for a few: these are ours, in the shapes of CMATH and MATH.
SHORT_QUESTIONS = [
    "三加四等于几?",
    "七乘八是多少?",
    "求x+5=12的解。",
    "12的因数有几个?",
    "一打鸡蛋有几个?",
    "24除以6得几?",
    "半径3的圆面积?",
    "100里有几个25?",
    "计算 $\\sqrt{144}$。",
    "解方程 $2x=14$。",
    "求 $\\sin 30^\\circ$。",
    "最小的质数是?",
    "Compute $\\sin 60^\\circ$.",
    "Simplify $\\frac{84}{144}$.",
    "Factor $16-25y^2$.",
    "Find $\\log_5 125 - 7$.",
    "Compute $\\tbinom{9}{4}$.",
    "What is $\\left(\\frac{2}{3}\\right)^3$?",
    "Solve $3x \\leq 12$ for $x$.",
    "Evaluate $4! \\div 3!$.",
]

FORMULA = re.compile(r"\$[^$]+\$")


def in_formulas(change):
    return lambda text, rng: FORMULA.sub(lambda formula: change(formula[0], rng), text)


def tex_spaces(formula, rng):
    spaces = ["\\,", "\\;", "\\ ", "\\!", "\\quad ", "  "]
    return re.sub(r"(?<=[ +=,-])(?![^{]*\})", lambda _: rng.choice(spaces), formula)


def wide(text, rng):
    return "".join(chr(ord(c) + 0xFEE0) if c in "0123456789,.?()+=:;!" else c for c in text)


def broken(text, rng):
    return "".join(
        c + "\n" if rng.random() < 0.1 and ord(c) > 0x2E80 else c for c in re.sub(" ", spot(rng, "\n"), text)
    )


def spot(rng, other):
    return lambda space: other if rng.random() < 0.3 else space[0]


TEXT_FORMS = {
    "as it is": lambda text, rng: text,
    "white space": lambda text, rng: re.sub(
        " ", lambda _: rng.choice(["  ", "\t", "\u00a0", " \u3000"]), text
    ),
    "line breaks": broken,
    "upper case": lambda text, rng: text.upper(),
    "lower case": lambda text, rng: text.lower(),
    "TeX spacing": in_formulas(tex_spaces),
    "no spaces around operators": in_formulas(lambda formula, rng: re.sub(r" *([-+=,<>]) *", r"\1", formula)),
    "\\left, \\right": in_formulas(lambda formula, rng: re.sub(r"(?<![\\t])([()])", _sized, formula)),
    "no \\left, \\right": in_formulas(lambda formula, rng: re.sub(r"\\(left|right)(?=[()])", "", formula)),
    "\\dfrac": in_formulas(lambda formula, rng: formula.replace("\\frac", "\\dfrac")),
    "\\(..\\)": in_formulas(lambda formula, rng: f"\\({formula[1:-1]}\\)"),
    "no dollars": lambda text, rng: text.replace("$", ""),
    "powers without braces": in_formulas(lambda formula, rng: re.sub(r"([\^_])\{(\w)\}", r"\1\2", formula)),
    "full width": wide,
    "typographic marks": lambda text, rng: text.replace("'", "’").replace(" - ", " − ").replace('"', "”"),
    "NFD": lambda text, rng: unicodedata.normalize("NFD", text),
    "soft hyphens": lambda text, rng: re.sub(r"(?<![\\a-z])([a-z]{4})(?=[a-z]{3})", "\\1\u00ad", text),
}


def _sized(parenthesis):
    return ("\\left" if parenthesis[1] == "(" else "\\right") + parenthesis[1]


# Some of these cut words apart, but none sets a single sign in a tag of its own: that extraction takes for decoration.
HTML_FORMS = {
    "escaped": lambda text, rng: html.escape(text),
    "entities": lambda text, rng: "".join(
        f"&#{ord(c)};" if rng.random() < 0.3 else html.escape(c) for c in text
    ),
    "bold words": lambda text, rng: re.sub(r"(?<![&#\w])(\w{3,})", r"<b>\1</b>", html.escape(text)),
    "breaks": lambda text, rng: re.sub(r"(?<=\w\w) (?=\w\w)", spot(rng, "<br>"), html.escape(text)),
    "powers as <sup>": lambda text, rng: re.sub(r"\^([0-9])(?!\d)", r"<sup>\1</sup>", html.escape(text)),
}


def rule_of(question):
    grams = len(find_grams(fold(question)))
    return "A" if grams >= LONG else "B" if grams >= SHORT else None


@pytest.fixture(scope="module")
def texts(dsm_data):
    problems = benchmark_texts(read_benchmarks([dsm_data / "benchmarks", dsm_data / "gsm8k"]))
    return problems + [BenchmarkText("ours", question) for question in SHORT_QUESTIONS]


@pytest.fixture(scope="module")
def default(texts):
    return Benchmarks(texts)


def read_pages(warc):
    return [
        decode(page.body, page.charset) for block in index_warc(warc)[0] for page in read_block(block).pages
    ]


@pytest.fixture(scope="module")
def some_pages(dsm_data):
    pages = read_pages(min((dsm_data / "web").glob("*.warc.gz")))
    return [page for page in pages if page.count("</p>") > 5]


def plant(page, paragraph, place):
    ends = [end.end() for end in re.finditer("</p>", page)]
    place = ends[place % len(ends)]
    return f"{page[:place]}<p>{paragraph}</p>{page[place:]}"


def question_pools(texts):
    """Short and long questions, those of every benchmark and of both languages as often as others."""
    pools = {"A": {}, "B": {}}
    for text in texts:
        if rule := rule_of(text.question):
            chinese = bool(re.search("[\u4e00-\u9fff]", text.question))
            pools[rule].setdefault((text.benchmark, chinese), []).append(text.question)
    assert sum(map(len, pools["B"].values())) > 400 and sum(map(len, pools["A"].values())) > 8000
    return {rule: list(pool.values()) for rule, pool in pools.items()}


def planted_questions(texts, pages, seed):
    """200 (question, its rule, its forms, the page's text with it), planted where extraction keeps a paragraph."""
    rng = random.Random(seed)
    pools = question_pools(texts)
    planted = []
    while len(planted) < 200:
        page, place = rng.choice(pages), rng.randrange(1 << 20)
        if "zyx wvu tsr" not in page_text(plant(page, "zyx wvu tsr", place)):
            continue
        rule = "AB"[len(planted) % 2]
        question = rng.choice(rng.choice(pools[rule]))
        form, markup = rng.choice(sorted(TEXT_FORMS)), rng.choice(sorted(HTML_FORMS))
        paragraph = HTML_FORMS[markup](TEXT_FORMS[form](question, rng), rng)
        planted.append((question, rule, (form, markup), page_text(plant(page, paragraph, place))))
    return planted


def missed(planted, benchmarks):
    """What is not found by the rule of its length; the pages hold no other benchmark text (see the tests below)."""
    misses = []
    for question, rule, forms, text in planted:
        cleaned = benchmarks.clean(text)
        same = [hit for hit in cleaned.hits if letters_of(fold(hit.benchmark)) == letters_of(fold(question))]
        found = cleaned.text is None and same if rule == "B" else cleaned.lines
        if not found or left_over(question, cleaned.text or ""):
            misses.append((forms, question))
    return misses


def left_over(question, text):
    """The question's 10-grams with two different words that stand in the text, word for word."""
    grams, words = find_grams(fold(question)), b" ".join([b"", *find_grams(fold(text)), b""])
    tens = [grams[i : i + LONG] for i in range(len(grams) - LONG + 1)]
    return [
        ten for ten in tens if len(set(filter(is_word, ten))) > 1 and b" ".join([b"", *ten, b""]) in words
    ]


def test_planted_questions_are_found(texts, default, some_pages):
    planted = planted_questions(texts, some_pages, seed=0)
    assert Counter(rule for _, rule, _, _ in planted) == {"A": 100, "B": 100}
    assert len({form for _, _, (form, _), _ in planted}) == len(TEXT_FORMS)
    misses = missed(planted, default)
    assert len(misses) <= 2, misses


@pytest.mark.slow
@pytest.mark.parametrize("need_words", [True, False])
def test_planted_questions_are_found_in_every_form(texts, some_pages, need_words):
    planted = [one for seed in range(1, 11) for one in planted_questions(texts, some_pages, seed)]
    misses = missed(planted, Benchmarks(texts, need_words))
    assert len(misses) <= 0.005 * len(planted), misses
    kinds, failed = (
        Counter(kind for forms in several for kind in forms)
        for several in ([forms for _, _, forms, _ in planted], [forms for forms, _ in misses])
    )
    assert all(failed[kind] <= 0.03 * count for kind, count in kinds.items()), failed


def test_without_the_question_the_same_pages_are_left_alone(texts, default, some_pages):
    assert not missed([("zyx wvu tsr", "B", ("", ""), "zyx wvu tsr")], Benchmarks(["zyx wvu tsr"]))
    rng = random.Random(0)
    for page in rng.sample(some_pages, 100):
        text = page_text(page)
        assert default.clean(text).text == text


@pytest.mark.slow
def test_real_pages_lose_next_to_nothing(dsm_data, texts):
    pages = [
        page_text(page) for warc in sorted((dsm_data / "web").glob("*.warc.gz")) for page in read_pages(warc)
    ]
    assert len(pages) == 1849
    lines = sum(page.count("\n") + 1 for page in pages)
    published = [text for text in texts if text.benchmark != "ours"]
    paper = Benchmarks(published, need_words=False)
    cleaned = [paper.clean(page) for page in pages]
    hits = [hit for one in cleaned for hit in one.hits]
    assert not [hit for hit in hits if hit.rule == "B"] and all(one.text is not None for one in cleaned)
    assert sum(one.lines for one in cleaned) <= 0.001 * lines
    assert 0 < sum(bool(one.hits) for one in cleaned) <= 0.015 * len(pages)
    assert all(hit.benchmark and hit.page and hit.name for hit in hits)
    default = Benchmarks(published)
    assert sum(bool(default.clean(page).hits) for page in pages) <= 1
