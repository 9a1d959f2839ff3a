"""Hugging Face's config.json of a Llama-shaped model <-> ModelConfig.

What the decoder does not compute is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig

# config.json entries that must have one of these values where they are there: the decoder computes nothing else
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
}
REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
IS: dict[str, Callable[[Any], bool]] = {
    "a whole number of at least 1": lambda value: type(value) is int and value >= 1,
    "a number": lambda value: type(value) in (int, float),
    "true or false": lambda value: type(value) is bool,
    "an object": lambda value: type(value) is dict,
}
WHOLE_NUMBERS = (*REQUIRED, "num_key_value_heads", "head_dim", "max_position_embeddings")
NUMBERS = ("rms_norm_eps", "initializer_range")
COMPUTE = {"float32": "float32", "float16": "float32", "bfloat16": "bfloat16"}  # stored -> computed


def config_from_hf(entries: Any, file: str | Path = "config.json") -> ModelConfig:
    """The ModelConfig of a config.json. Raises UserError naming `file` and what is missing or not supported.

    Dropout is not read: the decoder has none. float16 weights are computed in float32.
    """
    entries = _checked(entries, file)
    for name, allowed in SUPPORTED.items():
        if entries.get(name, allowed[0]) not in allowed:
            raise UserError(
                f"{file}: {name} is {entries[name]!r}, but only {allowed[0]!r} is supported; "
                "take a model of plain Llama shape"
            )
    for name in REQUIRED:
        if name not in entries:
            raise UserError(f"{file}: {name} is missing; is this the folder of a Llama-shaped model?")
    heads = entries["num_attention_heads"]
    stored = entries.get("dtype") or entries.get("torch_dtype") or "float32"
    if stored not in tuple(COMPUTE):
        raise UserError(f"{file}: dtype {stored!r} is not supported; take one of {', '.join(COMPUTE)}")
    return ModelConfig(
        vocab_size=entries["vocab_size"],
        d_model=entries["hidden_size"],
        n_layers=entries["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=entries.get("num_key_value_heads") or heads,
        head_dim=entries.get("head_dim") or entries["hidden_size"] // heads,
        d_ff=entries["intermediate_size"],
        rope_theta=_rope_theta(entries, file),
        rms_eps=entries.get("rms_norm_eps", 1e-6),
        max_seq_len=entries.get("max_position_embeddings", 2048),
        tie_embeddings=entries.get("tie_word_embeddings", False),
        init_std=entries.get("initializer_range", 0.02),
        dtype=COMPUTE[stored],
    )


def _checked(entries: Any, file: str | Path) -> dict[str, Any]:
    """The entries without those that are null, all that are read of the type that they must have."""
    if not isinstance(entries, dict):
        raise UserError(f"{file}: not a JSON object; is this the folder of a Llama-shaped model?")
    entries = {name: value for name, value in entries.items() if value is not None}
    wanted = dict.fromkeys(WHOLE_NUMBERS, "a whole number of at least 1")
    wanted |= dict.fromkeys(NUMBERS, "a number")
    wanted |= {"tie_word_embeddings": "true or false", "rope_parameters": "an object"}
    for name, kind in wanted.items():
        if name in entries and not IS[kind](entries[name]):
            raise UserError(f"{file}: {name} is {entries[name]!r}; it must be {kind}: fetch it again")
    return entries


def _rope_theta(entries: Mapping[str, Any], file: str | Path) -> float:
    """The base, from the top level (transformers 4) or from rope_parameters (transformers 5)."""
    rope = entries.get("rope_parameters") or {}
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise UserError(f"{file}: rope_parameters of type {kind!r} are not supported, only 'default'")
    theta = rope.get("rope_theta", entries.get("rope_theta", 10_000.0))
    if not IS["a number"](theta):
        raise UserError(f"{file}: rope_theta is {theta!r}; it must be a number: fetch it again")
    return float(theta)


def config_to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The config.json of a model whose weights are stored as `dtype`; read by transformers 4 and 5."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": config.rms_eps,
        "max_position_embeddings": config.max_seq_len,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.init_std,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": dtype,
    }
