"""What the methods' comparison asks, named before any run, and the answers: differences with intervals. Not a script.

Primary metric: the share of the held-out test problems answered right greedily after the last update. A finding is the
difference between two arms, problem by problem under the same seed; its 95% interval is of a bootstrap over seeds and
problems. It is reproduced where the interval lies above 0, refuted where it lies below, else undecided; and undecided it is
with fewer than LEAST_SEEDS seeds. The policy that all begin with and the reward models are one draw each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from dsm_jax.evaluate.scores import Interval, paired_bootstrap


class Arm(NamedTuple):
    """A method (rl/paradigm/method.py) with its reward: accuracy, or the trained model of a kind."""

    method: str
    reward: str = "accuracy"


ARMS = {
    "sft": Arm("sft"),
    "rft": Arm("rft"),
    "online_rft": Arm("online_rft"),
    "dpo": Arm("dpo"),
    "dpo_of_sums": Arm("dpo_of_sums"),
    "reinforce": Arm("reinforce"),
    "reinforce_baseline": Arm("reinforce_baseline"),
    "ppo": Arm("ppo", "outcome"),
    "ppo_steps": Arm("ppo_steps", "process"),
    "grpo_rule": Arm("grpo"),
    "grpo_model": Arm("grpo", "outcome"),
    "grpo_steps": Arm("grpo_steps", "process"),
}


@dataclass(frozen=True)
class Finding:
    """That one arm is better than another."""

    said: str  # in the paper
    better: str
    worse: str


FINDINGS = (
    Finding("online over offline: Online RFT above RFT (figure 5)", "online_rft", "rft"),
    Finding("GRPO above Online RFT (figure 5)", "grpo_model", "online_rft"),
    Finding("process above outcome supervision (figure 5)", "grpo_steps", "grpo_model"),
    Finding("a reward model's rewards above 1-0 (section 5.2.2)", "grpo_model", "grpo_rule"),
)
# Beside the paper's: the same questions with rewards that need no trained model.
BESIDE = (
    Finding("GRPO with 1-0 above Online RFT", "grpo_rule", "online_rft"),
    Finding("GRPO with 1-0 above REINFORCE with the group's mean", "grpo_rule", "reinforce_baseline"),
    Finding("process supervision above 1-0", "grpo_steps", "grpo_rule"),
    Finding("GRPO above PPO with the same outcome model", "grpo_model", "ppo"),
)

AT_K = "grpo_model"  # whose maj@K and pass@K are set against the start's (figure 7)
LEAST_SEEDS = 3  # for a verdict
Correct = Mapping[str, Mapping[int, Sequence[bool]]]  # arm -> seed -> verdicts on the same problems


def decided(finding: Finding, correct: Correct) -> dict[str, Any]:
    """The finding with the seeds that both arms have; where there are some, the difference in share, its interval and the
    verdict."""
    ours, theirs = correct.get(finding.better, {}), correct.get(finding.worse, {})
    seeds = sorted(ours.keys() & theirs.keys())
    found: dict[str, Any] = asdict(finding) | {"seeds": seeds}
    if not seeds:
        return found
    gap = paired_bootstrap(np.array([np.subtract(ours[seed], theirs[seed], dtype=float) for seed in seeds]))
    return found | asdict(gap) | {"verdict": verdict(gap, len(seeds))}


def decided_at_k(name: str, before: Sequence[float], after: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """What an arm's maj@K or pass@K is above the start's: values in 0..1 of the same problems, after by seed. The paper finds
    the first raised, and the second not: the latter an interval above 0 refutes, one below confirms."""
    gap = paired_bootstrap(np.array([np.subtract(one, before) for one in after.values()]))
    raised = verdict(gap, len(after))
    if name == "pass":
        raised = {"reproduced": "refuted", "refuted": "reproduced"}.get(raised, raised)
    return {"seeds": sorted(after), "verdict": raised} | asdict(gap)


def decided_gain(gaps: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """What an iteration of iterative GRPO adds: by seed the verdicts after it less those before it."""
    found = paired_bootstrap(np.array(list(gaps.values())))
    return {"seeds": list(gaps), "verdict": verdict(found, len(gaps))} | asdict(found)


def gain(correct: Mapping[int, Sequence[bool]], start: Sequence[bool]) -> Interval:
    """What an arm's verdicts are above those of the policy that all begin with."""
    return paired_bootstrap(np.array([np.subtract(one, start, dtype=float) for one in correct.values()]))


def verdict(found: Interval, seeds: int) -> str:
    if seeds < LEAST_SEEDS or found.low <= 0 <= found.high:
        return "undecided"
    return "reproduced" if found.low > 0 else "refuted"
