"""An update (DeepSeekMath, algorithm 1, line 11): gradients summed over micro-batches, one optimiser step.

What is minimised is an Objective, by default GRPO's; what the model gives for it is a Forward, by default the
log-probabilities of the micro-batch's tokens. The first update of a rollout takes the present policy for the old one, so
that its ratio is exactly 1, and gives its log-probabilities for the others (mu > 1). What needs the whole batch before the
first gradient, the threshold of the top entropies, costs a forward pass of its own. With beta 0 nothing is computed of a
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh

from dsm_jax.mesh import batch_sharding, replicated
from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.flat import NOTHING
from dsm_jax.model.params import param_shapes, param_shardings
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.metrics import Mean, Metrics, merge_metrics, metric_values
from dsm_jax.rl.micro_batches import Arrays
from dsm_jax.rl.objectives import LossOutput, grpo_loss, top_entropy_threshold
from dsm_jax.train.logps import TokenLogps, token_logps
from dsm_jax.train.optimizer import make_optimizer
from dsm_jax.train.step import TrainState, apply_gradients, put_batch, state_shardings

# (.., parameters, micro-batch) -> a tuple of arrays [rows, T]
Forward = Callable[[GRPOTraining, ModelConfig, Params, dict], Any]


class Whole(NamedTuple):
    """What a micro-batch has to know of the whole batch."""

    rows: int
    tokens: int  # that the losses count
    entropy_threshold: jax.Array | None = None


# (what the forward pass gave, the reference's log-probabilities or None, micro-batch, Whole) -> the loss, which adds up over
# micro-batches
Objective = Callable[[Any, jax.Array | None, Mapping[str, Any], Whole], LossOutput]


class Learner:
    """The compiled programs of an update. objective, forward: None are GRPO's."""

    def __init__(
        self,
        config: GRPOTraining,
        model: ModelConfig,
        mesh: Mesh,
        objective: Objective | None = None,
        forward: Forward | None = None,
    ):
        self.config, self.mesh, self.objective, self.forward = config, mesh, objective, forward
        # XLA:CPU was seen to run out of threads where several programs of several devices are under way.
        self.is_many_cpus = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
        self.optimizer, self.schedule = make_optimizer(config.optimizer, config.loop.steps)
        self.gradients = make_gradients(config, model, mesh, objective, forward)
        self.apply = make_apply(model, self.optimizer, mesh)
        self._entropies = make_entropies(config, model, mesh)

    def update(
        self,
        train: TrainState,
        reference: Params | None,
        batch: Sequence[Arrays],
        rows: int,
        *,
        keep_logps: bool = False,
    ) -> Update:
        """An update from the micro-batches of a rollout with so many rows; all but the rollout's first hold old_logps.

        keep_logps: finish() gives the policy's log-probabilities, which take memory until then.
        """
        with jax.set_mesh(self.mesh):
            micros = [put_batch(micro, self.mesh) for micro in batch]
            whole = Whole(rows, sum(int(micro["mask"].sum()) for micro in batch))
            if self.config.loss.top_entropy_quantile < 1:
                threshold = self._threshold(train.params, reference, micros, batch)
                whole = whole._replace(entropy_threshold=threshold)
        return Update(self, train, reference, micros, whole, keep_logps)

    def _threshold(
        self,
        params: Params,
        reference: Params | None,
        micros: Sequence[Mapping[str, jax.Array]],
        batch: Sequence[Arrays],
    ) -> jax.Array:
        found = [self._entropies(params, reference, micro) for micro in micros]
        entropies = np.concatenate([part.ravel() for part in jax.device_get(found)])
        mask = np.concatenate([micro["mask"].ravel() > 0 for micro in batch])
        return top_entropy_threshold(entropies, mask, self.config.loss.top_entropy_quantile)


class Update:
    """An update under way: its micro-batches are dispatched one at a time, as others leave the devices room."""

    def __init__(
        self,
        learner: Learner,
        train: TrainState,
        reference: Params | None,
        micros: Sequence[dict],
        whole: Whole,
        keep_logps: bool,
    ):
        self.learner, self.train, self.reference, self.whole = learner, train, reference, whole
        self.keep_logps = keep_logps
        self._left, self._gradients = iter(micros), None
        self._measured: list[Metrics] = []
        self._logps: list[jax.Array] = []

    def advance(self) -> bool:
        """Dispatches the next micro-batch; False where there is none."""
        micro = next(self._left, None)
        if micro is None:
            return False
        with jax.set_mesh(self.learner.mesh):
            self._gradients, metrics, logps = self.learner.gradients(
                self._gradients, self.train.params, self.reference, micro, self.whole
            )
        self._measured.append(metrics)
        if self.keep_logps:
            self._logps.append(logps)
        if self.learner.is_many_cpus:
            jax.block_until_ready(self._gradients)
        return True

    def finish(self) -> tuple[TrainState, dict[str, float], list[np.ndarray]]:
        """The new state, TRL's metrics, and where they are kept the policy's log-probabilities before the
        update, by micro-batch."""
        while self.advance():
            pass
        with jax.set_mesh(self.learner.mesh):
            train, norm = self.learner.apply(self.train, self._gradients)
        self._gradients = None  # others may need their memory while somebody holds this
        values = metric_values(reduce(merge_metrics, jax.device_get(self._measured)))
        values |= {
            "grad_norm": float(norm),
            "learning_rate": float(self.learner.schedule(int(train.step) - 1)),
        }
        return train, values, [on_host(one) for one in self._logps]


