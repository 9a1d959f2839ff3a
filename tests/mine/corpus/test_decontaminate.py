"""What touches a benchmark goes, whatever form it has been given, and nothing else does."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.corpus.decontaminate import MOST_LOOKS, Benchmarks, BenchmarkText

LONG = "The potter glazed 48 small clips before noon, and then she fired half as many clips at night."
SHORT = "Find the remainder of seven cubed"
CHINESE = "小明有五个苹果,他给了小红两个,还剩几个苹果?"
FORMULA = r"Let $x^{2} + \frac{1}{2} \leq 3 \times y$ and $\left(x, y\right) \in A$. Then the sum of all $x$ is at most $4.5$?"


def clean(page, *texts, need_words=True):
    return Benchmarks(texts, need_words).clean(page)


def test_lines_that_a_ten_gram_touches_are_removed_and_the_rest_stays():
    cleaned = clean(f"First line.\n{LONG}\nLast line.", BenchmarkText("potter", LONG))
    assert cleaned.text == "First line.\nLast line." and cleaned.lines == 1
    (hit,) = cleaned.hits
    assert (hit.rule, hit.name, hit.benchmark, hit.page) == ("A", "potter", LONG, LONG)


@pytest.mark.parametrize(
    "copy",
    [
        LONG.upper(),
        LONG.replace(" ", "\n"),
        LONG.replace(" ", "   "),
        LONG.replace("48", "$48$").replace(",", r"\,"),
        LONG.replace("clips", r"\text{clips}").replace("half", r"\left(half\right)"),
        LONG.replace("small", "sma\u00adll").replace("noon", "no\non"),
    ],
)
def test_reformatted_copies_are_found(copy):
    cleaned = clean(f"keep me\n{copy}\nkeep me too", LONG)
    assert cleaned.hits and "clips" not in cleaned.text.lower()
    assert cleaned.text.startswith("keep me") and cleaned.text.endswith("keep me too")


@pytest.mark.parametrize(
    "copy",
    [
        FORMULA.replace(r"\frac", r"\dfrac").replace(r"\left", "").replace(r"\right", ""),
        FORMULA.replace(" ", r"\;").replace(r"\leq", r"\le"),
        FORMULA.replace("$x^{2} +", r"\(x^2+").replace("y$ and $", r"y\) and \(").replace("$.", r"\)."),
        FORMULA.replace(r"\leq", "≤").replace(r"\times", "×").replace("^{2}", "²").replace("$", ""),
        FORMULA.replace("(", "（").replace("3", "３").replace("?", "？").replace("+", "＋"),
        FORMULA.replace("^{2}", "2"),
        FORMULA.replace(r"\leq", "&le;").replace("+", "&#43;"),
    ],
)
def test_reformatted_formulas_are_found_whole(copy):
    cleaned = clean(f"keep me\n{copy.replace(' ', chr(10))}\nkeep me too", FORMULA)
    assert cleaned.hits and cleaned.text == "keep me\nkeep me too"


def test_nine_common_grams_of_a_long_text_do_not_count():
    nine = " ".join(LONG.split()[:9])
    assert clean(f"{nine} elsewhere", LONG).text == f"{nine} elsewhere"
    assert clean(f"{nine} th en", LONG).text is None  # the tenth


def test_part_of_a_word_is_none():
    ten = " ".join(LONG.split()[:10])
    assert clean(f"{ten} bef", ten).text is None
    assert clean(f"bre{ten}", ten).text == f"bre{ten}" and clean(f"{ten}s", ten).text == f"{ten}s"
    assert clean(f"{SHORT}s", SHORT).text == f"{SHORT}s" and clean("What is 4 + 5x?", "What is 4 + 5").text
    assert clean(f"如果{SHORT}是", SHORT).text is None  # Chinese has no spaces


def test_short_questions_matched_exactly_drop_the_page_and_tiny_ones_are_ignored():
    cleaned = clean("Exercise: find the  remainder of seven\ncubed. Then rest.", SHORT)
    assert cleaned.text is None and [(hit.rule, hit.benchmark) for hit in cleaned.hits] == [("B", SHORT)]
    assert cleaned.hits[0].page == "Exercise: find the  remainder of seven\ncubed. Then rest."
    assert clean("find the remainder of eight cubed", SHORT).text is not None
    assert clean("the answer is 42", "42", "is 42").text == "the answer is 42"


def test_short_answers_and_options_count_behind_their_question_only():
    options = ("the remainder of seven cubed", "A proton and a neutron", "none of the above is true")
    problem = BenchmarkText("b", "Photosynthesis requires", options)
    for option in options:
        assert clean(f"We know: {option}.", problem).text == f"We know: {option}."
    page = f"A page.\nPhotosynthesis requires:\n{chr(10).join(options)}\nIts end."
    cleaned = clean(page, problem)
    assert (
        cleaned.text.startswith("A page.")
        and "Photosynthesis" not in cleaned.text
        and cleaned.hits[0].rule == "A"
    )
    assert clean("Neural networks: learn", BenchmarkText("b", "Neural networks:", ("learn", "rest"))).text
    assert (
        clean("Neural networks: (learn) rest", BenchmarkText("b", "Neural networks:", ("learn", "rest"))).text
        is None
    )
    long = BenchmarkText("b", LONG, ("seven", "12"))
    assert clean(f"{LONG}\nSeven\n12\nEnd", long).text == "End"
    assert clean("Seven\n12\nEnd", long).text == "Seven\n12\nEnd"


def test_long_answers_count_alone():
    problem = BenchmarkText("b", SHORT, (LONG, "343 leaves 1"))
    cleaned = clean(f"Begin\n{LONG}\nEnd", problem)
    assert cleaned.text == "Begin\nEnd" and cleaned.hits[0].benchmark == LONG


@pytest.mark.parametrize(
    "other",
    [
        "What is 4-2-2?",
        "What is 4*(2+2)?",
        "What is (4*2)+2?",
        "What is 4 2 2?",
        "What is 4/2+2?",
        "What is 4*22?",
    ],
)
def test_another_calculation_with_the_same_numbers_is_another_text(other):
    assert clean(other, "What is 4*2+2?").text == other


@pytest.mark.parametrize(
    "copy",
    [
        "What is 4 * 2 + 2 = 10?",
        r"What is $4 \cdot 2+2$?",
        r"What is \(4\times2 + 2\)?",
        "what is 4 × 2 + 2",
        "What is 4 *\n2 + $2$",
    ],
)
def test_a_reformatted_calculation_is_found(copy):
    assert clean(copy, "What is 4*2+2?").text is None


def test_operators_with_letters_count_and_hyphens_of_words_do_not():
    assert clean("Find x: 4x+4=32", "Find x: 4x-4=32").text == "Find x: 4x+4=32"
    assert clean("Find x: 4x − 4 = 32", "Find x: 4x-4=32").text is None
    assert clean("a self adjoint x ray map", "self-adjoint x-ray").text is None


def test_calculations_with_the_same_letters_are_told_apart():
    sums, products = "Compute now 4+2+2", "Compute now 4*2*2"
    for page in (sums, products):
        assert [hit.benchmark for hit in clean(page, sums, products).hits] == [page]
    assert clean("Compute now 4-2-2", sums, products).text == "Compute now 4-2-2"


def test_chinese_grams_are_characters():
    assert clean(f"无关的句子。\n问:{CHINESE}\n完", CHINESE).text == "无关的句子。\n完"
    assert clean("请问三加四等于几", "三加四等于几").text is None
    assert clean("小明有五个苹果", CHINESE).text == "小明有五个苹果"


def test_counting_runs_and_bare_formulas_need_the_paper_preset():
    formula = r"$\int_0^1 \sqrt{x} \sin{x} + \frac{x}{2} + \frac{x}{3}$"
    for run in ("1 2 3 4 5 6 7 8 9 10 11 12", formula):
        assert clean(f"page\n{run}", run).text == f"page\n{run}"
        assert clean(f"page\n{run}", run, need_words=False).text == "page"


def test_one_word_twice_is_not_two_words():
    question = "Sum sum 1 2 3 4 5 6 7 8 9 10 of all these numbers"
    assert clean("sum sum 1 2 3 4 5 6 7 8", question).text == "sum sum 1 2 3 4 5 6 7 8"
    assert clean("3 4 5 6 7 8 9 10 of all", question).text is not None
    assert clean("4 5 6 7 8 9 10 of all these", question).text is None


def test_a_ten_gram_may_begin_behind_a_factor():
    question = "Let 4 x + 6 be the line through all points given here"
    assert clean("7x + 6 be the line through all points given here", question).text is None


def test_blank_lines_are_no_lines():
    copy = LONG.replace(" noon", "\n\n  \nnoon")
    cleaned = clean(f"Begin\n\n{copy}\nEnd", LONG)
    assert cleaned.lines == 2 and "noon" not in cleaned.text and cleaned.hits[0].page.count("\n") == 1


def test_a_text_of_one_word_is_found_by_it():
    question = r"Simplify $\frac{k-3}{2} + 3k+1+\frac{3k+1}{2}$."
    assert clean(f"page\n{question}", question).text == "page"
    assert clean(question.replace("Simplify", "Expand"), question).text == question.replace(
        "Simplify", "Expand"
    )


def test_a_page_of_nothing_else_is_dropped():
    assert clean(LONG, LONG).text is None


def test_lines_that_come_together_are_looked_at_again():
    words = LONG.split()[:14]
    page = "\n".join(["First.", " ".join(words[:7]), "A story. " + CHINESE, " ".join(words[7:]), "Last."])
    cleaned = clean(page, LONG, CHINESE)
    assert cleaned.text == "First.\nLast." and cleaned.lines == 3
    assert [hit.benchmark for hit in cleaned.hits] == [CHINESE, LONG]


def test_a_page_made_to_be_looked_at_for_ever_is_dropped():
    words = LONG.split()
    first, second = " ".join(words[:9]), " ".join(words[9:])
    for halves in (3, MOST_LOOKS - 1):
        kept = clean("\n".join(["keep me", *[first] * halves, *[second] * halves]), LONG)
        assert kept.text == "keep me" and kept.lines == 2 * halves
    dropped = clean("\n".join(["keep me", *[first] * 1000, *[second] * 1000]), LONG)
    assert dropped.text is None and dropped.lines == 2 * MOST_LOOKS


WORDS = st.lists(
    st.text(string.ascii_lowercase, min_size=3, max_size=6), min_size=10, max_size=30, unique=True
)


@given(WORDS, st.lists(st.sampled_from([" ", "\n", ", ", "  "]), min_size=29, max_size=29))
def test_a_planted_text_never_survives(words, gaps):
    planted = "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=False)).rstrip()
    cleaned = clean(f"0 1 2\n{planted}\n3 4 5", " ".join(words))
    assert cleaned.text == "0 1 2\n3 4 5"


def rules_by_the_letter(page, texts):
    """The rules over lists of words, without any index: (text or None, lines removed)."""
    removed, lines = 0, page.split("\n")
    long = [text.split() for text in texts if len(text.split()) >= 10]
    short = [text.split() for text in texts if 3 <= len(text.split()) < 10]
    ten = {tuple(words[i : i + 10]) for words in long for i in range(len(words) - 9)}
    while True:
        words = [(word, i) for i, line in enumerate(lines) for word in line.split()]
        runs = {n: [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] for n in range(3, 11)}
        gone = {i for run in runs[10] if tuple(word for word, _ in run) in ten for _, i in run}
        drops = any([word for word, _ in run] == text for text in short for run in runs[len(text)])
        removed += len(gone)
        lines = "\n".join(line for i, line in enumerate(lines) if i not in gone).strip().split("\n")
        if drops or (gone and lines == [""]):
            return None, removed
        if not gone:
            return page if not removed else "\n".join(lines), removed


FEW = st.sampled_from(["ash", "bay", "cob", "dun"])  # so few that the same runs come again


@given(
    st.lists(st.lists(FEW, min_size=1, max_size=14).map(" ".join), max_size=4),
    st.lists(st.lists(FEW, max_size=9).map(" ".join), min_size=1, max_size=12).map("\n".join),
    st.data(),
)
def test_the_rules_are_kept_to_the_letter(texts, page, data):
    if texts:
        page += (
            "\n"
            + data.draw(st.sampled_from(texts)).replace(" ", data.draw(st.sampled_from([" ", "\n"])), 5)
            + "\n"
        )
    cleaned = clean(page, *texts, need_words=False)
    assert (cleaned.text, cleaned.lines) == rules_by_the_letter(page, texts)
    assert bool(cleaned.hits) == (cleaned.text != page)


FORMS = {
    "case": str.upper,
    "spaces": lambda text: text.replace(" ", " \u00a0\t "),
    "lines": lambda text: text.replace(" ", "\n"),
    "TeX spaces": lambda text: text.replace(" ", r" \, ").replace("+", r"\;+\quad "),
    "delimiters": lambda text: text.replace("$", ""),
    "fractions": lambda text: text.replace(r"\frac", r"\tfrac"),
    "parentheses": lambda text: text.replace("(", r"\left(").replace(")", r"\right)"),
    "wide": lambda text: "".join(chr(ord(c) + 0xFEE0) if c in "0123456789,?()+" else c for c in text),
    "entities": lambda text: "".join(
        f"&#{ord(c)};" if c in "aeiou+=" and "\\" not in text else c for c in text
    ),
    "quotes": lambda text: text.replace("'", "’").replace('"', "“"),
    "fonts": lambda text: text.replace("$x", r"$\mathrm{x}"),
    "soft hyphens": lambda text: text.replace("ai", "a\u00adi"),
}
QUESTIONS = [
    LONG,
    FORMULA,
    CHINESE,
    SHORT,
    "三加四等于几?",
    r"Evaluate $\log_3 81$.",
    "Find the value of (2 + 5)*4 + x.",
    r"已知 $f(x)=x+1$, 求 $\frac{1}{2}$.",
]


@given(st.sampled_from(QUESTIONS), st.lists(st.sampled_from(sorted(FORMS)), max_size=6))
def test_no_reformatting_hides_a_question(question, forms):
    copy = question
    for form in sorted(forms, key="entities".__eq__):  # what is written in entities is written last
        copy = FORMS[form](copy)
    cleaned = PREPARED.clean(f"It begins.\n{copy}\nIt ends.")
    assert any(hit.benchmark == question for hit in cleaned.hits)
    assert cleaned.text in (None, "It begins.\nIt ends.")


PREPARED = Benchmarks(QUESTIONS)
PIECES = st.sampled_from(
    [word for question in QUESTIONS for word in question.split()] + ["\n", "\n", "und", "5"]
)
PAGES = st.lists(PIECES | st.sampled_from(QUESTIONS), max_size=40).map(" ".join)


@given(PAGES | st.text(max_size=60))
def test_what_is_clean_stays_and_what_was_cleaned_is_clean(page):
    cleaned = PREPARED.clean(page)
    if not cleaned.hits:
        assert cleaned.text == page and cleaned.lines == 0
    elif cleaned.text is not None:
        again = PREPARED.clean(cleaned.text)
        assert again.text == cleaned.text and not again.hits
        assert set(cleaned.text.split("\n")) <= {
            part for line in page.split("\n") for part in (line, line.strip())
        }


def test_no_benchmarks_touch_nothing():
    assert clean("A page.").text == "A page." and clean("", LONG).text == ""
