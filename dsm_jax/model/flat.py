"""Rows of tokens [B, T] as the list of tokens [N] that a layer's matmuls run over, and back.

Where adjacent rows begin with the same tokens (the completions of one prompt), the list has those once: what they become in
a layer is computed once, forward and backward, and every row attends to it. Attention itself sees whole rows, by the same
kernel as ever: of shared tokens its own work, small beside the matmuls where prompts are short, is done again in every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from dsm_jax.mesh import BATCH


@jax.tree_util.register_static
@dataclass(frozen=True)
class Shared:
    """What rows have in common: of every `rows` adjacent ones, the first `columns` tokens.

    The number of rows, on each device, is a multiple of `rows`.
    """

    columns: int = 0
    rows: int = 1


NOTHING = Shared()


def flatten(x: jax.Array, shared: Shared) -> jax.Array:
    """[B, T, ...] -> [N, ...]: of shared columns those of the first row, then each row's own.

    Rows stay on their devices: N is B / rows * (columns + rows * (T - columns)).
    """
    b, t, *rest = x.shape
    batch, _, *spec = jax.typeof(x).sharding.spec
    if shared.columns:
        groups, own = b // shared.rows, t - shared.columns
        x = _reshape(x, (groups, shared.rows, t, *rest), P(batch, None, None, *spec))
        first = x[:, 0, : shared.columns]
        own_shape = (groups, shared.rows * own, *rest)
        x = jnp.concatenate(
            [first, _reshape(x[:, :, shared.columns :], own_shape, P(batch, None, *spec))], axis=1
        )
    return _reshape(x, (x.shape[0] * x.shape[1], *rest), P(batch, *spec))


def unflatten(x: jax.Array, shape: tuple[int, ...], shared: Shared, *spec: str) -> jax.Array:
    """flatten's inverse: [N, ...] -> rows of this shape [B, T, ...], shared columns repeated; `spec` shards the axes
    that follow."""
    b, t = shape
    rest = x.shape[1:]
    if shared.columns:
        groups, own = b // shared.rows, t - shared.columns
        x = _reshape(x, (groups, x.shape[0] // groups, *rest), P(BATCH, None, *spec))
        first = jnp.broadcast_to(x[:, None, : shared.columns], (groups, shared.rows, shared.columns, *rest))
        parts = _reshape(
            x[:, shared.columns :], (groups, shared.rows, own, *rest), P(BATCH, None, None, *spec)
        )
        x = jnp.concatenate([first, parts], axis=2)
    return _reshape(x, (b, t, *rest), P(BATCH, None, *spec))


def _reshape(x: jax.Array, shape: tuple[int, ...], spec: P) -> jax.Array:
    return jax.lax.reshape(x, shape, out_sharding=spec)