def grpo_objective(config: GRPOTraining) -> Objective:
    """Eq. 3, or its variant. The old policy's log-probabilities are the micro-batch's `old_logps`; without them it is the
    present one."""
    length = config.loss.max_completion_length or config.max_completion_length
    options = replace(config.loss, max_completion_length=length)

    def loss(policy: TokenLogps, ref: jax.Array | None, batch: Mapping[str, Any], whole: Whole) -> LossOutput:
        return grpo_loss(
            policy.logps, batch.get("old_logps"), ref, batch["advantages"], batch["mask"], options,
            sampler_logps=batch["sampler_logps"], entropies=policy.entropies,
            entropy_threshold=whole.entropy_threshold, denominators=(whole.rows, whole.tokens),
        )  # fmt: skip

    return loss


def gradient_program(
    config: GRPOTraining,
    model: ModelConfig,
    mesh: Mesh,
    objective: Objective | None = None,
    forward: Forward | None = None,
) -> Any:
    """(sum so far, params, reference, micro-batch, Whole) -> (sum, metrics, log-probabilities [rows, T]), jitted.

    The reference's log-probabilities are computed in the same program, without a gradient, and with beta 0 not at all. Of a
    model with LoRA, `params` is the part that trains, and the reference its base. objective, forward: None are GRPO's; in
    place of log-probabilities comes the first of what forward gives.
    """
    base = lora.plain(model)
    objective, forward = objective or grpo_objective(config), forward or policy_logps

    def loss(part: Params, reference: Params | None, batch: dict, whole: Whole) -> tuple[jax.Array, tuple]:
        policy = forward(config, model, lora.whole(model, reference, part), batch)
        has_kl = config.loss.beta > 0
        ref = jax.lax.stop_gradient(policy_logps(config, base, reference, batch).logps) if has_kl else None
        output = objective(policy, ref, batch, whole)
        share = batch["segment_ids"].max(axis=1).sum() / whole.rows
        return output.loss, (output.metrics | {"loss": Mean(output.loss, share)}, policy[0])

    def gradients(
        accumulated: Params, params: Params, reference: Params | None, batch: dict, whole: Whole
    ) -> tuple:
        grads, measured = jax.grad(loss, has_aux=True)(params, reference, batch, whole)
        return jax.tree.map(jnp.add, accumulated, grads), *measured

    params = lora.trained(model, param_shardings(model, mesh))
    return jax.jit(
        gradients,
        donate_argnums=0,
        in_shardings=(params, params, _reference_shardings(config, model, mesh), batch_sharding(mesh), None),
        out_shardings=(params, replicated(mesh), batch_sharding(mesh)),
    )


def make_gradients(
    config: GRPOTraining,
    model: ModelConfig,
    mesh: Mesh,
    objective: Objective | None = None,
    forward: Forward | None = None,
) -> Callable:
    """gradient_program, which None begins a sum for."""
    compiled = gradient_program(config, model, mesh, objective, forward)
    zeros = jax.jit(
        lambda: jax.tree.map(lambda a: jnp.zeros(a.shape), lora.trained(model, param_shapes(model))),
        out_shardings=lora.trained(model, param_shardings(model, mesh)),
    )

    def accumulate(accumulated: Params | None, *args: Any) -> tuple[Params, Metrics, jax.Array]:
        return compiled(zeros() if accumulated is None else accumulated, *args)

    return accumulate


def make_entropies(config: GRPOTraining, model: ModelConfig, mesh: Mesh) -> Callable:
    """(params, reference, micro-batch) -> entropies [rows, T], on every device whole."""

    def entropies(part: Params, reference: Params | None, batch: dict) -> jax.Array:
        return policy_logps(config, model, lora.whole(model, reference, part), batch).entropies

    params = lora.trained(model, param_shardings(model, mesh))
    reference = _reference_shardings(config, model, mesh)
    return jax.jit(
        entropies, in_shardings=(params, reference, batch_sharding(mesh)), out_shardings=replicated(mesh)
    )


def make_apply(model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> Callable:
    """(TrainState, gradients) -> (TrainState, gradient norm); the state's buffers are donated."""
    shardings = state_shardings(model, optimizer, mesh)
    return jax.jit(
        partial(apply_gradients, optimizer),
        donate_argnums=0,
        in_shardings=(shardings, shardings.params),
        out_shardings=(shardings, replicated(mesh)),
    )


def policy_logps(config: GRPOTraining, model: ModelConfig, params: Params, batch: dict) -> TokenLogps:
    """The Forward of policies: of the micro-batch's tokens, at the sampler's temperature."""
    return token_logps(
        model, params, batch["tokens"], batch["segment_ids"],
        temperature=config.temperature, remat=config.remat, shared=batch.get("shared", NOTHING),
    )  # fmt: skip


def on_host(array: jax.Array) -> np.ndarray:
    """All of an array, in every process."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(process_allgather(array, tiled=True))


def _reference_shardings(config: GRPOTraining, model: ModelConfig, mesh: Mesh) -> Params | None:
    return param_shardings(lora.plain(model), mesh) if config.holds_reference else None
