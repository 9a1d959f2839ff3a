"""Table 10 of DeepSeekMath (section 5.2.1), and the methods beside it: what each one is made of.

The reward of "outcome" is the run's: a rule (1-0) or an outcome reward model; the paper has PPO and GRPO with models. With a
rule's reward REINFORCE without a baseline is Online RFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsm_jax.rl.paradigm import coefficients, credit, objectives
from dsm_jax.rl.paradigm.credit import Credit
from dsm_jax.rl.paradigm.objectives import Coefficient, KnownLoss
from dsm_jax.rl.paradigm.sources import PolicySamples, RightSamples, SamplePairs, Source, WorkedSolutions

RewardKind = Literal["none", "rule", "outcome", "steps"]


@dataclass(frozen=True)
class Ascent:
    """How a policy is made more likely to write what it is credited for."""

    coefficient: Coefficient
    loss: KnownLoss  # whose gradient the coefficient gives
    needs_reference: bool = False
    needs_critic: bool = False  # the reference is then in the reward, not in the loss


LIKELIHOOD = Ascent(coefficients.as_given, objectives.likelihood_loss)
PREFERENCE = Ascent(coefficients.preference, objectives.preference_loss, needs_reference=True)
PREFERENCE_OF_SUMS = Ascent(
    coefficients.preference_of_sums, objectives.preference_loss_of_sums, needs_reference=True
)
CLIPPED = Ascent(coefficients.clipped, objectives.clipped_loss, needs_reference=True, needs_critic=True)
RELATIVE = Ascent(coefficients.group_relative, objectives.group_relative_loss, needs_reference=True)


@dataclass(frozen=True)
class Method:
    """A row of the table. Its gradient coefficient is in two parts: what does not change in an update, and the rest."""

    source: type[Source]
    reward: RewardKind  # nobody's, 0 or 1 by rule, any number for the whole, or one for each step
    credit: Credit
    ascent: Ascent

    @property
    def in_pairs(self) -> bool:
        return self.source is SamplePairs

    @property
    def needs_reference(self) -> bool:
        return self.ascent.needs_reference

    @property
    def needs_critic(self) -> bool:
        return self.ascent.needs_critic

    @property
    def reference_in_loss(self) -> bool:
        return self.needs_reference and not self.needs_critic


# fmt: off
METHODS = {
    #                            data source      reward     gradient coefficient
    "sft":                Method(WorkedSolutions, "none",    credit.all_of_it,        LIKELIHOOD),
    "rft":                Method(RightSamples,    "rule",    credit.right_only,       LIKELIHOOD),
    "dpo":                Method(SamplePairs,     "rule",    credit.better_and_worse, PREFERENCE),
    "dpo_of_sums":        Method(SamplePairs,     "rule",    credit.better_and_worse, PREFERENCE_OF_SUMS),
    "online_rft":         Method(PolicySamples,   "rule",    credit.right_only,       LIKELIHOOD),
    "reinforce":          Method(PolicySamples,   "outcome", credit.reward_itself,    LIKELIHOOD),
    "reinforce_baseline": Method(PolicySamples,   "outcome", credit.above_group_mean, LIKELIHOOD),
    "ppo":                Method(PolicySamples,   "outcome", credit.at_last_token,    CLIPPED),
    "ppo_steps":          Method(PolicySamples,   "steps",   credit.at_step_ends,     CLIPPED),
    "grpo":               Method(PolicySamples,   "outcome", credit.group_normalised, RELATIVE),
    "grpo_steps":         Method(PolicySamples,   "steps",   credit.steps_to_come,    RELATIVE),
}
# fmt: on
