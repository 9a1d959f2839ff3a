"""A Llama-shaped decoder: declared with Flax NNX, run as pure functions over a pytree of parameters.

`Decoder` says which parameters there are and what the arithmetic is. `bind(config, params)` gives a module over a
plain dict of arrays, inside jit; nothing else of NNX leaves this room. Layers are stacked and scanned for training,
unstacked and unrolled for decoding. Logits are fp32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH
from dsm_jax.model.attention import Seats, keys_are_columns, mesh_platform
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.flat import NOTHING, Shared, flatten, unflatten
from dsm_jax.model.layer import CACHE, Layer, LayerCache, gather, matrix, rms_norm
from dsm_jax.model.rope import rope_angles

Params = Any  # nested dict of arrays, as nnx.to_pure_dict gives it
# Of a layer, made again in the backward pass: nothing, all but matmuls and attention, all. (On a CPU attention's scores
# always are; a kernel never keeps them.)
Remat = Literal["none", "dots", "full"]


class Decoder(nnx.Module):
    """Token ids to hidden states to logits.

    `layers` is one Layer whose parameters are stacked on axis 0 (training: `hidden`), or a list of layers
    (decoding: `prefill`, `decode`; a slice of a stacked weight would be copied at every step).
    """

    def __init__(self, rngs: nnx.Rngs, config: ModelConfig, stacked: bool = True):
        self.config = config
        self.embed = matrix(rngs, config, "vd")
        self.layers: Any
        if stacked:
            self.layers = nnx.vmap(Layer, in_axes=(0, None))(rngs.split(config.n_layers), config)
        else:
            self.layers = nnx.List([Layer(rngs, config) for _ in range(config.n_layers)])
        self.final_norm = nnx.Param(jnp.ones(config.d_model), axes=(None,))
        if not config.tie_embeddings:
            self.head = matrix(rngs, config, "dv")

    def embed_tokens(self, ids: jax.Array) -> jax.Array:
        """ids [N] -> [N, D] in the compute dtype."""
        table = gather(self.embed)  # as stored: a frequent token's gradient has many terms
        return table.at[ids].get(out_sharding=P(BATCH, None)).astype(self.config.dtype)

    def hidden(
        self,
        ids: jax.Array,
        segment_ids: jax.Array,
        remat: Remat = "none",
        shared: Shared = NOTHING,
    ) -> jax.Array:
        """ids and segment_ids [B, T] -> final hidden states [B, T, D], normed.

        shared: columns in which rows are equal; those are computed once.
        """
        ids, segment_ids = (reshard(a, P(BATCH, None)) for a in (ids, segment_ids))
        graphdef, layers = nnx.split(self.layers)
        angles = rope_angles(flatten(segment_positions(segment_ids), shared), self.config)

        def run(x: jax.Array, layer: Params) -> tuple[jax.Array, None]:
            merged, only_matmuls = nnx.merge(graphdef, layer), remat == "dots"
            x, _ = merged(x, segment_ids, angles, shared=shared, keep_only_matmuls=only_matmuls)
            return x, None

        if remat == "full":
            run = jax.checkpoint(run, prevent_cse=False)
        x, _ = jax.lax.scan(run, self.embed_tokens(flatten(ids, shared)), layers)
        x = rms_norm(x, self.final_norm.get_value(), self.config.rms_eps)
        return unflatten(x, ids.shape, shared)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] -> logits [..., V] in fp32, split over tensor along V."""
        head = self.embed if self.config.tie_embeddings else self.head
        weight = gather(head).astype(hidden.dtype)
        weight = weight.T if self.config.tie_embeddings else weight
        return jnp.einsum("...d,dv->...v", hidden, weight, preferred_element_type=jnp.float32)

    def prefill(self, ids: jax.Array) -> tuple[jax.Array, list[LayerCache]]:
        """Texts ids [B, T], left-aligned -> normed hidden states [B, T, D] and each layer's cache with S = T; what is past
        a text's end is noise."""
        segment_ids = jnp.zeros_like(ids)
        angles = rope_angles(segment_positions(segment_ids).reshape(-1), self.config)
        x, caches = self.embed_tokens(ids.reshape(-1)), []
        for layer in self.layers:
            x, cache = layer(x, segment_ids, angles)
            caches.append(cache)
        x = rms_norm(x, self.final_norm.get_value(), self.config.rms_eps)
        return unflatten(x, ids.shape, NOTHING), caches

    def decode(
        self, ids: jax.Array, own: list[LayerCache], shared: list[LayerCache], seats: Seats
    ) -> tuple[jax.Array, list[LayerCache]]:
        """One step: ids [B] -> normed hidden states [B, D] and the rows' own caches with them written."""
        ids = reshard(ids, P(BATCH))
        angles = rope_angles(seats.prefixes + seats.own, self.config)
        x, written = self.embed_tokens(ids), []
        for layer, cache, prefix in zip(self.layers, own, shared, strict=True):
            x, cache = layer.decode(x, cache, prefix, seats, angles)
            written.append(cache)
        return rms_norm(x, self.final_norm.get_value(), self.config.rms_eps), written


def empty_caches(config: ModelConfig, rows: int, length: int) -> list[LayerCache]:
    """Of every layer, `rows` rows with `length` places. For use inside jit."""
    values = (rows, config.n_kv_heads, length, config.head_dim)
    keys = (*values[:2], config.head_dim, length) if keys_are_columns(mesh_platform()) else values
    return [
        LayerCache(*(reshard(jnp.zeros(shape, config.dtype), CACHE) for shape in (keys, values)))
        for _ in range(config.n_layers)
    ]


def segment_positions(segment_ids: jax.Array) -> jax.Array:
    """Position of each token within its document [B, T]: ids of one document are equal and adjacent."""
    place = jnp.arange(segment_ids.shape[1])
    starts = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return place - jax.lax.cummax(jnp.where(starts, place, 0), axis=1)


@lru_cache
def abstract(config: ModelConfig, stacked: bool) -> tuple[Any, Any]:
    """Graph definition and abstract state of a decoder, of no mesh, whichever one is set when it is first asked for."""
    graph, state = jax.eval_shape(lambda: nnx.split(Decoder(nnx.Rngs(0), config, stacked)))
    return graph, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)


def bind(config: ModelConfig, params: Params) -> Decoder:
    """The decoder over these parameters, stacked or unstacked; cheap, for use inside a jitted function."""
    stacked = "q" in params["layers"]
    return nnx.merge(abstract(config, stacked)[0], params)


def unstack(config: ModelConfig, params: Params) -> Params:
    """The same parameters with each layer's own arrays under layers[i], for decoding."""
    layers = {i: jax.tree.map(lambda stacked: stacked[i], params["layers"]) for i in range(config.n_layers)}  # noqa: B023
    return {**params, "layers": layers}
