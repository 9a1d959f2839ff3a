"""bench_train.py's worker for our training step: the step of train_lm, with its optimiser, on one device."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from bench_ours import model_config, peak_bytes
from bench_worker import serve
from check_accelerator import windows

from dsm_jax.data.corpus import StoredWindows
from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.host_memory import keep_host_memory
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.flops import peak_flops
from dsm_jax.model.params import init_params
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.read_ahead import ReadAhead
from dsm_jax.train.step import TrainState, make_train_step, put_batch, start_state

STEPS = 1 << 30  # of the schedule: more than are run


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once. Writes the model to the folder, where there is one, for the peer to read."""
    mesh, model = single_device_mesh(), model_config(request["model"])
    at_start = peak_bytes()  # on a CPU: what Python and its modules take
    optimizer, _ = make_optimizer(OptimizerConfig(**request["optimizer"]), STEPS)
    params = init_params(model, 0, mesh)
    if request["folder"]:
        save_hf(Model(model, params), Path(request["folder"]))
    state = start_state(model, optimizer, mesh, params)
    del params
    parts = request["rows"] // (request["micro_batch_rows"] or request["rows"])
    step = make_train_step(model, optimizer, mesh, request["remat"], micro_batches=parts)
    shape, losses = (request["rows"], request["time"]), []
    held = {"state": state}
    del state

    def train(documents: int) -> Callable[[], None]:
        batch = put_batch(windows(model, *shape, documents), mesh)

        def run() -> None:
            held["state"], metrics = step(held["state"], batch)
            losses.append(float(metrics["loss"]))

        return run

    def data() -> dict[str, Any]:
        state, steps = held["state"], request["steps"]
        stored = {name: Source(StoredWindows(Path(folder)), 1.0) for name, folder in request["data"].items()}
        with ReadAhead(Mixture(stored, request["rows"], 0).batch, steps) as ahead:
            start = time.perf_counter()
            for number in range(steps):
                state, metrics = step(state, put_batch(ahead(number), mesh))
            last = float(metrics["loss"])
            took = time.perf_counter() - start
            share = ahead.waited() / took
        held["state"] = state
        return {"seconds": took / steps, "data_wait_share": share, "loss": last}

    def report() -> dict[str, Any]:
        device = mesh.devices.flat[0]
        return {
            "first_losses": losses[:2],
            "device": device.device_kind,
            "jax": jax.__version__,
            "peak_flops": peak_flops(device),
            "memory": ledger(held["state"], parts > 1, at_start),
        }

    square, multiply = jnp.ones((request["matmul"],) * 2, model.dtype), jax.jit(jnp.matmul)
    return {
        "matmul": lambda: multiply(square, square),
        "train": train(1),
        "packed": train(request["documents"]),
        "data": data,
        "report": report,
    }


def ledger(state: TrainState, accumulates: bool, at_start: int) -> dict[str, dict[str, int]]:
    """Bytes of a step by what they hold. Gradients are there twice where micro-batches add to a sum; activations are
    what is left of the peak, the compiler's temporaries among them.
    """
    weights, moments = (sum(leaf.nbytes for leaf in jax.tree.leaves(part)) for part in state[:2])
    gradients = weights * (2 if accumulates else 1)
    total = peak_bytes() - at_start
    rest = total - weights - moments - gradients
    return {
        "weights": weights, "moments": moments, "gradients": gradients, "activations": rest, "total": total
    }  # fmt: skip


if __name__ == "__main__":
    keep_host_memory()  # as every script of ours does
    with jax.set_mesh(single_device_mesh()):
        serve(build, jax.block_until_ready)
