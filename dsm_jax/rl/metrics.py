"""Metrics of a loss that add up exactly over micro-batches and devices: means as sums with what divides them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mean(NamedTuple):
    """A metric that is a mean: its sum and what to divide by. Both add up over micro-batches."""

    sum: jax.Array
    denominator: jax.Array


class Max(NamedTuple):
    """A metric that is a maximum; -inf where nothing was measured."""

    value: jax.Array


class Min(NamedTuple):
    """A metric that is a minimum; inf where nothing was measured."""

    value: jax.Array


Metric = Mean | Max | Min
Metrics = dict[str, Metric]


def masked_mean(values: jax.Array, keep: jax.Array) -> Mean:
    """Over what `keep` marks."""
    values = jax.lax.stop_gradient(jnp.where(keep, values, 0))
    return Mean(values.sum(), keep.sum())


def lowest(values: jax.Array, keep: jax.Array) -> Min:
    """Over what `keep` marks."""
    return Min(jax.lax.stop_gradient(jnp.where(keep, values, jnp.inf)).min())


def highest(values: jax.Array, keep: jax.Array) -> Max:
    """Over what `keep` marks."""
    return Max(jax.lax.stop_gradient(jnp.where(keep, values, -jnp.inf)).max())


def merge_metrics(left: Metrics, right: Metrics) -> Metrics:
    """The metrics of two micro-batches as one; works under jit."""
    return {name: _merge(left[name], right[name]) for name in left}


def metric_values(metrics: Metrics) -> dict[str, float]:
    """Plain numbers to log; of nothing measured, 0."""
    return {name: _value(metric) for name, metric in metrics.items()}


def _merge(left: Metric, right: Metric) -> Metric:
    match left, right:
        case Mean(), Mean():
            return Mean(left.sum + right.sum, left.denominator + right.denominator)
        case Max(), Max():
            return Max(jnp.maximum(left.value, right.value))
        case Min(), Min():
            return Min(jnp.minimum(left.value, right.value))
    raise TypeError("the two sides hold different kinds of metric under one name")


def _value(metric: Metric) -> float:
    if isinstance(metric, Mean):
        return float(metric.sum) / max(float(metric.denominator), 1.0)
    return float(metric.value) if jnp.isfinite(metric.value) else 0.0
