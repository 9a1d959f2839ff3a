"""A Llama-shaped decoder: declared with Flax NNX, run as pure functions over a pytree of parameters.

`Decoder` says which parameters there are and what the arithmetic is. `bind(config, params)` gives a module
over a plain dict of arrays, inside jit; nothing else of NNX leaves this file. Layers are stacked and scanned
for training, unstacked and unrolled for decoding. Weights are stored in fp32 (or as loaded) and cast to the
compute dtype where they are used; norms, softmax and logits are fp32.

Layout: an activation is [N, D] with N = batch x time (matmuls over flattened rows); a weight is gathered over
fsdp where it is used, and stays split over tensor. Left out on purpose: dropout.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding, reshard
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import BATCH, Rules
from dsm_jax.model.attention import cached_attention, packed_attention
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.rope import rope_angles, rotate

Params = Any  # nested dict of arrays, as nnx.to_pure_dict gives it
Remat = Literal[
    "none", "dots", "full"
]  # activations made again in the backward pass: none, all but matmuls, all
SAVED = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class LayerCache(NamedTuple):
    """Keys and values of one layer: [B, K, S, h], S places of which a row's first `length` are filled."""

    k: jax.Array
    v: jax.Array


def _weight(rngs: nnx.Rngs, config: ModelConfig, shape: tuple[int, ...], axes: tuple) -> nnx.Param:
    return nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape), axes=axes)


def _gather(weight: nnx.Param, dtype: jnp.dtype) -> jax.Array:
    """The weight in the compute dtype, whole along fsdp, still split along tensor.

    Cast after the reshard, so that its gradient is summed over devices in the stored dtype, not in bf16.
    """
    return reshard(weight.get_value(), Rules(embed=None).spec(weight.axes)).astype(dtype)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) * scale over the last axis, computed in fp32, returned in x's dtype."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps) * scale).astype(x.dtype)


