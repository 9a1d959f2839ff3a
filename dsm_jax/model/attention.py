"""Attention of packed sequences, and of one new token over a cache.

`packed_attention` is the one place that chooses how: the devices of the mesh decide, never the default backend, so
that a program compiled for a TPU has the TPU's kernel.
- TPU: splash attention. GPU: the Pallas kernel. Both know segment ids and keep no [T, T] scores.
- CPU, and shapes that a kernel does not take: blocks of queries one after the other, recomputed in the backward
  pass; up to BLOCK tokens that is the plain softmax.
Left out on purpose: cuDNN's kernel, whose public call takes lengths but no segment ids.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

MASKED = -1e30  # finite, so that a row with nothing to attend to stays free of NaN
BLOCK = 512  # queries whose scores exist at once, on the CPU
PARTS, LEAST_PART = 4, 64  # of a block: runs of queries that skip the keys after them, and the shortest one
LANES = 128  # of a TPU register: what splash attention's heads and blocks are multiples of
PADDING = -1  # segment id of tokens that fill up a kernel's last block

Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def packed_attention(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Causal attention within each document.

    q [B, T, K, G, h], k and v [B, T, K, h], segment_ids [B, T], not negative (tokens attend within equal ids only).
    Returns [B, T, K, G, h].
    """
    return attention_for(mesh_platform(), q.shape[-1])(q, k, v, segment_ids)


