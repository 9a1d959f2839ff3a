"""What can be set: budgets by iteration, and values that are none."""

from dataclasses import replace

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.config import PRESETS, MineConfig


@pytest.mark.parametrize(
    ("options", "budgets"),
    [
        ({"keep_tokens": (10, 20), "keep_share": 1.0}, [10, 20, 20]),
        ({"keep_tokens": (10, 20), "keep_share": 0.15}, [10, 15, 15]),
        ({"keep_tokens": (), "keep_share": 0.25}, [25, 25, 25]),
        ({"keep_tokens": (), "keep_share": 0.0}, [0, 0, 0]),
        ({"keep_tokens": (), "keep_share": 1.0}, [None, None, None]),
    ],
)
def test_the_last_budget_repeats_and_no_more_than_the_share_is_kept(options, budgets):
    config = replace(MineConfig(), **options)
    assert [config.budget(iteration, lambda: 100) for iteration in (1, 2, 3)] == budgets


def test_a_crawls_tokens_are_counted_only_where_a_share_of_them_is_asked_for():
    """Counting them is one more pass over the crawl."""

    def count():
        raise AssertionError

    for keep_tokens in ((10, 20), ()):
        replace(MineConfig(), keep_tokens=keep_tokens, keep_share=1.0).budget(1, count)
        with pytest.raises(AssertionError):
            replace(MineConfig(), keep_tokens=keep_tokens, keep_share=0.5).budget(1, count)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("keep_share", (-0.1, 1.5, float("nan"))),
        ("domain_share", (2,)),
        ("accept_share", (-1,)),
        ("stop_share", (98,)),
        ("min_score", (1.1,)),
        ("most_rejected", (-0.5,)),
        ("iterations", (0,)),
        ("max_seed_pages", (0, -1)),
        ("domain_min_pages", (0,)),
        ("keep_tokens", ((0,), (5, -1))),
    ],
)
def test_a_value_that_is_none_is_one_line_with_the_option(option, values):
    for value in values:
        with pytest.raises(UserError, match=f"--{option.replace('_', '-')} ") as caught:
            replace(PRESETS["default"], **{option: value})
        assert "\n" not in str(caught.value)


def test_paper_preset():
    paper = MineConfig()
    assert (paper.iterations, paper.stop_share, paper.domain_share, paper.max_seed_pages) == (
        4,
        0.98,
        0.10,
        500_000,
    )
    assert paper.negatives_by == "page" and paper.domain_min_pages == 1 and not paper.grams_need_words
    assert paper.keep_tokens[:2] == (40 * 10**9, 89 * 10**9)
