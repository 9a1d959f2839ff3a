"""The corpus's card: its numbers are counted from the rows, and what a host is named is text."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.corpus.card import MOST_DOMAINS, CorpusCounts, card

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "domain": st.sampled_from(["a.org", "b.org", "", "c.org"]),
            "language": st.sampled_from(["en", "zh", ""]),
            "iteration": st.integers(1, 3),
            "words": st.integers(1, 99),
        }
    )
)


@given(ROWS)
def test_counts_of_rows_as_they_pass(rows):
    counts = CorpusCounts()
    assert list(counts.counted(iter(rows))) == rows
    summary = counts.summary()
    assert summary["pages_kept"] == len(rows) and summary["tokens_kept"] == sum(row["words"] for row in rows)
    assert summary["corpus_domains"] == len({row["domain"] for row in rows})
    for name, items in summary["corpus_by"].items():
        assert dict(map(tuple, items)) == Counter(str(row[name]) for row in rows)
        assert items == sorted(items, key=lambda item: (-item[1], item[0]))


def test_of_very_many_domains_the_largest_are_listed():
    rows = [
        {"domain": f"site{i}.org", "language": "en", "iteration": 1, "words": 1}
        for i in range(150)
        for _ in range(i + 1)
    ]
    counts = CorpusCounts()
    assert sum(1 for _ in counts.counted(rows)) == len(rows)
    summary = counts.summary()
    assert summary["corpus_domains"] == 150 and len(summary["corpus_by"]["domain"]) == MOST_DOMAINS
    assert summary["corpus_by"]["domain"][0] == ["site149.org", 150]


def funnel(**changes):
    return {
        "records": 1234,
        "pages_in": 1111,
        "pages_unique": 1000,
        "iterations": [{"iteration": 1, "pages_kept": 70}, {"iteration": 2, "pages_kept": 80}],
        "pages_kept": 77,
        "tokens_kept": 123456,
        "corpus_domains": 3,
        "corpus_by": {
            "domain": [["a.org", 70], ["", 4], ["c.org", 3]],
            "language": [["en", 70], ["", 7]],
            "iteration": [["1", 60], ["2", 17]],
        },
        "benchmarks": ["CMATH", "GSM8K"],
        "contamination": {
            "hits": 5,
            "pages_touched": 4,
            "lines_removed": 6,
            "pages_dropped": 3,
            "wet_text_kept": 0,
        },
    } | changes


def tables(text):
    """{title: rows of cells} of the Markdown's tables."""
    found = {}
    for part in text.split("\n## ")[1:]:
        title, *lines = part.split("\n")
        rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
        found |= {title: rows[1:]} if rows else {}
    return found


def test_the_card_says_what_came_out_and_how():
    text = card(funnel())
    assert "77 pages with 123,456 words" in text and "3 domains" in text
    found = tables(text)
    assert found["How it came about"] == [
        ["records read", "1,234"],
        ["pages with HTML or text", "1,111"],
        ["unique, with text", "1,000"],
        ["collected by iteration 1", "70"],
        ["collected by iteration 2", "80"],
        ["after decontamination", "77"],
    ]
    assert found["By domain, the largest"] == [["a.org", "70"], ["(none)", "4"], ["c.org", "3"]]
    assert found["By language"] == [["en", "70"], ["(none)", "7"]]
    assert found["By iteration"] == [["1", "60"], ["2", "17"]]
    assert "(CMATH, GSM8K): 5 found, 6 lines removed from 4 pages, 3 pages dropped" in text
    for word in ("Licences", "Robots", "Personal data"):
        assert word in text


def test_without_benchmarks_the_card_says_so_first_of_all():
    assert "not decontaminated" in card(funnel(benchmarks=[]))
    assert "not decontaminated" not in card(funnel())


@pytest.mark.parametrize(
    "host", ["a|b.org", "<script>alert(1)</script>.org", "[x](javascript:y).org", "`a`.org", "![x](http:y)"]
)
def test_a_host_of_any_name_is_a_cell_of_text(host):
    text = card(funnel(corpus_by=funnel()["corpus_by"] | {"domain": [[host, 70], ["b.org", 7]]}))
    line = next(line for line in text.partition("## By domain")[2].split("\n") if line.endswith("| 70 |"))
    assert line.count("|") - line.count("\\|") == 3
    for mark in "<[`!":
        assert mark not in line.replace("\\" + mark, "")
    assert ["b.org", "7"] in tables(text)["By domain, the largest"]
