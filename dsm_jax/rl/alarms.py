"""Alarms: what a careful eye would see in the curves of a GRPO run while it is still cheap to stop it.

Each is a condition on an update's metrics. One that holds is a number, 1, in the update's row ("alarm/all_zero"), and a line
on stderr, of the first process, when it has not held for the last SILENT updates. Nothing is stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dsm_jax.processes import is_first_process

Metrics = Mapping[str, float]
SILENT = 10  # updates: what comes and goes is said once


@dataclass(frozen=True)
class AlarmOptions:
    """From where on an alarm is given."""

    kl: float = 1.0  # nats a token from the reference policy
    entropy: float = 0.1  # entropy a token, as a share of the run's first
    truncated: float = 0.5  # share of the completions that were cut at the limit
    # mean |log ratio| of the policy before its first update and the sampler, nats a token
    ratio: float = 0.05


class Alarm(NamedTuple):
    """A condition on (an update's metrics, the first update's, the options), and what is to be said, of the metrics."""

    holds: Callable[[Metrics, Metrics, AlarmOptions], bool]
    line: str


def _is_corrected(metrics: Metrics) -> bool:
    return "sampling/importance_sampling_ratio/mean" in metrics


ALARMS = {
    "all_zero": Alarm(
        lambda now, first, limit: now["reward"] == 0 and now["reward_std"] == 0,
        "all rewards are 0: nothing can be learned; does the model answer in the form that the reward wants (see "
        "completions/), and are the questions within its reach?",
    ),
    "no_spread": Alarm(
        lambda now, first, limit: now["frac_reward_zero_std"] == 1 and now["reward"] != 0,
        "in every group all rewards are equal (mean {reward:.3f}): all advantages are 0, nothing is learned; take other "
        "questions or a higher temperature",
    ),
    "kl": Alarm(
        lambda now, first, limit: now.get("kl", 0.0) > limit.kl,
        "KL to the reference is {kl:.3g} nats a token: the policy has left it; lower the learning rate or raise beta",
    ),
    "entropy": Alarm(
        lambda now, first, limit: now["entropy"] < limit.entropy * first["entropy"],
        "entropy has fallen to {entropy:.3g} nats a token, {entropy_share:.0%} of the first update's: completions of a group "
        "are nearly the same; lower the learning rate, or raise epsilon_high",
    ),
    "ratio": Alarm(
        lambda now, first, limit: (
            now["sampling/sampling_logp_difference/mean"] > limit.ratio and not _is_corrected(now)
        ),
        "the policy's probabilities are not those that were sampled from: {sampling/sampling_logp_difference/mean:.3g} nats a "
        "token apart; set importance_sampling_correction",
    ),
    "truncated": Alarm(
        lambda now, first, limit: now["completions/clipped_ratio"] > limit.truncated,
        "{completions/clipped_ratio:.0%} of the completions were cut at the limit: raise max_completion_length, or set "
        "mask_truncated_completions",
    ),
}


class Alarms:
    """The alarms of a run. first: the metrics of its first update, where it goes on."""

    def __init__(self, options: AlarmOptions, first: Metrics | None = None):
        self.options, self.first = options, first
        self._rang: dict[str, int] = {}  # the last update at which each held

    def __call__(self, step: int, metrics: Metrics) -> dict[str, float]:
        """The alarms that hold, as numbers of the update's row; those that have been silent are said."""
        self.first = metrics if self.first is None else self.first
        share = metrics["entropy"] / self.first["entropy"] if self.first["entropy"] else 1.0
        found = {name for name, alarm in ALARMS.items() if alarm.holds(metrics, self.first, self.options)}
        for name in sorted(found):
            if is_first_process() and step - self._rang.get(name, -SILENT) > SILENT:
                text = ALARMS[name].line.format_map({**metrics, "entropy_share": share})
                print(f"alarm at update {step}: {text}", file=sys.stderr, flush=True)
            self._rang[name] = step
        return {f"alarm/{name}": 1.0 for name in sorted(found)}
