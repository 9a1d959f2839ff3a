"""A GRPO update (DeepSeekMath, algorithm 1, lines 10 and 11): gradients summed over micro-batches, mu optimiser steps.

The first of the mu updates takes the present policy for the old one, so that its ratio is exactly 1, and keeps its
log-probabilities for the others. What needs the whole batch before the first gradient, the threshold of the top
entropies, costs a forward pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dsm_jax.mesh import batch_sharding, replicated
from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import param_shapes, param_shardings
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.metrics import Mean, Metrics, merge_metrics, metric_values
from dsm_jax.rl.objectives import grpo_loss, top_entropy_threshold
from dsm_jax.train.logps import TokenLogps, token_logps
from dsm_jax.train.optimizer import make_optimizer
from dsm_jax.train.step import TrainState, apply_gradients, put_batch, state_shardings


class Whole(NamedTuple):
    """What a micro-batch has to know of the whole batch."""

    rows: int
    tokens: int  # that the losses count
    entropy_threshold: jax.Array | None = None


class Learner:
    """The compiled programs of an update."""

    def __init__(self, config: GRPOTraining, model: ModelConfig, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.optimizer, self.schedule = make_optimizer(
            config.optimizer, config.loop.steps * config.num_iterations
        )
        self._gradients = make_gradients(config, model, mesh)
        self._apply = make_apply(model, self.optimizer, mesh)
        self._entropies = make_entropies(config, model, mesh)

    def update(
        self, train: TrainState, reference: Params, batch: Sequence[dict[str, np.ndarray]], rows: int
    ) -> tuple[TrainState, dict[str, float]]:
        """mu updates from the micro-batches of one rollout of so many rows: the new state and TRL's metrics."""
        merged: Metrics | None = None
        norms = []
        with jax.set_mesh(self.mesh):
            micros = [put_batch(micro, self.mesh) for micro in batch]
            whole = Whole(rows, sum(int(micro["mask"].sum()) for micro in batch))
            if self.config.loss.top_entropy_quantile < 1:
                whole = whole._replace(
                    entropy_threshold=self._threshold(train.params, reference, micros, batch)
                )
            for _ in range(self.config.num_iterations):
                gradients = None
                for i, micro in enumerate(micros):
                    gradients, metrics, logps = self._gradients(
                        gradients, train.params, reference, micro, whole
                    )
                    merged = metrics if merged is None else merge_metrics(merged, metrics)
                    micros[i] = {"old_logps": logps} | micro
                train, norm = self._apply(train, gradients)
                norms.append(norm)
        values = metric_values(jax.device_get(merged))
        values |= {"grad_norm": float(np.mean(jax.device_get(norms)))}
        return train, values | {"learning_rate": float(self.schedule(int(train.step) - 1))}

    def _threshold(
        self,
        params: Params,
        reference: Params,
        micros: Sequence[Mapping[str, jax.Array]],
        batch: Sequence[dict[str, np.ndarray]],
    ) -> jax.Array:
        found = [self._entropies(params, reference, micro) for micro in micros]
        entropies = np.concatenate([part.ravel() for part in jax.device_get(found)])
        mask = np.concatenate([micro["mask"].ravel() > 0 for micro in batch])
        return top_entropy_threshold(entropies, mask, self.config.loss.top_entropy_quantile)


def make_gradients(config: GRPOTraining, model: ModelConfig, mesh: Mesh) -> Callable:
    """(sum so far or None, params, reference, micro-batch, Whole) -> (sum, metrics, log-probabilities [rows, T]).

    The old policy's log-probabilities are the micro-batch's `old_logps`; without them it is the present one. The reference's log-probabilities are computed in the same program, without a gradient. Of a model with LoRA,
    `params` is the part that trains, and the reference its base.
    """
    base = lora.plain(model)
    length = config.loss.max_completion_length or config.max_completion_length
    objective = replace(config.loss, max_completion_length=length)

    def loss(part: Params, reference: Params, batch: dict, whole: Whole) -> tuple[jax.Array, tuple]:
        policy = _logps(config, model, lora.whole(model, reference, part), batch)
        ref = jax.lax.stop_gradient(_logps(config, base, reference, batch).logps)
        output = grpo_loss(
            policy.logps, batch.get("old_logps"), ref, batch["advantages"], batch["mask"], objective,
            sampler_logps=batch["sampler_logps"], entropies=policy.entropies,
            entropy_threshold=whole.entropy_threshold, denominators=(whole.rows, whole.tokens),
        )  # fmt: skip
        share = batch["segment_ids"][:, 0].sum() / whole.rows
        return output.loss, (output.metrics | {"loss": Mean(output.loss, share)}, policy.logps)

    def gradients(accumulated: Params, params: Params, reference: Params, batch: dict, whole: Whole) -> tuple:
        grads, measured = jax.grad(loss, has_aux=True)(params, reference, batch, whole)
        return jax.tree.map(jnp.add, accumulated, grads), *measured

    params = lora.trained(model, param_shardings(model, mesh))
    compiled = jax.jit(
        gradients,
        donate_argnums=0,
        in_shardings=(params, params, param_shardings(base, mesh), batch_sharding(mesh), None),
        out_shardings=(params, replicated(mesh), batch_sharding(mesh)),
    )
    zeros = jax.jit(
        lambda: jax.tree.map(lambda a: jnp.zeros(a.shape), lora.trained(model, param_shapes(model))),
        out_shardings=params,
    )

    def accumulate(accumulated: Params | None, *args: Any) -> tuple[Params, Metrics, jax.Array]:
        return compiled(zeros() if accumulated is None else accumulated, *args)

    return accumulate


def make_entropies(config: GRPOTraining, model: ModelConfig, mesh: Mesh) -> Callable:
    """(params, reference, micro-batch) -> entropies [rows, T], on every device whole."""

    def entropies(part: Params, reference: Params, batch: dict) -> jax.Array:
        return _logps(config, model, lora.whole(model, reference, part), batch).entropies

    params = lora.trained(model, param_shardings(model, mesh))
    base = param_shardings(lora.plain(model), mesh)
    return jax.jit(
        entropies, in_shardings=(params, base, batch_sharding(mesh)), out_shardings=replicated(mesh)
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


def _logps(config: GRPOTraining, model: ModelConfig, params: Params, batch: dict) -> TokenLogps:
    tokens, segment_ids = batch["tokens"], batch["segment_ids"]
    return token_logps(model, params, tokens, segment_ids, temperature=config.temperature, remat=config.remat)
