"""bench_grpo.py's worker for our GRPO step: GRPO.step, its completions written to files as in a run, on one device.

The weights are random but for the end of sequence, which every place draws with the share that the request names: so
lengths are geometric, and nobody knows them before. Left out on purpose: checkpoints, and the loop's log.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench_grpo_work import BOS, EOS, PAD, Reward, ids_of, text_of
from bench_ours import model_config, peak_bytes
from bench_sampler_ours import PEAK_BANDWIDTH
from bench_worker import serve

from dsm_jax.host_memory import keep_host_memory
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, ModelConfig, load_hf, save_hf
from dsm_jax.model.decoder import Params, bind
from dsm_jax.model.flops import peak_flops
from dsm_jax.model.params import init_params, param_shardings
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.grpo import GRPO, GRPOState
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.speed import compilations
from dsm_jax.train.logps import token_logps
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

NEVER = 1e-9  # share of an id that no row draws
LOUD = 4.0  # so that no layer adds much to it
STEPS = 1 << 20  # of the schedule: more than are run


class Ids:
    """A tokenizer of texts that are numbers."""

    bos_id, pad_id, eos_id = BOS, PAD, EOS
    fingerprint = "ids"

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        return ids_of(text)

    def decode(self, ids: Sequence[int]) -> str:
        return text_of(ids)


class Run:
    """A GRPO run, step by step, and what each took."""

    def __init__(self, request: dict[str, Any]):
        self.mesh, self.model = single_device_mesh(), model_config(request["model"])
        params = start_params(request, self.model, self.mesh)
        self.scores = scores(self.model, params, request["scored"])
        self.reward, self.steps = Reward(), []
        prompts = [{"prompt": text_of(ids)} for ids in request["prompts"]]
        count = request["prompts_per_step"]

        def rows(step: int) -> list[dict[str, str]]:
            return [prompts[(step * count + i) % len(prompts)] for i in range(count)]

        config = training(request)
        self.grpo = GRPO(
            config, self.model, Ids(self.model.vocab_size), self.mesh, prompts=rows, reward=self.reward
        )
        actor = self.grpo.actor
        self.timed = {
            "rollout": Timed(actor, "rollout"),
            "rewards": Timed(actor, "scorer"),
            "update": Timed(self.grpo, "update"),
        }
        self.state: GRPOState | None = self.grpo.start(params)
        self.number, self.folder = 0, Path(tempfile.mkdtemp())
        (self.folder / "completions").mkdir()

    def step(self) -> None:
        """One step; what it drew stands in self.steps."""
        state, self.state = self.state, None
        compiled, begun, cpu = compilations(), time.perf_counter(), time.process_time()
        self.state, _ = self.grpo.step(state, self.number, self.folder)
        took = [time.perf_counter() - begun, time.process_time() - cpu]
        self.number += 1
        drawn = self.timed["rollout"].result.completions
        lengths = [[len(one.tokens) for one in group] for group in drawn]
        found = {name: one.took for name, one in self.timed.items()}
        found["rollout"] = [a - b for a, b in zip(found["rollout"], found["rewards"], strict=True)]
        compiled = compilations() - compiled
        self.steps.append({"lengths": lengths, "phases": found, "took": took, "compilations": compiled})


class Timed:
    """An attribute of an object that is called; what the last call took (seconds, CPU seconds) and gave."""

    def __init__(self, owner: Any, name: str):
        self.call, self.took, self.result = getattr(owner, name), [0.0, 0.0], None
        setattr(owner, name, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        begun, cpu = time.perf_counter(), time.process_time()
        self.result = self.call(*args, **options)
        self.took = [time.perf_counter() - begun, time.process_time() - cpu]
        return self.result


def training(request: dict[str, Any]) -> GRPOTraining:
    """The run's options."""
    return GRPOTraining(
        loop=LoopConfig(steps=STEPS),
        batch_size=request["prompts_per_step"] * request["n"],
        num_generations=request["n"],
        max_completion_length=request["max_new_tokens"],
        loss=GRPOConfig(beta=request["beta"]),
        optimizer=OptimizerConfig(**request["optimizer"]),
        micro_batch_tokens=request["micro_batch_tokens"],
        slots=request["slots"],
        remat=request["remat"],
    )


