"""How fast a GRPO update went: tokens a second, its share of what the devices can do, compilations.

The arithmetic counted is what is needed (nothing for padding, nothing for activations made again), the bytes those that
decoding has to read at least: the parameters at every step, and each row's own keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.model.config import ModelConfig, param_count
from dsm_jax.model.flops import flops_per_token, peak_bandwidth, peak_flops
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.rollout import Rollout
from dsm_jax.sample.memory import bytes_per_place
from dsm_jax.sample.sampler import Usage

COMPILED = (
    "/jax/core/compile/backend_compile_duration"  # also where the program comes out of the persistent cache
)
_compiled: list[str] = []


def _note(event: str, duration_secs: float, **kinds: str | int) -> None:
    if event == COMPILED:
        _compiled.append(str(kinds.get("fun_name", "")))


jax.monitoring.register_event_duration_secs_listener(_note)


def compilations() -> int:
    """Programs compiled in this process since this module was imported."""
    return len(_compiled)


def update_flops(config: GRPOTraining, model: ModelConfig, lengths: Sequence[int]) -> float:
    """Of one update over sequences of so many tokens: forward and backward of the policy (LoRA's frozen weights need no
    gradient), and with a KL the forward of the reference."""
    forwards = (2 if config.lora.rank else 3) + (1 if config.loss.beta else 0)
    return sum(forwards * length * flops_per_token(model, length / 2) for length in lengths)


def decode_bytes(model: ModelConfig, mesh: Mesh, rollout: Rollout, steps: int) -> float:
    """That a device reads at least in so many decode steps."""
    itemsize = np.dtype(model.dtype).itemsize
    own = sum(len(one.tokens) ** 2 / 2 for group in rollout.completions for one in group)
    shards = mesh.size // mesh.shape["tensor"]
    return (
        steps * param_count(model) * itemsize / mesh.shape["tensor"]
        + own * bytes_per_place(model, mesh) / shards
    )


def rollout_speed(model: ModelConfig, mesh: Mesh, rollout: Rollout, usage: Usage) -> dict[str, float]:
    """Of the sampler; nothing where the rollout came from the journal."""
    if not usage.steps:
        return {}
    seconds, peak = rollout.seconds["rollout"], peak_bandwidth(mesh.devices.flat[0])
    found = {"tokens_per_second/rollout": usage.tokens / seconds, "idle_share/rollout": usage.idle_share}
    if peak:
        found["bandwidth_share/rollout"] = decode_bytes(model, mesh, rollout, usage.steps) / seconds / peak
    return found


def update_speed(
    config: GRPOTraining, model: ModelConfig, mesh: Mesh, lengths: Sequence[int], seconds: float
) -> dict[str, float]:
    """Of an update over sequences of so many tokens; a shared prompt counts in each of them."""
    found = {"tokens_per_second/update": sum(lengths) / seconds}
    if peak := peak_flops(mesh.devices.flat[0]):
        found["mfu/update"] = update_flops(config, model, lengths) / seconds / (peak * mesh.size)
    return found
