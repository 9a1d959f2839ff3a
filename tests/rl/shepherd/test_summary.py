"""What labels look like and how right they are, on cases counted by hand."""

from __future__ import annotations

import pytest

from dsm_jax.rl.shepherd.estimation import estimate, search
from dsm_jax.rl.shepherd.labelling import StepLabels
from dsm_jax.rl.shepherd.summary import Summary, summarize
from dsm_jax.rl.steps.labelled import Labelled


def labelled(labels: tuple[float, ...], draws: tuple[str, ...], question: str = "q") -> StepLabels:
    ends = tuple(range(1, len(labels) + 1))
    return StepLabels(Labelled("p", "x" * len(labels), ends, labels, question, "7"), draws)


ROWS = [
    labelled((1, 1, 0), ("01", "11", "")),
    labelled((0, 0, 0), ("00", "00", "")),
    labelled((1, 1), ("10", "")),
    labelled((1, 0), ("10", ""), "unknown"),
]


def truth(one: Labelled):
    known = {(1, 1, 0): (True, False, False), (0, 0, 0): (True, False, False), (1, 1): (True, True)}
    return None if one.question == "unknown" else known[one.labels]


def test_positions_and_first_bad_steps() -> None:
    numbers = summarize(ROWS, Summary(2))
    assert numbers["positions"] == {"1": [3, 4], "2": [2, 4], "3": [0, 2]}
    assert numbers["first_bad"] == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert numbers["truth"] == {}


def test_labels_beside_the_truth() -> None:
    found = summarize(ROWS, Summary(2, truth, kept=True))["truth"]
    value = {
        name: {key: one[key]["value"] for key in ("accuracy", "balanced_accuracy", "majority")}
        for name, one in found.items()
    }
    # truth of all steps: 1 0 0, 1 0 0, 1 1; labels: 1 1 0, 0 0 0, 1 1
    assert value["all"] == pytest.approx({"accuracy": 6 / 8, "balanced_accuracy": 3 / 4, "majority": 4 / 8})
    assert (found["all"]["steps"], found["all"]["solutions"], found["all"]["true"]) == (8, 3, 0.5)
    # completed steps: truth 1 0, 1 0, 1; first draws: 0 1, 0 0, 1; any of both: 1 1, 0 0, 1; a half of both: the same
    assert value["completed"]["majority"] == pytest.approx(3 / 5)
    accuracy = {name: one["accuracy"] for name, one in value.items() if name[0] in "hs"}
    assert accuracy == pytest.approx({"hard 1": 2 / 5, "hard 2": 3 / 5, "soft 1": 2 / 5, "soft 2": 3 / 5})


def test_estimates() -> None:
    hits = [False, True, False, False]
    assert [estimate(hits, "hard", n) for n in (1, 2, 4)] == [0, 1, 1]
    assert [estimate(hits, "soft", n) for n in (1, 2, 4)] == [0, 0.5, 0.25]


@pytest.mark.parametrize("steps", range(1, 40))
def test_a_search_finds_every_first_bad_step(steps: int) -> None:
    for first_bad in range(steps):
        asked: dict[int, bool] = {}
        while (found := search(asked.get, steps)).ask is not None:
            assert found.ask not in asked and found.ask < steps - 1
            asked[found.ask] = found.ask < first_bad
        assert found.first_bad == first_bad and len(asked) <= (steps - 1).bit_length()