def start_params(request: dict[str, Any], model: ModelConfig, mesh: jax.sharding.Mesh) -> Params:
    """Those in the folder, or new ones; written to the folder, where there is one."""
    folder = Path(request["folder"]) if request["folder"] else None
    if folder and (folder / "config.json").exists():
        return load_hf(folder, mesh, dtype="float32").params
    params = with_ends(model, init_params(model, 0, mesh), mesh, request["end_share"])
    if folder:
        save_hf(Model(model, params), folder)
    return params


def with_ends(model: ModelConfig, params: Params, mesh: jax.sharding.Mesh, share: float) -> Params:
    """The parameters with an end of sequence that a place draws with about this share, and a padding that none does.

    Every embedding says LOUD in the first dimension, and these two ids' rows of the head look at nothing else.
    """
    name, embed = "embed" if model.tie_embeddings else "head", params["embed"]
    first = jnp.arange(model.d_model) == 0
    params = params | {"embed": jnp.where(first, LOUD, embed)}
    ids = np.random.default_rng(1).integers(PAD + 2, model.vocab_size, (4, 64))
    seen, rest = (
        np.asarray(a, np.float64).ravel() for a in jax.jit(_places, static_argnums=0)(model, params, ids)
    )
    weights = {EOS: _weight(seen, rest, share), PAD: _weight(seen, rest, NEVER)}

    def put(head: jax.Array) -> jax.Array:
        head = head if model.tie_embeddings else head.T
        for row, weight in weights.items():
            chosen = (jnp.arange(model.vocab_size) == row)[:, None]
            head = jnp.where(chosen, jnp.where(first, weight, 0.0), head)
        return head if model.tie_embeddings else head.T

    placed = jax.jit(put, out_shardings=param_shardings(model, mesh)[name], donate_argnums=0)
    return params | {name: placed(params[name])}


def _places(model: ModelConfig, params: Params, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """At each place the first dimension that the head sees, and the log-sum of all other ids' logits."""
    decoder = bind(model, params)
    hidden = decoder.hidden(ids, jnp.ones_like(ids))
    others = jnp.where(np.isin(np.arange(model.vocab_size), (PAD, EOS)), -jnp.inf, decoder.logits(hidden))
    return hidden[..., 0].astype(jnp.float32), jax.nn.logsumexp(others, -1)


def _weight(seen: np.ndarray, rest: np.ndarray, share: float) -> float:
    """By which `seen` has to be multiplied to be drawn with this share on average."""
    low, high = -1e3, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        drawn = np.exp(-np.logaddexp(0, rest - middle * seen)).mean()
        low, high = (middle, high) if drawn < share else (low, middle)
    return middle


def scores(model: ModelConfig, params: Params, scored: dict[str, Any]) -> list[list[float]]:
    """Log-probabilities of given completions: what a peer's must be."""
    tokens = np.concatenate([np.array(scored["prompts"]), np.array(scored["completions"])], axis=1)
    found = jax.jit(token_logps, static_argnums=0)(model, params, tokens, np.ones_like(tokens)).logps
    return np.asarray(found)[:, len(scored["prompts"][0]) :].tolist()


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    run, device = Run(request), jax.local_devices()[0]

    def report() -> dict[str, Any]:
        bandwidth = [rate for kind, rate in PEAK_BANDWIDTH.items() if device.device_kind.startswith(kind)]
        return {
            "device": device.device_kind,
            "jax": jax.__version__,
            "peak_bandwidth": bandwidth[0] if bandwidth else None,
            "peak_flops": peak_flops(device),
            "peak_bytes": peak_bytes(),
            "compilations": compilations(),
            "steps": run.steps,
            "scores": run.scores,
            "text_tokens": run.reward.tokens,
        }

    dtype = run.model.dtype
    multiply, copy = jax.jit(jnp.matmul), jax.jit(jnp.negative, donate_argnums=0)
    held: list[jax.Array] = []

    def square() -> jax.Array:
        one = jnp.ones((request["matmul"],) * 2, dtype)
        return multiply(one, one)

    def copy_block() -> jax.Array:
        """Reads and writes a block where it is: a new one would cost a CPU its pages, too."""
        held.append(copy(held.pop() if held else jnp.zeros(request["copy_bytes"] // 4)))
        return held[0]

    return {"step": run.step, "matmul": square, "copy": copy_block, "report": report}


if __name__ == "__main__":
    keep_host_memory()  # as every script of ours does
    with jax.set_mesh(single_device_mesh()):
        serve(build, jax.block_until_ready)
