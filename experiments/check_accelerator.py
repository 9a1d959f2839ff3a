"""Is the decoder right and fast on this machine's accelerator? Parity with its CPU, packed documents, a training step.

    python experiments/check_accelerator.py --json bench.json
    python experiments/check_accelerator.py --preset tiny --profile trace

- Parity: logits and gradients of the model's first layers in fp32, matmuls at the highest precision, against the same
  program on the host's CPU, which has another attention.
- Packed documents: another content of a window's first document changes no bit of the second one's logits.
- Speed: forward and backward of the whole model, a window being one document or PACKED of them, as a share of what one
  large matmul reached in the same run. The arithmetic counted is the model's own: what is made again does not count,
  nor attention across documents.
Left out on purpose: the optimiser's update, decoding.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.memory import available_memory
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, TINY, ModelConfig, param_count
from dsm_jax.model.decoder import Params, Remat, bind
from dsm_jax.model.flops import flops_per_token
from dsm_jax.model.params import init_params, param_shardings
from dsm_jax.run import require_writable, write_json
from dsm_jax.train.step import lm_loss

PACKED = 8  # documents in a packed window
PARITY_LAYERS, PARITY_VOCAB, PARITY_TIME = 2, 4096, 640  # more tokens than one block of attention
TOP = 5  # operations named by --profile


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    model: ModelConfig
    rows: int = 4  # windows in a batch
    time: int = 4096  # tokens of a window
    remat: Remat = "dots"  # what the backward pass makes again
    rounds: int = 5
    matmul: int = 8192  # rows, columns and depth of the matmul that is the measure
    json: Path | None = None  # file for the numbers
    profile: Path | None = None  # folder for a trace of one step, whose most costly operations are named

    def __post_init__(self) -> None:
        for name in ("rows", "time", "rounds", "matmul"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if not 2 * PACKED <= self.time <= self.model.max_seq_len:
            raise UserError(
                f"--time is {self.time}; it must be at least {2 * PACKED}, for {PACKED} documents, and at most "
                f"the model's {self.model.max_seq_len}"
            )
        if self.json:
            require_writable(self.json, "--json")
        if self.profile and not self.profile.is_dir():
            require_writable(self.profile, "--profile")


def main(config: Bench) -> None:
    mesh = single_device_mesh()
    device = mesh.devices.flat[0]
    require_memory(config, mesh)
    console = Console()
    console.print(f"{device.device_kind}, jax {jax.__version__}", highlight=False)
    found: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__}

    def report(part: str, result: dict[str, Any]) -> None:
        found[part] = result
        numbers = ", ".join(f"{name} {_short(value)}" for name, value in result.items())
        console.print(f"{part}: {numbers}", highlight=False, soft_wrap=True)
        if config.json:
            write_json(config.json, found)

    if device.platform == "cpu":
        console.print("parity: skipped, this is the CPU that it would be measured against")
    else:
        report("parity", parity(config.model, mesh))
    report("packed", {"bits changed": bits_changed(config, mesh)})
    report("matmul", {"TFLOP/s": matmul_rate(config) / 1e12})
    params = init_params(config.model, 0, mesh)
    for name, documents in {"one document": 1, f"{PACKED} documents": PACKED}.items():
        report(name, speed(config, mesh, params, documents, found["matmul"]["TFLOP/s"] * 1e12))
    if config.profile:
        report("milliseconds", costs(config, mesh, params))


def require_memory(config: Bench, mesh: Mesh) -> None:
    """UserError where fp32 parameters and gradients alone do not fit."""
    needed, here = 2 * 4 * param_count(config.model), available_memory(mesh)
    if here is not None and needed > here:
        raise UserError(
            f"fp32 parameters and gradients of {config.preset} take {needed / 1e9:.1f} GB, and there are "
            f"{here / 1e9:.1f}: take --preset tiny, or a larger device"
        )


def parity(model: ModelConfig, mesh: Mesh) -> dict[str, float]:
    """Largest difference of logits, and of any gradient over its largest number, from the CPU's."""
    small = replace(
        model,
        n_layers=min(model.n_layers, PARITY_LAYERS),
        vocab_size=min(model.vocab_size, PARITY_VOCAB),
        init_std=1.5 * model.d_model**-0.5,  # attention far from uniform, logits of spread above 1
        dtype="float32",
    )
    host = parse_mesh(("fsdp=1",), jax.devices("cpu")[:1])
    params = init_params(small, 0, host)
    batch = windows(small, 1, PARITY_TIME, 2)
    results = []
    for place in (host, mesh):
        with jax.set_mesh(place), jax.default_matmul_precision("highest"):
            held = jax.device_put(params, param_shardings(small, place))
            gradients = jax.jit(jax.grad(lambda params: lm_loss(small, params, batch)))(held)
            results.append(jax.device_get((logits(small, held, batch), gradients)))
    (ours, gradients), (theirs, others) = results
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(others), strict=True)
    return {
        "logits' standard deviation": float(ours.std()),
        "largest difference of logits": float(np.abs(ours - theirs).max()),
        "of gradients, over their largest": max(
            float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs
        ),
    }


