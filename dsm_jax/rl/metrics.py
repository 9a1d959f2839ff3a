"""Metrics of a loss that add up exactly over micro-batches and devices: means as sums with what divides them."""

from __future__ import annotations

from collections.abc import Mapping
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


def extremes(highest: Mapping[str, jax.Array], lowest: Mapping[str, jax.Array]) -> Metrics:
    """The largest of some arrays [B] and the smallest of others, in one reduction: over devices each costs a collective
    operation, and XLA:CPU was seen to deadlock in several at once."""
    if not highest and not lowest:
        return {}
    stacked = jnp.stack([*highest.values(), *(-values for values in lowest.values())])
    largest = jax.lax.stop_gradient(stacked).max(axis=1)
    highs: Metrics = {name: Max(largest[i]) for i, name in enumerate(highest)}
    return highs | {name: Min(-largest[i]) for i, name in enumerate(lowest, len(highest))}


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
