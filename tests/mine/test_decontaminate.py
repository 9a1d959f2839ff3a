import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.decontaminate import Benchmarks

LONG = "The potter glazed 48 small clips before noon, and then she fired half as many clips at night."
SHORT = "Find the remainder of seven cubed"
CHINESE = "小明有五个苹果,他给了小红两个,还剩几个苹果?"


def clean(page, *texts, need_words=True):
    return Benchmarks(texts, need_words).clean(page)


def test_lines_that_a_ten_gram_touches_are_removed_and_the_rest_stays():
    cleaned = clean(f"First line.\n{LONG}\nLast line.", LONG)
    assert cleaned.text == "First line.\nLast line." and cleaned.lines == 1
    assert [(hit.rule, hit.benchmark, hit.page) for hit in cleaned.hits] == [("A", LONG, LONG)]


@pytest.mark.parametrize(
    "copy",
    [
        LONG.upper(),
        LONG.replace(" ", "\n"),
        LONG.replace(" ", "   "),
        LONG.replace("48", "$48$").replace(",", r"\,"),
        LONG.replace("clips", r"\text{clips}").replace("half", r"\left(half\right)"),
    ],
)
def test_reformatted_copies_are_found(copy):
    cleaned = clean(f"keep me\n{copy}\nkeep me too", LONG)
    assert cleaned.hits and "clips" not in cleaned.text.lower()
    assert cleaned.text.startswith("keep me") and cleaned.text.endswith("keep me too")


def test_nine_common_grams_of_a_long_text_do_not_count():
    nine = " ".join(LONG.split()[:9])
    assert clean(f"{nine} elsewhere", LONG).text == f"{nine} elsewhere"


def test_short_texts_matched_exactly_drop_the_page_and_tiny_ones_are_ignored():
    cleaned = clean("Exercise: find the  remainder of seven\ncubed. Then rest.", SHORT)
    assert cleaned.text is None and [(hit.rule, hit.benchmark) for hit in cleaned.hits] == [("B", SHORT)]
    assert clean("find the remainder of eight cubed", SHORT).text is not None
    assert clean("the answer is 42", "42", "is 42").text == "the answer is 42"


@pytest.mark.parametrize(
    "other",
    ["What is 4-2-2?", "What is 4*(2+2)?", "What is (4*2)+2?", "What is 4 2 2?", "What is 4/2+2?"],
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


def test_chinese_grams_are_characters():
    assert clean(f"无关的句子。\n问:{CHINESE}\n完", CHINESE).text == "无关的句子。\n完"
    assert clean("请问三加四等于几", "三加四等于几").text is None
    assert clean("小明有五个苹果", CHINESE).text == "小明有五个苹果"


def test_counting_runs_need_the_paper_preset():
    run = "1 2 3 4 5 6 7 8 9 10 11 12"
    assert clean(f"page\n{run}", run).text == f"page\n{run}"
    assert clean(f"page\n{run}", run, need_words=False).text == "page"


def test_a_page_of_nothing_else_is_dropped():
    assert clean(LONG, LONG).text is None


WORDS = st.lists(
    st.text(string.ascii_lowercase, min_size=3, max_size=6), min_size=10, max_size=30, unique=True
)


@given(WORDS, st.lists(st.sampled_from([" ", "\n", ", ", "  "]), min_size=29, max_size=29))
def test_a_planted_text_never_survives(words, gaps):
    planted = "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=False)).rstrip()
    cleaned = clean(f"0 1 2\n{planted}\n3 4 5", " ".join(words))
    assert cleaned.text == "0 1 2\n3 4 5"
