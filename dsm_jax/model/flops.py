"""The arithmetic of a decoder, and how much of it and of reading memory a chip can do: what MFU is made of."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from dsm_jax.model.config import ModelConfig

# Dense bf16 FLOP/s of a device, as its maker states it; by the beginning of its device_kind.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,  # what v5p calls itself
    "TPU v6 lite": 918e12,
}
# Bytes of memory that a device reads in a second, as its maker states it.
PEAK_BANDWIDTH = {
    "NVIDIA A100": 2.04e12,
    "NVIDIA H100": 3.35e12,
    "NVIDIA H200": 4.8e12,
    "NVIDIA B200": 8.0e12,
    "TPU v4": 1.23e12,
    "TPU v5 lite": 0.82e12,
    "TPU v5p": 2.77e12,
    "TPU v5": 2.77e12,
    "TPU v6 lite": 1.64e12,
}


def flops_per_token(model: ModelConfig, places: float, *, backward: bool = False) -> float:
    """Multiplications and additions of a token that attends to so many places: two for each weight but the embedding,
    three times that with the backward pass."""
    heads = model.n_heads * model.head_dim
    layer = (
        2 * model.d_model * model.head_dim * (model.n_heads + model.n_kv_heads)
        + 3 * model.d_model * model.d_ff
    )
    weights = model.n_layers * layer + model.d_model * model.vocab_size
    return (3 if backward else 1) * (2 * weights + 4 * model.n_layers * heads * places)


def peak_flops(device: jax.Device) -> float | None:
    """FLOP/s of a device; None where it is not in the table (a CPU)."""
    return _of_kind(PEAK_FLOPS, device)


def peak_bandwidth(device: jax.Device) -> float | None:
    """Bytes a second of a device's memory; None where it is not in the table (a CPU)."""
    return _of_kind(PEAK_BANDWIDTH, device)


def _of_kind(table: Mapping[str, float], device: jax.Device) -> float | None:
    return next((peak for kind, peak in table.items() if device.device_kind.startswith(kind)), None)