def bits_changed(config: Bench, mesh: Mesh) -> int:
    """Logits of a window's second half that differ once its first half, another document, reads otherwise."""
    model = replace(config.model, n_layers=min(config.model.n_layers, PARITY_LAYERS))
    before = windows(model, 1, config.time, 2)
    after = before | {"tokens": before["tokens"].copy()}
    half = config.time // 2
    after["tokens"][:, :half] = model.vocab_size - 1 - before["tokens"][:, :half]
    with jax.set_mesh(mesh):
        params = init_params(model, 0, mesh)
        a, b = (np.asarray(logits(model, params, batch)) for batch in (before, after))
    if np.array_equal(a[:, :half], b[:, :half]):
        raise AssertionError("the first document's own logits did not change")
    return int((a[:, half:] != b[:, half:]).sum())


@partial(jax.jit, static_argnums=0)
def logits(model: ModelConfig, params: Params, batch: dict[str, jax.Array]) -> jax.Array:
    """[B, T, V] of a batch."""
    decoder = bind(model, params)
    return decoder.logits(decoder.hidden(batch["tokens"], batch["segment_ids"]))


def windows(model: ModelConfig, rows: int, length: int, documents: int) -> dict[str, np.ndarray]:
    """Random tokens, each window cut into equal documents."""
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (rows, length), dtype=np.int32)
    segments = np.tile(1 + np.arange(length, dtype=np.int32) * documents // length, (rows, 1))
    first = np.diff(segments, axis=1, prepend=0) != 0
    return {"tokens": tokens, "segment_ids": segments, "loss_mask": np.where(first, 0.0, 1.0).astype("f")}


def matmul_rate(config: Bench) -> float:
    """FLOP/s of one large matmul in the model's dtype."""
    square = jnp.ones((config.matmul, config.matmul), config.model.dtype)
    multiply = jax.jit(jnp.matmul)
    return 2 * config.matmul**3 / seconds(lambda: multiply(square, square), config.rounds)


def speed(config: Bench, mesh: Mesh, params: Params, documents: int, rate: float) -> dict[str, float]:
    """Of forward and backward."""
    step = training_step(config, mesh, params, documents)
    with jax.set_mesh(mesh):
        took = seconds(step, config.rounds)
    per_token = flops_per_token(config.model, config.time / documents / 2, backward=True)
    tokens = config.rows * config.time
    result = {
        "seconds": took,
        "tokens/s": tokens / took,
        "TFLOP/s": tokens * per_token / took / 1e12,
        "share of matmul": tokens * per_token / took / rate,
    }
    stats = mesh.devices.flat[0].memory_stats()  # a CPU has none
    return result | ({"peak GB": stats["peak_bytes_in_use"] / 1e9} if stats else {})


def training_step(config: Bench, mesh: Mesh, params: Params, documents: int) -> Callable[[], Any]:
    """Runs the loss and the gradients of a batch once."""
    batch = jax.device_put(windows(config.model, config.rows, config.time, documents))
    run = jax.jit(
        jax.value_and_grad(lambda params, batch: lm_loss(config.model, params, batch, config.remat))
    )
    return lambda: run(params, batch)


def seconds(run: Callable[[], Any], rounds: int) -> float:
    """Median over the rounds, after one that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return median(times)


def costs(config: Bench, mesh: Mesh, params: Params) -> dict[str, float]:
    """Milliseconds of a packed step's most costly operations."""
    assert config.profile is not None
    step = training_step(config, mesh, params, PACKED)
    with jax.set_mesh(mesh):
        jax.block_until_ready(step())
        with jax.profiler.trace(config.profile):
            jax.block_until_ready(step())
    newest = max(config.profile.glob("**/*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    events = json.loads(gzip.decompress(newest.read_bytes()))["traceEvents"]
    total: Counter[str] = Counter()
    for event in events:
        if "hlo_op" in event.get("args", {}) and not event["name"].startswith("while"):
            total[event["name"]] += event["dur"] / 1e3
    return dict(total.most_common(TOP))


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


PRESETS = {
    "deepseek_math_7b": Bench("deepseek_math_7b", DEEPSEEK_MATH_7B),
    "tiny": Bench("tiny", TINY, time=512, matmul=512),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
