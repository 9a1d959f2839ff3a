"""Ways to write the same problem come out as the same letters; other calculations do not come out as the same marks."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.corpus.letters import (
    find_cuts,
    find_grams,
    fold,
    is_boundary,
    is_character,
    is_word,
    letters_of,
    places_of,
    same_marks,
)


def letters(text):
    return letters_of(fold(text)).decode()


def grams(text):
    return [gram.decode() for gram in find_grams(fold(text))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Find the Remainder", "ＦＩＮＤ  ｔｈｅ\tremainder"),
        ("x < 3 & y > 2", "x &lt; 3 &amp; y &gt; 2"),
        ("Poincaré's naïve ﬁeld", "Poincare’s nai\u0308ve field"),
        ("the remainder", "the re\u00admain\u200bder"),
        (r"\(\frac{1}{2}\)", r"$\dfrac12$"),
        (r"$\left( x^{2} \right)$", r"\[(x^2)\]"),
        (r"$a \times b \leq c$", "a × b ≤ c"),
        (r"$2\,\mathrm{cm}$, $\text{if}$", "2 cm, if"),
        (r"$\alpha + \varepsilon \to \infty$", "α + ϵ → ∞"),
        ("x^{2} + a_1", "x² + a₁"),
        ("Straße, ЁЛКА", "STRASSE, елка"),
        ("one&#10;two", "one two"),
        ("45^{\\circ}", "45°"),
        ("24,000 − 1½", "24000 - 1 1/2"),
        (r"\\frac{1}{2}", r"\frac{1}{2}"),  # escaped twice
        ("小明有５个苹果。", "小 明 有 5 个 苹果"),
        ("１．５％", "1.5 %"),
        ("カ゛ ガ", "カ カ"),  # voicing is an accent
    ],
)
def test_the_same_letters(one, other):
    assert fold(one).count(b"\n") == one.count("\n")
    assert letters(one) == letters(other) != ""


def test_other_letters_stay_other():
    assert len({letters(text) for text in ("mod 7", "mod 17", "mode 7", "mod x", "模 7", "мод 7")}) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's 4x+1.5?", ["what", "s", "4x", "1", "5"]),
        ("若 $a>b$, 则x1", ["若", "a", "b", "则", "x1"]),
        (r"$\frac{a}{b}\left(\alpha\right)$", ["\\frac", "a", "b", "\\alpha"]),
        ("ёлка и ель", ["елка", "и", "ель"]),
        ("___ \\qquad $$ ...", []),
    ],
)
def test_grams(text, expected):
    assert grams(text) == expected


def test_kinds_of_grams():
    assert [is_character(gram.encode()) for gram in ("若", "カ", "𠀀", "a", "я", "\\frac")] == [True] * 3 + [
        False
    ] * 3
    assert [is_word(gram.encode()) for gram in ("the", "ель", "an", "яя", "x12", "\\frac", "若")] == [
        True,
        True,
    ] + [False] * 5


TEXTS = st.text(
    st.sampled_from("aZ9 .\n若カéя\u0301\u00ad𠀀Åﬁ½&;#<\\{}^_$()αΔ") | st.characters(codec="utf-8"),
    max_size=40,
)


@given(TEXTS)
def test_grams_make_up_the_letters_and_lines_stay(text):
    folded = fold(text)
    assert folded.count(b"\n") == text.count("\n")
    found = find_grams(folded)
    assert b"".join(gram.lstrip(b"\\") for gram in found) == letters_of(folded)
    assert bytes(folded[place] for place in places_of(folded)) == letters_of(folded)


@given(TEXTS)
def test_a_gram_begins_at_cuts_and_boundaries_only(text):
    folded = fold(text)
    places, cuts = places_of(folded).tolist(), set(find_cuts(folded).tolist())
    length, begins = 0, set()
    for gram in find_grams(folded):
        begins.add(length)
        length += len(gram.lstrip(b"\\"))
    assert begins <= cuts
    real = {i for i, place in enumerate(places) if is_boundary(folded, place, within_words=False)}
    tails = {i for i, place in enumerate(places) if folded[place] & 0xC0 == 0x80}
    assert real - tails == begins


@given(TEXTS, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_folding_forgets_composition(text, form):
    text = re.sub("[&＆﹠]", "", text)  # a wide one makes no entity
    assert letters(unicodedata.normalize(form, text)) == letters(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("4*2+2", "4 × 2 + 2", True),
        ("4*2+2", r"\(4 \cdot 2\)$+2$", True),
        ("4*2+2", "4-2-2", False),
        ("4*2+2", "4*(2+2)", False),
        ("2x+1", "2(x+1)", False),
        ("y=4 x+6", "y = 4x + 6", True),
        ("y=4x+6", "y=4x-6", False),
        ("y\\leq 4x", "y ≤ 4x", True),
        ("y\\leq 4x", "y < 4x", False),
        ("1.5", "15", False),
        ("1 5", "15", False),
        ("1.5", "1 5", False),
        ("12,345", "12345", True),
        (r"12{,}345", r"12\,345", True),
        (r"\log_5 125", r"\log_5\,125", True),
        (r"\log_5 125", "\\log_5\n125", True),
        ("1, 2, 3", "1 2 3", True),
        ("1 25", "125", False),
        ("10^{2}", "102", True),  # what <sup> leaves
        (r"\frac{1}{2}", r"\frac12", True),
        (r"1+\frac12", r"1-\frac12", False),
        (r"\sin(x)", r"\sin x", True),
        ("self-adjoint x-ray", "self adjoint x ray", True),
        ("the end-to-end test", "the end to end test", True),
        ("ab+c", "a b-c", True),  # glued letters are a word: nothing to say
    ],
)
def test_marks_of_calculations(one, other, same):
    assert letters(one) == letters(other)
    assert same_marks(fold(one), fold(other)) is same_marks(fold(other), fold(one)) is same
