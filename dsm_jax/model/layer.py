"""One layer of the decoder, declared with Flax NNX: pre-norm attention and SwiGLU.

Weights are stored in fp32 (or as loaded) and cast to the compute dtype where they are used; norms and softmax are
fp32. Layout: an activation is [N, D] with N = batch x time (matmuls over flattened rows); a weight is gathered over
fsdp where it is used, and stays split over tensor. Left out on purpose: dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, Rules
from dsm_jax.model.attention import (
    Seats,
    decode_attention,
    keys_are_columns,
    mesh_platform,
    packed_attention,
)
from dsm_jax.model.config import PROJECTIONS, ModelConfig
from dsm_jax.model.flat import NOTHING, Shared, flatten, unflatten
from dsm_jax.model.rope import rotate

LOGICAL = {
    "d": "embed",
    "k": "kv_heads",
    "f": "ffn",
    "v": "vocab",
}  # the rest (group, head width, LoRA rank) is never split
CACHE = P(BATCH, "tensor")  # of keys and values: rows, heads
MATMULS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


class LayerCache(NamedTuple):
    """Keys and values of one layer, S places of each row."""

    k: jax.Array  # [B, K, h, S] where keys_are_columns, else [B, K, S, h]
    v: jax.Array  # [B, K, S, h]


class Layer(nnx.Module):
    """Pre-norm attention and SwiGLU."""

    def __init__(self, rngs: nnx.Rngs, config: ModelConfig):
        self.config = config
        self.attention_norm = nnx.Param(jnp.ones(config.d_model), axes=(None,))
        self.mlp_norm = nnx.Param(jnp.ones(config.d_model), axes=(None,))
        for name, (inputs, outputs) in PROJECTIONS.items():
            setattr(self, name, matrix(rngs, config, inputs + outputs))
        for name in ("q", "k", "v") if config.qkv_bias else ():
            setattr(self, f"{name}_bias", _letters(config, PROJECTIONS[name][1], jnp.zeros))
        for name in ("q", "k") if config.qk_norm else ():
            setattr(self, f"{name}_norm", _letters(config, "h", jnp.ones))
        for name in config.lora.targets if config.lora.rank else ():
            inputs, outputs = PROJECTIONS[name]
            setattr(self, f"{name}_lora_a", _letters(config, inputs + "r", partial(_uniform, rngs)))
            setattr(self, f"{name}_lora_b", _letters(config, "r" + outputs, jnp.zeros))

    def project(self, name: str, x: jax.Array) -> jax.Array:
        """x [N, *inputs] through the matrix `name` [*inputs, *outputs], with its bias and its LoRA."""
        y = _matmul(x, getattr(self, name))
        lora = self.config.lora
        if lora.rank and name in lora.targets:
            low = _matmul(x, getattr(self, f"{name}_lora_a"))
            y += lora.alpha / lora.rank * _matmul(low, getattr(self, f"{name}_lora_b"))
        if self.config.qkv_bias and name in ("q", "k", "v"):
            y += gather(getattr(self, f"{name}_bias")).astype(x.dtype)
        return y

    def qkv(self, x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        """x [N, D], angles over [N] -> q [N, K, G, h], k and v [N, K, h], rotary positions applied."""
        cos, sin = (a[:, None, :] for a in angles)
        x = rms_norm(x, self.attention_norm.get_value(), self.config.rms_eps)
        q, k, v = (self.project(name, x) for name in ("q", "k", "v"))
        if self.config.qk_norm:
            scales = (getattr(self, name).get_value() for name in ("q_norm", "k_norm"))
            q, k = (rms_norm(a, scale, self.config.rms_eps) for a, scale in zip((q, k), scales, strict=True))
        return rotate(q, cos[:, None], sin[:, None]), rotate(k, cos, sin), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Residual x [N, D] and attended heads [N, K, G, h] -> the layer's output [N, D]."""
        x = x + self.project("o", attended)
        h = rms_norm(x, self.mlp_norm.get_value(), self.config.rms_eps)
        inner = jax.nn.silu(self.project("gate", h)) * self.project("up", h)
        return x + self.project("down", inner)

    def __call__(
        self,
        x: jax.Array,
        segment_ids: jax.Array,
        angles: tuple[jax.Array, jax.Array],
        *,
        shared: Shared = NOTHING,
        keep_only_matmuls: bool = False,
    ) -> tuple[jax.Array, LayerCache]:
        """Whole sequences: x and angles over the tokens [N] of rows with segment_ids [B, T], N = B*T where nothing is
        shared. Also the keys and values, [B, K, T, h].

        keep_only_matmuls: of what surrounds attention, the backward pass makes the rest again. Attention stands
        outside, so that its kernel runs once.
        """
        qkv, finish = self.qkv, self.finish
        if keep_only_matmuls:
            qkv, finish = (jax.checkpoint(part, policy=MATMULS, prevent_cse=False) for part in (qkv, finish))
        q, k, v = (unflatten(a, segment_ids.shape, shared, "tensor") for a in qkv(x, angles))
        attended = packed_attention(q, k, v, segment_ids)
        x = finish(x, flatten(attended, shared))
        keys = (0, 2, 3, 1) if keys_are_columns(mesh_platform()) else (0, 2, 1, 3)
        return x, LayerCache(k.transpose(keys), v.swapaxes(1, 2))

    def decode(
        self,
        x: jax.Array,
        own: LayerCache,
        shared: LayerCache,
        seats: Seats,
        angles: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, LayerCache]:
        """One token per row, x [B, D], after what the row has of its own and a prefix; also `own` with it written."""
        q, k, v = self.qkv(x, angles)
        own = _write(own, k, v, seats.own)
        return self.finish(x, decode_attention(q, own, shared, seats)), own


