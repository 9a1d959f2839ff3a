"""bench_model.py's worker for our decoder. Line one of its input says what to build, each later one which task to time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench_ours import model_config
from bench_worker import MATMUL, serve
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.attention import Seats
from dsm_jax.model.decoder import bind, empty_caches, unstack
from dsm_jax.model.layer import LayerCache
from dsm_jax.model.params import init_params
from dsm_jax.train.step import lm_loss


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once. Writes the model to the folder, for the peer to read."""
    config, mesh = model_config(request["model"]), single_device_mesh()
    params = init_params(config, 0, mesh)
    save_hf(Model(config, params), Path(request["folder"]))
    rows, length = request["rows"], request["time"]
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (rows, length)).astype(np.int32)
    batch = {"tokens": ids, "segment_ids": np.ones_like(ids), "loss_mask": np.ones(ids.shape, np.float32)}
    batch["loss_mask"][:, 0] = 0

    def logits(params: Any) -> jax.Array:
        decoder = bind(config, params)
        return decoder.logits(decoder.hidden(jnp.asarray(ids), jnp.ones_like(ids)))

    def decode(params: Any, own: list[LayerCache], shared: list[LayerCache]) -> tuple:
        decoder, row = bind(config, params), reshard(jnp.arange(rows), P(BATCH))
        seats = Seats(row[:, None], row, row * 0 + length - 1, row * 0)
        hidden, own = decoder.decode(ids[:, -1], own, shared, seats)
        return decoder.logits(hidden), own

    forward = jax.jit(logits)
    train = jax.jit(jax.value_and_grad(lambda params: lm_loss(config, params, batch, request["remat"])))
    one_token = jax.jit(decode, donate_argnums=1)
    multiply = jax.jit(jnp.matmul)
    square = jnp.ones((MATMUL, MATMUL), config.dtype)
    with jax.set_mesh(mesh):
        layers = jax.jit(lambda params: unstack(config, params))(params)
        shared = jax.jit(lambda layers: bind(config, layers).prefill(jnp.asarray(ids))[1])(layers)
        state = {"own": jax.jit(lambda: empty_caches(config, rows, 1))()}

    def step() -> jax.Array:
        out, state["own"] = one_token(layers, state["own"], shared)
        return out

    return {
        "matmul": lambda: multiply(square, square),
        "forward": lambda: forward(params),
        "train": lambda: train(params),
        "decode": step,
    }


if __name__ == "__main__":
    with jax.set_mesh(single_device_mesh()):
        serve(build, jax.block_until_ready)
