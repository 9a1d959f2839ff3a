"""Keys of near duplicates: shared as often as the stated curve says, by no other pages, the same everywhere."""

import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.near_duplicates import BANDS, MIN_SHINGLES, ROWS, SHINGLE, band_keys

PAIRS = 400
CHINESE = "设函数在闭区间上连续且在开区间内可导证明存在一点使得该点处的导数等于区间两端函数值之差与区间长度之比这就是拉格朗日中值定理"


def words(rng: Random, count: int, vocabulary: int = 10**9) -> list[str]:
    return [f"w{rng.randrange(vocabulary)}" for _ in range(count)]


def pair(rng: Random, similarity: float, count: int) -> tuple[str, str]:
    """Two texts of `count` words, alike up to a word: no shingle comes twice, so their overlap is known."""
    shingles = count - SHINGLE + 1
    shared = round(2 * shingles * similarity / (1 + similarity)) + SHINGLE - 1
    start = words(rng, shared)
    a, b = (" ".join(start + words(rng, count - shared)) for _ in range(2))
    return a, b


def share_a_key(a: str, b: str) -> bool:
    return bool(set(band_keys(a).tolist()) & set(band_keys(b).tolist()) - {0})


@pytest.mark.parametrize("similarity", [0.6, 0.7, 0.8, 0.9, 0.95])
def test_a_band_is_shared_as_often_as_stated(similarity):
    rng = Random(similarity)
    count = sum(share_a_key(*pair(rng, similarity, 300)) for _ in range(PAIRS))
    stated = 1 - (1 - similarity**ROWS) ** BANDS
    assert abs(count / PAIRS - stated) < 4 * (stated * (1 - stated) / PAIRS) ** 0.5 + 0.005


def test_the_docstrings_numbers():
    stated = {0.6: 0.01, 0.7: 0.08, 0.8: 0.40, 0.82: 0.51, 0.9: 0.93, 0.95: 1.00}
    assert {s: round(1 - (1 - s**ROWS) ** BANDS, 2) for s in stated} == stated


def test_unrelated_pages_share_no_key():
    rng = Random(0)
    keys = [band_keys(" ".join(words(rng, 200, vocabulary=500))) for _ in range(1000)]
    assert len(np.unique(keys)) == 1000 * BANDS and min(map(np.min, keys)) > 0


def test_pages_of_one_site_with_its_words_around_them_are_no_duplicates():
    rng = Random(0)
    head, foot = " ".join(words(rng, 60)), " ".join(words(rng, 60))
    pages = [f"{head} {' '.join(words(rng, 60))} {foot}" for _ in range(40)]
    assert len(np.unique([band_keys(page) for page in pages])) == 40 * BANDS


def test_case_marks_and_spaces_make_no_other_page():
    text = "Let x_1 be a prime - say, 7 - and y the rest; then the sum (over all of them) is at most 12, as we have shown for the first one."
    same = [
        text.upper(),
        text.replace(" ", "\n\t "),
        text.replace("-", "").replace(",", " ,").replace("(", '"'),
        text.replace(" - ", " – ")
        .replace(",", "،")
        .replace("(", "“")
        .replace(")", "”")
        .replace(" ", "\u00a0"),
    ]
    assert [band_keys(one).tolist() for one in same] == [band_keys(text).tolist()] * len(same)
    assert band_keys(text).all()


def test_marks_of_chinese_make_no_other_page():
    marked = CHINESE.replace("且", ",且").replace("证明", "。证明:") + "。"
    assert band_keys(marked).tolist() == band_keys(CHINESE).tolist()


def test_tables_of_other_numbers_are_other_pages():
    tables = ["n value of f at n " + " ".join(f"{i} {i * k + 1}" for i in range(50)) for k in (3, 5)]
    assert not share_a_key(*tables)


def test_a_text_of_few_shingles_has_no_key():
    enough = words(Random(0), MIN_SHINGLES + SHINGLE - 1)
    assert band_keys(" ".join(enough)).all() and not band_keys(" ".join(enough[:-1])).any()
    assert band_keys(CHINESE[: len(enough)]).all() and not band_keys(CHINESE[: len(enough) - 1]).any()
    assert not band_keys("").any() and not band_keys("one two").any()


def test_a_chinese_page_with_another_character_shares_a_key_and_another_page_none():
    rng = Random(0)
    for _ in range(20):
        page = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(300))
        assert share_a_key(page, page[:90] + "甲" + page[91:])
    assert not share_a_key(CHINESE, CHINESE[::-1])


@given(st.text(max_size=300) | st.lists(st.text(max_size=5), min_size=20).map(" ".join))
def test_any_text_has_all_keys_or_none(text):
    keys = band_keys(text)
    assert keys.dtype == np.uint64 and keys.shape == (BANDS,)
    assert keys.all() or not keys.any()
    assert band_keys(text + "\ud800 ").tolist() == keys.tolist() or "\ud800" not in text


def test_every_process_and_version_has_the_same_keys():
    """Others would not find the duplicates among shards made before an update of Python, numpy or rensa."""
    code = (
        "from dsm_jax.mine.near_duplicates import band_keys\n"
        f"for text in (' '.join(f'word{{i}}' for i in range(99)), {CHINESE!r}): print(*band_keys(text)[[0, 4, 8]])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env={"PYTHONHASHSEED": "7"}
    ).stdout
    assert [list(map(int, line.split())) for line in printed.splitlines()] == [
        [9879869997976817620, 15069790872741210009, 18129241281277269362],
        [1305864987160417481, 1686761078818328062, 13352970628764688812],
    ]
