"""What labels look like, and how far they agree with a truth that is known. Plain functions of labelled solutions.

Left out on purpose: reading files, pictures, the measures themselves (reward_model/measures.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from dsm_jax.evaluate.at_k import usual_ks
from dsm_jax.rl.reward_model.measures import scored, step_measures
from dsm_jax.rl.shepherd.config import Estimate
from dsm_jax.rl.shepherd.estimation import estimate
from dsm_jax.rl.shepherd.labelling import StepLabels
from dsm_jax.rl.steps.labelled import Labelled

GOOD = 0.5  # a label from which on a step counts as good
ALL, COMPLETED = "all", "completed"  # steps: every one; those with completions, which last steps have not

Truth = Callable[[Labelled], Sequence[bool] | None]  # of each step; None where it is not known


@dataclass
class Beside:
    """Labels beside the truth, a row a solution."""

    labels: list[list[float]] = field(default_factory=list)
    truths: list[list[bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str, pairs: Iterable[tuple[float, bool]]) -> None:
        if pairs := list(pairs):
            self.labels.append([label for label, _ in pairs])
            self.truths.append([truth for _, truth in pairs])
            self.problems.append(problem)

    def numbers(self) -> dict[str, Any]:
        """reward_model.measures.StepMeasures, and the share of true steps."""
        data = scored(self.labels, self.truths, self.problems)
        return asdict(step_measures(data, threshold=GOOD)) | {"true": float(data.truths.mean())}


@dataclass
class Summary:
    """Takes labelled solutions one by one; numbers() are those of all."""

    most: int  # completions of each step
    truth: Truth = lambda one: None
    kept: bool = False  # whether all were drawn, so that labels from fewer can be read off
    solutions: int = 0
    positions: dict[int, list[int]] = field(default_factory=dict)  # of a step -> [good, all]
    first_bad: Counter[int] = field(default_factory=Counter)  # its number from 1 on; 0: none
    beside: dict[str, Beside] = field(default_factory=dict)  # by ALL, COMPLETED, "hard 4": estimate and n

    def add(self, one: StepLabels) -> None:
        self.solutions += 1
        good = [label >= GOOD for label in one.labelled.labels]
        for place, is_good in enumerate(good, start=1):
            counts = self.positions.setdefault(place, [0, 0])
            counts[0] += is_good
            counts[1] += 1
        self.first_bad[1 + good.index(False) if False in good else 0] += 1
        if (truths := self.truth(one.labelled)) is not None:
            self._add_beside(one, truths)

    def _add_beside(self, one: StepLabels, truths: Sequence[bool]) -> None:
        steps = list(zip(one.labelled.labels, truths, one.draws, strict=True))
        self._put(ALL, one, ((label, truth) for label, truth, _ in steps))
        self._put(COMPLETED, one, ((label, truth) for label, truth, drawn in steps if drawn))
        for kind in get_args(Estimate) if self.kept else ():
            for n in usual_ks(self.most):
                found = ((estimate(_hits(drawn), kind, n), truth) for _, truth, drawn in steps if drawn)
                self._put(f"{kind} {n}", one, found)

    def _put(self, name: str, one: StepLabels, pairs: Iterable[tuple[float, bool]]) -> None:
        self.beside.setdefault(name, Beside()).add(one.labelled.question, pairs)

    def numbers(self) -> dict[str, Any]:
        return {
            "solutions": self.solutions,
            "positions": {str(place): [*counts] for place, counts in sorted(self.positions.items())},
            "first_bad": {str(place): count for place, count in sorted(self.first_bad.items())},
            "truth": {name: one.numbers() for name, one in self.beside.items() if one.labels},
        }


def _hits(drawn: str) -> list[bool]:
    return [letter == "1" for letter in drawn]


def summarize(rows: Iterable[StepLabels], summary: Summary) -> dict[str, Any]:
    for row in rows:
        summary.add(row)
    return summary.numbers()