def mesh_platform() -> str:
    """cpu, gpu or tpu: of the mesh in use, also while a program is traced for devices that are not here."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None:
        raise ValueError("the decoder needs a mesh: call it under jax.set_mesh")
    return "gpu" if device.platform in ("cuda", "rocm") else device.platform


def attention_for(platform: str, head_dim: int) -> Attention:
    """The implementation for the devices of a platform and this width of a head."""
    if platform == "tpu" and head_dim % LANES == 0:
        return partial(on_each_device, splash_attention)
    if platform == "gpu" and 16 <= head_dim <= 256:
        return partial(on_each_device, pallas_attention)
    if platform in ("cpu", "gpu", "tpu"):
        return blockwise_attention
    raise ValueError(f"no attention for the platform {platform!r}; known are cpu, gpu and tpu")


def blockwise_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, *, block: int = BLOCK
) -> jax.Array:
    """packed_attention on any backend: memory grows with T x block.

    Heads come before time inside: matmuls over [B, K] are twice as fast so on XLA:CPU.
    """
    t = q.shape[1]
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    if t <= block:
        return _attend_in_parts(q, k, v, segment_ids)
    queries, ids = (_blocks(a, block) for a in _pad_time((q, segment_ids), block))

    def attend(own: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        start, q_block, ids_block = own
        return _attend(q_block, k, v, ids_block, segment_ids, start)

    starts = jnp.arange(0, len(ids) * block, block)
    attended = jax.lax.map(attend, (starts, queries, ids)).swapaxes(0, 1)
    return jax.lax.reshape(attended, (q.shape[0], len(ids) * block, *q.shape[2:]), out_sharding=_spec(q))[
        :, :t
    ]


def _attend_in_parts(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Up to PARTS runs of queries, each over the keys up to its end: three eighths less to compute than all of them."""
    t = q.shape[1]
    size = max(LEAST_PART, -(-t // PARTS))
    attended = []
    for start in range(0, t, size):
        own, seen = slice(start, start + size), slice(0, start + size)
        attended.append(
            _attend(q[:, own], k[:, :, seen], v[:, :, seen], segment_ids[:, own], segment_ids[:, seen], start)
        )
    return jnp.concatenate(attended, axis=1)


def _blocks(x: jax.Array, block: int) -> jax.Array:
    """[B, T, ...] -> [T / block, B, block, ...]."""
    b, t, *rest = x.shape
    batch, _, *others = _spec(x)
    split = jax.lax.reshape(x, (b, t // block, block, *rest), out_sharding=P(batch, None, None, *others))
    return split.swapaxes(0, 1)


def _spec(x: jax.Array) -> P:
    return jax.typeof(x).sharding.spec


@jax.checkpoint
def _attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_segments: jax.Array,
    k_segments: jax.Array,
    start: jax.Array | int,
) -> jax.Array:
    """T tokens from `start` on over all S: q [B, T, K, G, h], k and v [B, K, S, h], segments [B, T] and [B, S]."""
    b, t, kv, group, h = q.shape
    causal = start + jnp.arange(t)[:, None] >= jnp.arange(k.shape[2])[None, :]
    same = q_segments[:, :, None] == k_segments[:, None, :]
    bias = jnp.tile(jnp.where(causal & same, 0.0, MASKED)[:, None], (1, 1, group, 1))  # [B, 1, G * T, S]
    batch, _, heads, *_ = _spec(q)
    spec = P(batch, heads, None, None)
    q = jax.lax.reshape(q.transpose(0, 2, 3, 1, 4), (b, kv, group * t, h), out_sharding=spec)
    scores = jnp.einsum("bkth,bksh->bkts", q, k, preferred_element_type=jnp.float32) * h**-0.5 + bias
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    attended = jnp.einsum("bkts,bksh->bkth", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    attended = (attended / weights.sum(-1, keepdims=True)).astype(v.dtype)
    attended = jax.lax.reshape(attended, (b, kv, group, t, h), out_sharding=P(batch, heads, None, None, None))
    return attended.transpose(0, 3, 1, 2, 4)


def on_each_device(
    kernel: Attention, q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """Runs a kernel on each device's own rows and heads: the partitioner cannot look into one."""
    return jax.shard_map(kernel, out_specs=_spec(q), check_vma=False)(q, k, v, segment_ids)


def pallas_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """packed_attention by the Pallas kernel for GPUs, on one device."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # jax 0.11 names a successor that is not stable yet
        from jax.experimental.pallas.ops.gpu.attention import BlockSizes, mha

    t, group, h = q.shape[1], q.shape[3], q.shape[4]
    most = 128 if q.dtype.itemsize == 2 else 64  # what a multiprocessor's shared memory has room for
    block = min(most, max(16, 1 << (t - 1).bit_length()))
    q, k, v, segment_ids = _pad_time((q, k, v, segment_ids), block)
    k, v = (jnp.repeat(a, group, axis=2) for a in (k, v))  # one key head for each query head
    inner = min(most // 2, block)
    sizes = BlockSizes(block, inner, inner, inner, inner, inner)
    attended = mha(q.reshape(*k.shape), k, v, segment_ids, h**-0.5, True, sizes, interpret=interpret)
    return attended.reshape(q.shape)[:, :t]


def splash_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """packed_attention by splash attention, the TPU's kernel, on one device."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    t, group, h = q.shape[1], q.shape[3], q.shape[4]
    q, k, v, segment_ids = _pad_time((q, k, v, segment_ids), LANES)
    padded = q.shape[1]
    block = math.gcd(padded, BLOCK)
    sizes = splash.BlockSizes(*(block,) * 6, use_fused_bwd_kernel=True)
    mask = masks.MultiHeadMask([masks.CausalMask((padded, padded))] * group)
    kernel = splash.make_splash_mqa_single_device(mask, block_sizes=sizes, interpret=interpret)
    over_heads = jax.vmap(kernel, in_axes=(0, 0, 0, None))  # of keys: q [K, G, T, h], k and v [K, T, h]
    over_rows = jax.vmap(over_heads, in_axes=(0, 0, 0, 0))
    q_bkgth = (q * h**-0.5).astype(q.dtype).transpose(0, 2, 3, 1, 4)
    k_bkth, v_bkth = (a.swapaxes(1, 2) for a in (k, v))
    attended = over_rows(q_bkgth, k_bkth, v_bkth, splash.SegmentIds(segment_ids, segment_ids))
    return attended.transpose(0, 3, 1, 2, 4)[:, :t]


def _pad_time(arrays: tuple[jax.Array, ...], multiple: int) -> tuple[jax.Array, ...]:
    """Fills up axis 1 to a multiple; the last array is the segment ids, whose filling is a document of its own."""
    *values, segment_ids = arrays
    room = -segment_ids.shape[1] % multiple
    padded = [jnp.pad(a, ((0, 0), (0, room), *((0, 0),) * (a.ndim - 2))) for a in values]
    return *padded, jnp.pad(segment_ids, ((0, 0), (0, room)), constant_values=PADDING)


def keys_are_columns(platform: str) -> bool:
    """Whether a cache holds the keys of a head as [h, S], and not as [S, h] like the values.

    XLA:CPU is twice as fast over columns (a query's scores are then sums of whole rows); on a TPU, whose memory is tiles
    of 8 x 128 numbers and more, writing one column would touch h / 8 times as many tiles as writing a row.
    """
    return platform == "cpu"


class Seats(NamedTuple):
    """Which row of a decode step looks at which shared prefix: a place of a prefix has R seats.

    Rows, places and the numbers that name them are a device's own: each counts from 0.
    """

    rows: jax.Array  # int32 [P, R], the row on each seat; any row where it is empty
    of_row: jax.Array  # int32 [B], the seat of each row, place * R + seat
    prefixes: jax.Array  # int32 [B], tokens of the prefix that the row sees
    own: jax.Array  # int32 [B], tokens of the row's own cache before the one that is decoded


def decode_attention(
    q: jax.Array, own: tuple[jax.Array, jax.Array], shared: tuple[jax.Array, jax.Array], seats: Seats
) -> jax.Array:
    """One new token per row over a prefix that rows share and the row's own tokens after it, the new one the last.

    q [B, K, G, h], own keys and values as LayerCache has them, S places of B rows; shared ones, T places of P prefixes.
    Returns [B, K, G, h].
    The rows of a prefix are one matmul over it; the two parts' softmaxes are merged in fp32 by their log-sum-exp.
    """
    return jax.shard_map(_decode_attention, out_specs=_spec(q), check_vma=False)(q, own, shared, seats)


def _decode_attention(
    q: jax.Array, own: tuple[jax.Array, jax.Array], shared: tuple[jax.Array, jax.Array], seats: Seats
) -> jax.Array:
    kv, group, h = q.shape[1:]
    places, room = seats.rows.shape
    seen = jnp.arange(own[1].shape[2]) <= seats.own[:, None]
    first = _partial_softmax(q, *own, seen[:, None, None])
    seated = q[seats.rows].transpose(0, 2, 1, 3, 4).reshape(places, kv, room * group, h)
    seen = jnp.arange(shared[1].shape[2]) < seats.prefixes[seats.rows][..., None]
    parts = _partial_softmax(seated, *shared, jnp.repeat(seen, group, axis=1)[:, None])
    attended, weights, top = (
        part.reshape(places, kv, room, group, -1)
        .swapaxes(1, 2)
        .reshape(places * room, kv, group, -1)[seats.of_row]
        for part in parts
    )
    return _merged(first, (attended, weights, top)).astype(q.dtype)


def _partial_softmax(
    q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q [B, K, N, h] over k and v of S places where `seen` (broadcast to [B, K, N, S]): the weighted sum of the values
    [B, K, N, h], and of each query the sum of its weights and their logarithm's offset [B, K, N, 1]; fp32."""
    product = "bknh,bkhs->bkns" if keys_are_columns(mesh_platform()) else "bknh,bksh->bkns"
    scores = jnp.einsum(product, q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(seen, scores, MASKED)
    top = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - top)
    attended = jnp.einsum("bkns,bksh->bknh", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return attended, weights.sum(-1, keepdims=True), top


def _merged(
    first: tuple[jax.Array, jax.Array, jax.Array], second: tuple[jax.Array, jax.Array, jax.Array]
) -> jax.Array:
    """One softmax over the keys of both parts."""
    top = jnp.maximum(first[2], second[2])
    a, b = jnp.exp(first[2] - top), jnp.exp(second[2] - top)
    return (first[0] * a + second[0] * b) / (first[1] * a + second[1] * b)
