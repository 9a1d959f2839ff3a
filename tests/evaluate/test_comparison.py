"""Two evaluations, paired by problem."""

import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.comparison import compare
from dsm_jax.evaluate.scores import paired_difference, paired_test
from tests.evaluate.rows import sample


def run(rights: str, **changes):
    return [
        sample(str(i), right={"+": True, "-": False, "?": None}[c], **changes) for i, c in enumerate(rights)
    ]


def test_pairs_count_and_not_the_order():
    ours, theirs = run("++-+-+++"), run("+--+--++")
    found = compare(ours, list(reversed(theirs)), "strict")
    a, b = ([row.correct["strict"] for row in rows] for rows in (ours, theirs))
    assert found.difference == paired_difference(a, b) and found.p == paired_test(a, b)
    assert found.gained == ("1", "5") and found.lost == () and found.unpaired == 0
    assert (
        found.verdict == "undecided" and compare(run("+" * 60), run("-" * 60), "strict").verdict == "better"
    )
    assert compare(run("-" * 60), run("+" * 60), "strict").verdict == "worse"


def test_problems_of_one_run_only_are_counted():
    found = compare(run("++?+"), run("-+++--"), "strict")
    assert found.ours.n == found.theirs.n == 3 and found.unpaired == 3
    with pytest.raises(UserError, match="no problem is in both"):
        compare(run("++"), run("++", gold="8"), "strict")


def test_shares_of_several_answers_are_compared():
    ours = [sample("a", n, right=n < 3) for n in range(4)] + [sample("b", n) for n in range(4)]
    theirs = [sample("a", right=True), sample("b", right=False)]
    found = compare(ours, theirs, "strict")
    assert found.ours.value == 0.875 and found.theirs.value == 0.5
    assert found.gained == ("b",) and found.lost == ("a",)