class Layer(nnx.Module):
    """Pre-norm attention and SwiGLU. Query heads are stored grouped by their kv head: [D, K, G, h]."""

    def __init__(self, rngs: nnx.Rngs, config: ModelConfig):
        self.config = config
        d, k, h, f = config.d_model, config.n_kv_heads, config.head_dim, config.d_ff
        group = config.n_heads // k
        weight = partial(_weight, rngs, config)
        self.attention_norm = nnx.Param(jnp.ones(d), axes=(None,))
        self.q = weight((d, k, group, h), ("embed", "kv_heads", None, None))
        self.k = weight((d, k, h), ("embed", "kv_heads", None))
        self.v = weight((d, k, h), ("embed", "kv_heads", None))
        self.o = weight((k, group, h, d), ("kv_heads", None, None, "embed"))
        if config.qkv_bias:
            self.q_bias = nnx.Param(jnp.zeros((k, group, h)), axes=("kv_heads", None, None))
            self.k_bias = nnx.Param(jnp.zeros((k, h)), axes=("kv_heads", None))
            self.v_bias = nnx.Param(jnp.zeros((k, h)), axes=("kv_heads", None))
        if config.qk_norm:
            self.q_norm = nnx.Param(jnp.ones(h), axes=(None,))
            self.k_norm = nnx.Param(jnp.ones(h), axes=(None,))
        self.mlp_norm = nnx.Param(jnp.ones(d), axes=(None,))
        self.gate = weight((d, f), ("embed", "ffn"))
        self.up = weight((d, f), ("embed", "ffn"))
        self.down = weight((f, d), ("ffn", "embed"))

    def qkv(self, x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        """x [N, D], angles over [N] -> q [N, K, G, h], k and v [N, K, h], rotary positions applied."""
        cos, sin = (a[:, None, :] for a in angles)
        x = rms_norm(x, self.attention_norm.get_value(), self.config.rms_eps)
        q = jnp.einsum("nd,dkgh->nkgh", x, _gather(self.q, x.dtype))
        k = jnp.einsum("nd,dkh->nkh", x, _gather(self.k, x.dtype))
        v = jnp.einsum("nd,dkh->nkh", x, _gather(self.v, x.dtype))
        if self.config.qkv_bias:
            q, k, v = (
                a + _gather(bias, x.dtype)
                for a, bias in ((q, self.q_bias), (k, self.k_bias), (v, self.v_bias))
            )
        if self.config.qk_norm:
            q = rms_norm(q, self.q_norm.get_value(), self.config.rms_eps)
            k = rms_norm(k, self.k_norm.get_value(), self.config.rms_eps)
        return rotate(q, cos[:, None], sin[:, None]), rotate(k, cos, sin), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Residual x [N, D] and attended heads [N, K, G, h] -> the layer's output [N, D]."""
        rows = P(BATCH, None)
        x = x + jnp.einsum("nkgh,kghd->nd", attended, _gather(self.o, x.dtype), out_sharding=rows)
        h = rms_norm(x, self.mlp_norm.get_value(), self.config.rms_eps)
        gate, up = (jnp.einsum("nd,df->nf", h, _gather(w, x.dtype)) for w in (self.gate, self.up))
        inner = jax.nn.silu(gate) * up
        return x + jnp.einsum("nf,fd->nd", inner, _gather(self.down, x.dtype), out_sharding=rows)

    def __call__(
        self, x: jax.Array, segment_ids: jax.Array, angles: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, LayerCache]:
        """Whole sequences: x [N, D] with segment_ids [B, T], N = B*T. Also the keys and values, [B, K, T, h]."""
        q, k, v = (unflatten(a, segment_ids.shape, "tensor") for a in self.qkv(x, angles))
        attended = packed_attention(q, k, v, segment_ids)
        x = self.finish(x, attended.reshape(-1, *attended.shape[2:]))
        return x, LayerCache(k.swapaxes(1, 2), v.swapaxes(1, 2))

    def decode(
        self, x: jax.Array, cache: LayerCache, positions: jax.Array, angles: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, LayerCache]:
        """One token per row: x [B, D] at positions [B]; writes the cache there."""
        q, k, v = self.qkv(x, angles)
        cache = LayerCache(_write(cache.k, k, positions), _write(cache.v, v, positions))
        return self.finish(x, cached_attention(q, cache.k, cache.v, positions)), cache


@jax.vmap
def _write(cache: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
    """cache [B, K, S, h], new [B, K, h]: row b's place position[b] takes new[b]."""
    return jax.lax.dynamic_update_slice(cache, new[:, None], (0, position, 0))


class Decoder(nnx.Module):
    """Token ids to hidden states to logits.

    `layers` is one Layer whose parameters are stacked on axis 0 (training: `hidden`), or a list of layers
    (decoding: `prefill`, `decode`; a slice of a stacked weight would be copied at every step).
    """

    def __init__(self, rngs: nnx.Rngs, config: ModelConfig, stacked: bool = True):
        self.config = config
        vocab, d = config.vocab_size, config.d_model
        self.embed = _weight(rngs, config, (vocab, d), ("vocab", "embed"))
        self.layers: Any
        if stacked:
            self.layers = nnx.vmap(Layer, in_axes=(0, None))(rngs.split(config.n_layers), config)
        else:
            self.layers = nnx.List([Layer(rngs, config) for _ in range(config.n_layers)])
        self.final_norm = nnx.Param(jnp.ones(d), axes=(None,))
        if not config.tie_embeddings:
            self.head = _weight(rngs, config, (d, vocab), ("embed", "vocab"))

    def embed_tokens(self, ids: jax.Array) -> jax.Array:
        """ids [N] -> [N, D] in the compute dtype."""
        table = _gather(
            self.embed, self.embed.get_value().dtype
        )  # a frequent token's gradient has many terms
        return table.at[ids].get(out_sharding=P(BATCH, None)).astype(self.config.dtype)

    def hidden(self, ids: jax.Array, segment_ids: jax.Array, remat: Remat = "none") -> jax.Array:
        """ids and segment_ids [B, T] -> final hidden states [B, T, D], normed."""
        ids, segment_ids = (reshard(a, P(BATCH, None)) for a in (ids, segment_ids))
        graphdef, layers = nnx.split(self.layers)
        angles = rope_angles(segment_positions(segment_ids).reshape(-1), self.config)

        def run(x: jax.Array, layer: Params) -> tuple[jax.Array, None]:
            return nnx.merge(graphdef, layer)(x, segment_ids, angles)[0], None

        if remat != "none":
            run = jax.checkpoint(run, policy=SAVED[remat], prevent_cse=False)
        x, _ = jax.lax.scan(run, self.embed_tokens(ids.reshape(-1)), layers)
        x = rms_norm(x, self.final_norm.get_value(), self.config.rms_eps)
        return unflatten(x, ids.shape)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] -> logits [..., V] in fp32, split over tensor along V."""
        head = self.embed if self.config.tie_embeddings else self.head
        weight = _gather(head, hidden.dtype)
        weight = weight.T if self.config.tie_embeddings else weight
        return jnp.einsum("...d,dv->...v", hidden, weight, preferred_element_type=jnp.float32)

    def prefill(self, ids: jax.Array) -> list[LayerCache]:
        """Prompts ids [B, T], left-aligned -> each layer's cache with S = T; places past a prompt hold noise."""
        segment_ids = jnp.zeros_like(ids)
        angles = rope_angles(segment_positions(segment_ids).reshape(-1), self.config)
        x, caches = self.embed_tokens(ids.reshape(-1)), []
        for layer in self.layers:
            x, cache = layer(x, segment_ids, angles)
            caches.append(cache)
        return caches

    def decode(
        self, ids: jax.Array, positions: jax.Array, caches: list[LayerCache]
    ) -> tuple[jax.Array, list[LayerCache]]:
        """One step: ids [B] at positions [B] -> normed hidden states [B, D] and the caches with them written."""
        ids, positions = (reshard(a, P(BATCH)) for a in (ids, positions))
        angles = rope_angles(positions, self.config)
        x, written = self.embed_tokens(ids), []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.decode(x, cache, positions, angles)
            written.append(cache)
        return rms_norm(x, self.final_norm.get_value(), self.config.rms_eps), written


def unflatten(x: jax.Array, batch_time: tuple[int, ...], *spec: str) -> jax.Array:
    """[B*T, ...] -> [B, T, ...], rows of the batch spread as they were; `spec` shards the axes that follow."""
    return jax.lax.reshape(x, (*batch_time, *x.shape[1:]), out_sharding=P(BATCH, None, *spec))


def segment_positions(segment_ids: jax.Array) -> jax.Array:
    """Position of each token within its document [B, T]: ids of one document are equal and adjacent."""
    place = jnp.arange(segment_ids.shape[1])
    starts = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return place - jax.lax.cummax(jnp.where(starts, place, 0), axis=1)


@lru_cache
def _abstract(config: ModelConfig, stacked: bool) -> tuple[Any, Any]:
    """Graph definition and abstract state of a decoder; no array is made."""
    return jax.eval_shape(lambda: nnx.split(Decoder(nnx.Rngs(0), config, stacked)))


def bind(config: ModelConfig, params: Params) -> Decoder:
    """The decoder over these parameters, stacked or unstacked; cheap, for use inside a jitted function."""
    stacked = "q" in params["layers"]
    return nnx.merge(_abstract(config, stacked)[0], params)


def unstack(config: ModelConfig, params: Params) -> Params:
    """The same parameters with each layer's own arrays under layers[i], for decoding."""
    layers = {i: jax.tree.map(lambda stacked: stacked[i], params["layers"]) for i in range(config.n_layers)}  # noqa: B023
    return {**params, "layers": layers}


def param_specs(config: ModelConfig, *, rules: Rules | None = None, stacked: bool = True) -> Params:
    """PartitionSpec of every parameter; a stacked layer axis is never split."""
    rules = rules or Rules()

    def spec(variable: nnx.Param) -> P:
        in_stack = variable.get_value().ndim > len(variable.axes)
        return rules.spec((None, *variable.axes) if in_stack else variable.axes)

    leaves = nnx.to_flat_state(_abstract(config, stacked)[1])
    return nnx.traversals.unflatten_mapping({path: spec(variable) for path, variable in leaves})


def param_shapes(config: ModelConfig) -> Params:
    """jax.ShapeDtypeStruct of every parameter, stacked, fp32."""
    return nnx.to_pure_dict(_abstract(config, True)[1])


def param_shardings(config: ModelConfig, mesh: Mesh | AbstractMesh) -> Params:
    """NamedSharding of every parameter for training."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), param_specs(config))


def decode_shardings(config: ModelConfig, mesh: Mesh) -> Params:
    """NamedSharding of the unstacked parameters for decoding: whole along fsdp, so that no step gathers them."""
    specs = param_specs(config, rules=Rules(embed=None), stacked=False)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def check_mesh(config: ModelConfig, mesh: Mesh | AbstractMesh) -> None:
    """UserError where the mesh does not divide the model's axes."""
    for name, axis in (
        ("d_model", "fsdp"),
        ("n_kv_heads", "tensor"),
        ("d_ff", "tensor"),
        ("vocab_size", "tensor"),
    ):
        size, parts = getattr(config, name), mesh.shape[axis]
        if size % parts:
            raise UserError(
                f"--mesh {axis}={parts} does not divide the model's {name} {size}; give another {axis}"
            )


def init_params(config: ModelConfig, seed: int, mesh: Mesh) -> Params:
    """Random parameters, made in place on the mesh; the same numbers on every mesh."""

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(Decoder(nnx.Rngs(key), config)))

    return jax.jit(init, out_shardings=param_shardings(config, mesh))(jax.random.key(seed))
