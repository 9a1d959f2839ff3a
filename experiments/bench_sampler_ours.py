"""bench_sampler.py's worker for our sampler. Random weights, made on the device that draws with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from bench_ours import model_config, peak_bytes
from bench_worker import serve

from dsm_jax.host_memory import keep_host_memory
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, ModelConfig, save_hf
from dsm_jax.model.params import init_params
from dsm_jax.sample.request import Request
from dsm_jax.sample.sampler import Sampler

# Bytes a second of a device's memory, as its maker states it; by the beginning of its device_kind.
PEAK_BANDWIDTH = {"NVIDIA H200": 4.8e12}


class Ids:
    """A tokenizer without texts, whose end of sequence no row draws."""

    bos_id = pad_id = 0
    eos_id = -1
    fingerprint = "ids"

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def decode(self, ids: Sequence[int]) -> str:
        return ""


class Drawing:
    """The sampler, and what it says of its work by the name of the task."""

    def __init__(self, config: ModelConfig, request: dict[str, Any]):
        self.prompts = request["prompts"]
        self.seen: dict[str, dict[str, Any]] = {}
        self.compiled: Counter[str] = Counter()
        mesh = single_device_mesh()
        params = init_params(config, 0, mesh)
        if request["folder"]:
            save_hf(Model(config, params), Path(request["folder"]))
        self.sampler = Sampler(config, Ids(config.vocab_size), mesh, slots=request["slots"])
        self.sampler.load(params)

    def run(self, task: str, asked: dict[str, Any]) -> None:
        """Draws a workload: of its first prompts so many completions, with Request's other options."""
        options = {name: value for name, value in asked.items() if name != "prompts"}
        requests = [Request(prompt, **options) for prompt in self.prompts[: asked["prompts"]]]
        before = self.sampler.usage.compilations
        self.sampler.reset_usage()
        found = self.sampler.generate(requests)
        usage = self.sampler.usage
        self.compiled[task] += usage.compilations - before
        self.seen[task] = {
            "lengths": [[len(one.tokens) for one in group] for group in found],
            "compilations": self.compiled[task],
            "max_compilations": usage.max_compilations,
            "slot_idle_share": usage.idle_share,
            "steps": usage.steps,
            "planned_bytes": usage.memory,
        }

    def first_tokens(self) -> None:
        """The prompts' prefill, and one step."""
        self.sampler.generate(self.prompts, max_new_tokens=1)

    def greedy(self, tokens: int) -> dict[str, Any]:
        found = self.sampler.generate(self.prompts, max_new_tokens=tokens, temperature=0.0)
        return {
            "greedy": [one.tokens.tolist() for (one,) in found],
            "logps": [one.logps.tolist() for (one,) in found],
        }


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once. Writes the model to the folder, where there is one, for the peer to read."""
    config = model_config(request["model"])
    drawing, device = Drawing(config, request), jax.local_devices()[0]

    def draw(name: str) -> Callable[[], None]:
        return lambda: drawing.run(name, request["workloads"][name])

    def report() -> dict[str, Any]:
        bandwidth = [rate for kind, rate in PEAK_BANDWIDTH.items() if device.device_kind.startswith(kind)]
        about = {
            "device": device.device_kind,
            "jax": jax.__version__,
            "peak_bandwidth": bandwidth[0] if bandwidth else None,
            "peak_bytes": peak_bytes(),
        }
        return about | {"usage": drawing.seen} | drawing.greedy(request["greedy"])

    multiply, square = jax.jit(jnp.matmul), jnp.ones((request["matmul"],) * 2, config.dtype)
    copy, held = jax.jit(jnp.negative, donate_argnums=0), []

    def copy_block() -> jax.Array:
        """Reads and writes a block where it is: a new one would cost a CPU its pages, too."""
        block = (
            held.pop() if held else jnp.zeros(request["copy_bytes"] // 4)
        )  # not before the sampler's peak is taken
        held.append(copy(block))
        return held[0]

    return {name: draw(name) for name in request["workloads"]} | {
        "prefill": drawing.first_tokens,
        "matmul": lambda: multiply(square, square),
        "copy": copy_block,
        "report": report,
    }


if __name__ == "__main__":
    keep_host_memory()  # as every script of ours does
    with jax.set_mesh(single_device_mesh()):
        serve(build, jax.block_until_ready)
