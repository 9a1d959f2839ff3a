"""Rows of samples on the disk, and what is counted of them, against numbers worked out by hand."""

import json

import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.samples import by_problem, chunk_file, read_samples, write_samples
from dsm_jax.evaluate.scores import share
from dsm_jax.evaluate.summary import summarize
from tests.evaluate.rows import sample


def test_rows_come_back_in_the_order_of_chunks(tmp_path):
    texts = ["line\nbreak\u2028and 三", "half a character \ud800", "\x00"]
    rows = [sample(str(i), response=text) for i, text in enumerate(texts)]
    for number in (1, 0):
        write_samples(chunk_file(tmp_path, number), rows[number::2])
    found = read_samples(tmp_path)
    assert [row.id for row in found] == ["0", "2", "1"]
    assert [row.response for row in found] == [texts[0], texts[2], "half a character ?"]


@pytest.mark.parametrize("line", ["{", '{"id": 1}', "[]"])
def test_a_damaged_row_is_named(tmp_path, line):
    write_samples(chunk_file(tmp_path, 0), [sample("a")])
    with chunk_file(tmp_path, 0).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"000000.jsonl:2: not a sample's row"):
        read_samples(tmp_path)


def test_accuracy_is_the_mean_over_problems_with_wilsons_interval():
    rows = [sample(str(i), right=i < 6) for i in range(20)]
    summary = summarize(rows, [1])
    wanted = share([i < 6 for i in range(20)])
    assert summary["accuracy"]["strict"] == {"n": 20, "value": 0.3, "low": wanted.low, "high": wanted.high}
    assert summary["problems"] == 20 and "at_k" not in summary and "by_subject" not in summary


def test_problems_that_cannot_be_scored_are_counted_and_left_out():
    rows = [sample("a"), sample("b", right=None), sample("c", right=False, extracted=None, finish="length")]
    rows[1] = sample("b", correct={"strict": None, "flexible": False})
    summary = summarize(rows, [1])
    assert summary["unscored"] == {"strict": 1, "flexible": 0}
    assert summary["accuracy"]["strict"]["n"] == 2 and summary["accuracy"]["flexible"][
        "value"
    ] == pytest.approx(1 / 3)
    assert summary["finish"] == {"length": 1, "stop": 2} and summary["no_answer"] == 1


def test_groups_are_told_apart_where_there_are_several():
    rows = [sample(str(i), right=i % 2 == 0, subject="AB"[i % 2], level=str(i // 2)) for i in range(8)]
    summary = summarize(rows, [1])
    assert {name: score["value"] for name, score in summary["by_subject"].items()} == {"A": 1.0, "B": 0.0}
    assert {name: score["n"] for name, score in summary["by_level"].items()} == {
        "0": 2,
        "1": 2,
        "2": 2,
        "3": 2,
    }
    assert "by_language" not in summary


def test_every_k_comes_from_one_set_of_samples():
    """Votes 0, 0, 1, none; the first answer is right: maj@4 is certain, maj@1 a half, pass@2 is 1 - C(2,2)/C(4,2)."""
    rows = [sample("a", n, vote=vote, right=vote == 0) for n, vote in enumerate([0, 0, 1, None])]
    rewards = {("a", n): reward for n, reward in enumerate([0.1, 0.2, 0.9, 0.0])}
    scores = summarize(rows, [1, 2, 4], rewards)["at_k"]
    assert scores["1"]["maj"]["value"] == pytest.approx(0.5)
    assert scores["4"]["maj"]["value"] == pytest.approx(1)
    assert scores["2"]["pass"]["value"] == pytest.approx(5 / 6)
    assert scores["4"]["best"]["value"] == 0 and scores["4"]["weighted_maj"]["value"] == 0
    with pytest.raises(UserError, match="--rewards: none of gsm8k zero_shot_cot, id a, sample 3"):
        summarize(rows, [1], {("a", n): 1.0 for n in range(3)})


def test_a_problem_keeps_its_samples_together():
    rows = [sample(str(i), n) for i in range(3) for n in range(2)]
    assert [[row.sample for row in one] for one in by_problem(rows)] == [[0, 1]] * 3
    assert json.dumps(summarize(rows, [1, 2]))


def test_nothing_that_can_be_scored_gives_no_number():
    rows = [sample("a", n, right=None) for n in range(2)]
    summary = summarize(rows, [1, 2])
    assert summary["accuracy"] == {} and "at_k" not in summary
