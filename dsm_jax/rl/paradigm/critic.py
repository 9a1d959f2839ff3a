"""PPO's critic: a decoder as large as the policy that gives each token a value, its loss, and what PPO makes of it.

V_t is the value before token t is drawn: a scalar readout of the token before it, as of a reward model with a scalar head
(reward_model/readout.py). Its column is zero at first: so are all values. The critic starts from the policy's parameters.
Left out on purpose: a start from a reward model's; a trunk shared with the policy; updates of the critic alone before the
policy's first one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dsm_jax.mesh import batch_sharding
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import param_shardings
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.metrics import Metrics, masked_mean
from dsm_jax.rl.micro_batches import Arrays, of_completions
from dsm_jax.rl.objectives import LossOutput
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.gae import gae, token_rewards
from dsm_jax.rl.reward_model.readout import Readout, scalar_head, start_params, step_scores
from dsm_jax.rl.update import Forward, Learner, Objective, Whole, on_host, policy_logps
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.step import TrainState, abstract_state, put_batch, start_state

Columns = dict[str, list[np.ndarray]]  # of each completion's tokens, float32 [t], by name


class Values(NamedTuple):
    """fp32 [B, T], before each token; entry 0 is 0."""

    values: jax.Array


class Critic:
    """The compiled programs of PPO's other half."""

    def __init__(self, config: ParadigmTraining, model: ModelConfig, tokenizer: Tokenizer, mesh: Mesh):
        self.config, self.model, self.mesh = config, model, mesh
        self.readout = scalar_head(tokenizer, model)
        training = replace(config.with_beta(0.0), optimizer=config.critic)
        forward = partial(token_values, readout=self.readout)
        self.learner = Learner(training, model, mesh, value_objective(config.value_clip), forward)
        self.values = make_forward(training, model, mesh, forward)
        self.logps = make_forward(training, model, mesh, policy_logps)

    def start(self, params: Params) -> TrainState:
        """Step 0: a copy of the parameters, the readout's column zero."""
        params = start_params(self.model, params, self.readout, self.mesh)
        return start_state(self.model, self.learner.optimizer, self.mesh, params)

    def target(self) -> TrainState:
        """Shapes and shardings, for a restore."""
        return abstract_state(self.model, self.learner.optimizer, self.mesh)

    def columns(
        self,
        policy: Params,
        reference: Params | None,
        critic: Params,
        batch: Sequence[Arrays],
        placed: Sequence[np.ndarray],
    ) -> Columns:
        """advantages, returns and values of each completion's tokens. placed: the reward model's part of their rewards.

        reference: None where the KL has no weight.
        """
        masks = of_completions(batch, [micro["mask"] for micro in batch])
        values = self._of_completions(self.values, critic, batch)
        logps = self._of_completions(self.logps, policy, batch)
        refs = logps if reference is None else self._of_completions(self.logps, reference, batch)
        length = self.config.training.max_completion_length
        advantages, returns = _advantages(
            *(_padded(one, length) for one in (placed, values, logps, refs, masks)),
            self.config.training.loss.beta, self.config.gamma, self.config.lam,
        )  # fmt: skip
        lengths = [len(one) for one in placed]
        return {
            "advantages": [row[:t] for row, t in zip(np.asarray(advantages), lengths, strict=True)],
            "returns": [row[:t] for row, t in zip(np.asarray(returns), lengths, strict=True)],
            "values": values,
        }

    def _of_completions(self, program: Callable, params: Params, batch: Sequence[Arrays]) -> list[np.ndarray]:
        with jax.set_mesh(self.mesh):
            found = [on_host(program(params, put_batch(micro, self.mesh))) for micro in batch]
        return of_completions(batch, found)


def token_values(
    config: GRPOTraining, model: ModelConfig, params: Params, batch: dict, *, readout: Readout
) -> Values:
    """The score of the token before each token."""
    scores = step_scores(model, params, batch["tokens"], batch["segment_ids"], readout, config.remat)
    return Values(jnp.pad(scores[:, :-1], ((0, 0), (1, 0))))


def value_loss(
    values: jax.Array, returns: jax.Array, old_values: jax.Array, mask: jax.Array, clip: float
) -> jax.Array:
    """Half the squared error [B], a mean over each row's tokens as eq. 1 has it; with a clip above 0 the larger one of the
    value and of the value that has moved by at most so much (PPO's implementations)."""
    keep = mask.astype(bool)
    errors = (values - returns) ** 2
    if clip:
        moved = old_values + jnp.clip(values - old_values, -clip, clip)
        errors = jnp.maximum(errors, (moved - returns) ** 2)
    return 0.5 * jnp.where(keep, errors, 0.0).sum(axis=1) / jnp.maximum(keep.sum(axis=1), 1)


def value_objective(clip: float) -> Objective:
    """What the critic's Learner minimises."""

    def loss(critic: Values, _: jax.Array | None, batch: Mapping[str, Any], whole: Whole) -> LossOutput:
        values, mask, returns = critic.values, batch["mask"], batch["returns"]
        total = value_loss(values, returns, batch["values"], mask, clip).sum()
        keep = mask.astype(bool)
        metrics: Metrics = {
            "value": masked_mean(values, keep),
            "return": masked_mean(returns, keep),
            "error": masked_mean((values - returns) ** 2, keep),
        }
        return LossOutput(total / whole.rows, total, jnp.asarray(len(mask), total.dtype), metrics)

    return loss


def make_forward(config: GRPOTraining, model: ModelConfig, mesh: Mesh, forward: Forward) -> Callable:
    """(parameters, micro-batch) -> the first of what forward gives, [rows, T]."""

    def first(params: Params, batch: dict) -> jax.Array:
        return forward(config, model, params, batch)[0]

    shardings = param_shardings(model, mesh), batch_sharding(mesh)
    return jax.jit(first, in_shardings=shardings, out_shardings=batch_sharding(mesh))


@jax.jit
def _advantages(
    placed: jax.Array,
    values: jax.Array,
    logps: jax.Array,
    refs: jax.Array,
    mask: jax.Array,
    beta: float,
    gamma: float,
    lam: float,
) -> tuple[jax.Array, jax.Array]:
    return gae(token_rewards(placed, logps, refs, mask, beta), values, mask, gamma=gamma, lam=lam)


def _padded(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    found = np.zeros((len(arrays), length), np.float32)
    for row, array in zip(found, arrays, strict=True):
        row[: len(array)] = array
    return found
