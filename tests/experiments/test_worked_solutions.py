"""worked_solutions.py: one slip in a solution, what follows from it, and the truth of each step."""

from __future__ import annotations

import random

import pytest

from tests.experiments.scripts import load_script


@pytest.fixture(scope="module")
def script():
    return load_script("worked_solutions")


@pytest.mark.parametrize("setting", ["TINY_MODEL", "STEPS_MODEL", "STEPS_SMOKE_MODEL"])
def test_labels_are_true_up_to_the_slip_and_seldom_behind_it(script, setting):
    small_model = load_script("small_model")
    source = small_model.questions(getattr(small_model, setting), "sft", 0)
    rows = list(script.worked_solutions(source, 200, 0))
    assert len(rows) == 400 and rows == list(script.worked_solutions(source, 200, 0))
    late = 0
    for number, row in enumerate(rows):
        worked = source[number // 2].solution.splitlines()
        same = [ours == true for ours, true in zip(row.completion[1:].splitlines(), worked, strict=True)]
        until = same.index(False) if False in same else len(same)
        assert all(row.labels[:until]) and list(row.labels) == sorted(row.labels, reverse=True)
        assert row.completion.splitlines()[-1] == worked[-1] or not row.labels[-1]
        late += (
            sum(row.labels) > until
        )  # a true equation of the problem's own numbers, though not the one that it needs
    assert late < 20
    assert 0.25 < sum(all(row.labels) for row in rows) / 400 < 0.45


def test_what_follows_from_a_slip_stands_behind_it(script):
    lines = ["Pages: 3*4=12", "Left: 12-2=10", "The answer is \\boxed{10}."]
    found = [script._with_slip(lines, random.Random(seed)) for seed in range(60)]
    carried = 0
    for one in found:
        at = next(i for i, line in enumerate(one) if line != lines[i])
        if at == 0 and one[1] != lines[1]:
            pages = one[0].split("=")[1]
            assert one[1].startswith(f"Left: {pages}-2=")
            if int(pages) >= 2:
                assert one[2] == f"The answer is \\boxed{{{int(pages) - 2}}}."
                carried += 1
    assert carried > 5
