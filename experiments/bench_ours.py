"""What our own workers of the benchmarks share: the model that a request names, and their memory."""

from __future__ import annotations

import resource
from typing import Any

import jax

from dsm_jax.model import ModelConfig
from dsm_jax.model.config import LoRA, RopeScaling


def model_config(fields: dict[str, Any]) -> ModelConfig:
    """From bench_turns.plain's fields, without LoRA."""
    return ModelConfig(**fields | {"rope_scaling": RopeScaling(**fields["rope_scaling"]), "lora": LoRA()})


def peak_bytes() -> int:
    """Of the device; of the process, where the device is the host's CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