def _write(cache: LayerCache, k: jax.Array, v: jax.Array, places: jax.Array) -> LayerCache:
    """Row b's place places[b] takes k[b] and v[b], [B, K, h]."""
    columns = keys_are_columns(mesh_platform())

    @jax.vmap
    def write(cache: LayerCache, k: jax.Array, v: jax.Array, place: jax.Array) -> LayerCache:
        key = (k[:, :, None], (0, 0, place)) if columns else (k[:, None], (0, place, 0))
        return LayerCache(
            jax.lax.dynamic_update_slice(cache.k, *key),
            jax.lax.dynamic_update_slice(cache.v, v[:, None], (0, place, 0)),
        )

    return write(cache, k, v, places)


def _matmul(x: jax.Array, weight: nnx.Param) -> jax.Array:
    """x [N, *inputs] times weight [*inputs, *outputs] -> [N, *outputs], as one matmul of two axes each.

    Only the first of inputs and the first of outputs may be split over tensor.
    """
    rank = x.ndim - 1
    w = gather(weight)
    spec = jax.typeof(w).sharding.spec
    into, to = spec[0], spec[rank]
    inputs, outputs = w.shape[:rank], w.shape[rank:]
    x = jax.lax.reshape(x, (x.shape[0], prod(inputs)), out_sharding=P(BATCH, into))
    w = jax.lax.reshape(w, (prod(inputs), prod(outputs)), out_sharding=P(into, to))
    return jax.lax.reshape(
        _product(x, w), (x.shape[0], *outputs), out_sharding=P(BATCH, to, *(None,) * (len(outputs) - 1))
    )


@jax.custom_vjp
def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x [N, I] times w [I, O], in x's dtype. The gradient of w is summed over N, and over devices, in w's own dtype.

    Reverse mode only, with rows laid out over BATCH.
    """
    return _product_forward(x, w)[0]


def _product_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    to = jax.typeof(w).sharding.spec[1]
    return jnp.matmul(x, w.astype(x.dtype), out_sharding=P(BATCH, to)), (x, w)


def _product_backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    into, to = jax.typeof(w).sharding.spec
    dx = jnp.matmul(dy, w.astype(x.dtype).T, out_sharding=P(BATCH, into))
    if w.shape[0] > w.shape[1] and mesh_platform() == "cpu":
        # XLA:CPU multiplies 1.6 times as fast into a wide result as into a tall one; the barrier keeps it wide.
        wide = jnp.matmul(dy.T, x, out_sharding=P(to, into), preferred_element_type=w.dtype)
        return dx, jax.lax.optimization_barrier(wide).T
    return dx, jnp.matmul(x.T, dy, out_sharding=P(into, to), preferred_element_type=w.dtype)


_product.defvjp(_product_forward, _product_backward)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) * scale over the last axis, computed in fp32, returned in x's dtype."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps) * scale).astype(x.dtype)


def gather(weight: nnx.Param) -> jax.Array:
    """The weight as stored, whole along fsdp, still split along tensor."""
    return reshard(weight.get_value(), Rules(embed=None).spec(weight.axes))


def matrix(rngs: nnx.Rngs, config: ModelConfig, letters: str) -> nnx.Param:
    """A matrix whose axes these letters name, normal with init_std."""
    return _letters(config, letters, lambda shape: config.init_std * jax.random.normal(rngs.params(), shape))


def _letters(config: ModelConfig, letters: str, init: Callable[[tuple[int, ...]], jax.Array]) -> nnx.Param:
    """A parameter whose axes these letters name."""
    sizes = {
        "d": config.d_model,
        "k": config.n_kv_heads,
        "g": config.n_heads // config.n_kv_heads,
        "h": config.head_dim,
        "f": config.d_ff,
        "v": config.vocab_size,
        "r": config.lora.rank,
    }
    return nnx.Param(init(tuple(sizes[letter] for letter in letters)), axes=tuple(map(LOGICAL.get, letters)))


def _uniform(rngs: nnx.Rngs, shape: tuple[int, ...]) -> jax.Array:
    """Of LoRA's A, whose last axis is the rank: within 1 / sqrt(inputs)."""
    bound = prod(shape[:-1]) ** -0.5
    return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
