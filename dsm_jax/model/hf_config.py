"""Hugging Face's config.json of a Llama-shaped model (Llama, Mistral, Qwen2, Qwen3) <-> ModelConfig.

What the decoder does not compute is refused by name, never ignored. A Mistral is a Llama as far as its window of attention
reaches, which is then its longest sequence; it is written as a Llama.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig, RopeScaling

# model_type -> what it adds to the plain decoder
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# config.json entries that must have this value where they are there: the decoder computes nothing else
ONLY: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,  # Llama's and Qwen3's: a bias of the output too, unlike Qwen2's
    "mlp_bias": False,
    "use_sliding_window": False,
    "quantization_config": None,
    "partial_rotary_factor": 1.0,
}
# What the family's own default would fill in, another one than Llama's: published files all have it
DEFAULT_IS_ITS_OWN = {
    "llama": (),
    "mistral": ("num_key_value_heads", "max_position_embeddings"),
    "qwen2": ("num_key_value_heads",),
    "qwen3": ("num_key_value_heads", "head_dim"),
}
REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
IS: dict[str, Callable[[Any], bool]] = {
    "a whole number of at least 1": lambda value: type(value) is int and value >= 1,
    "a number": lambda value: type(value) in (int, float) and abs(value) < 1e300,
    "true or false": lambda value: type(value) is bool,
    "an object": lambda value: type(value) is dict,
}
ROPE_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3"}
FREQUENCY_FACTORS = ("low_freq_factor", "high_freq_factor")
ORIGINAL = "original_max_position_embeddings"
WHOLE_NUMBERS = (*REQUIRED, "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window")
NUMBERS = ("rms_norm_eps", "initializer_range")
COMPUTE = {"float32": "float32", "float16": "float32", "bfloat16": "bfloat16"}  # stored -> computed


def config_from_hf(entries: Any, file: str | Path = "config.json") -> ModelConfig:
    """The ModelConfig of a config.json. Raises UserError naming `file` and what is missing or not supported.

    Dropout is not read: the decoder has none. float16 weights are computed in float32.
    """
    entries = _checked(entries, file)
    family = _family(entries, file)
    for name in (*REQUIRED, *DEFAULT_IS_ITS_OWN[family]):
        if name not in entries:
            raise UserError(f"{file}: {name} is missing; is this the folder of a Llama-shaped model?")
    rope = _rope(entries, file)
    heads = entries["num_attention_heads"]
    stored = entries.get("dtype") or entries.get("torch_dtype") or "float32"
    if stored not in tuple(COMPUTE):
        raise UserError(f"{file}: dtype {stored!r} is not supported; take one of {', '.join(COMPUTE)}")
    shape = dict(
        vocab_size=entries["vocab_size"],
        d_model=entries["hidden_size"],
        n_layers=entries["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=entries.get("num_key_value_heads") or heads,
        head_dim=entries.get("head_dim") or entries["hidden_size"] // heads,
        d_ff=entries["intermediate_size"],
        rope_theta=_number(rope, "rope_theta", file, 10_000.0),
        rope_scaling=_rope_scaling(rope, file),
        rms_eps=entries.get("rms_norm_eps", 1e-6),
        max_seq_len=_longest(entries, family),
        tie_embeddings=entries.get("tie_word_embeddings", False),
        init_std=entries.get("initializer_range", 0.02),
        dtype=COMPUTE[stored],
        **FAMILIES[family],
    )
    try:
        return ModelConfig(**shape)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _family(entries: Mapping[str, Any], file: str | Path) -> str:
    """The model_type, every entry that would change its arithmetic being one that the decoder computes."""
    family = entries.get("model_type", "llama")
    if family not in tuple(FAMILIES):
        raise UserError(f"{file}: model_type {family!r} is not supported; take one of {', '.join(FAMILIES)}")
    for name, only in ONLY.items():
        if entries.get(name, only) != only:
            raise UserError(
                f"{file}: {name} is {entries[name]!r}, but only {only!r} is supported; take another model"
            )
    layers = entries.get("layer_types", [])
    if not isinstance(layers, list) or any(kind != "full_attention" for kind in layers):
        raise UserError(
            f"{file}: layer_types are {layers!r}; only a list of 'full_attention' is supported; take another model"
        )
    return family


def _longest(entries: Mapping[str, Any], family: str) -> int:
    longest = entries.get("max_position_embeddings", 2048)
    return min(longest, entries.get("sliding_window", longest)) if family == "mistral" else longest


def _checked(entries: Any, file: str | Path) -> dict[str, Any]:
    """The entries without those that are null, all that are read of the type that they must have."""
    if not isinstance(entries, dict):
        raise UserError(f"{file}: not a JSON object; is this the folder of a Llama-shaped model?")
    entries = {name: value for name, value in entries.items() if value is not None}
    wanted = dict.fromkeys(WHOLE_NUMBERS, "a whole number of at least 1")
    wanted |= dict.fromkeys(NUMBERS, "a number")
    wanted |= {"tie_word_embeddings": "true or false"}
    wanted |= dict.fromkeys(("rope_scaling", "rope_parameters"), "an object")
    for name, kind in wanted.items():
        if name in entries and not IS[kind](entries[name]):
            raise UserError(f"{file}: {name} is {entries[name]!r}; it must be {kind}: fetch it again")
    return entries


def _rope(entries: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Base and scaling: at the top level (transformers 4), or together in rope_parameters (transformers 5)."""
    old, new = entries.get("rope_scaling", {}), entries.get("rope_parameters", {})
    if old and new and old != new:
        raise UserError(
            f"{file}: rope_scaling and rope_parameters say different things; take one of them out"
        )
    if any(isinstance(value, dict) for value in new.values()):
        raise UserError(
            f"{file}: rope_parameters differ by layer, which is not supported; take another model"
        )
    rope = {"rope_theta": entries.get("rope_theta")} | old | new
    rope.setdefault(ORIGINAL, entries.get(ORIGINAL))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(
            f"{file}: partial_rotary_factor {rope['partial_rotary_factor']} is not supported, only 1.0"
        )
    return {name: value for name, value in rope.items() if value is not None}


def _rope_scaling(rope: Mapping[str, Any], file: str | Path) -> RopeScaling:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in tuple(ROPE_KINDS):
        raise UserError(
            f"{file}: rope scaling of type {kind!r} is not supported; it must be one of {', '.join(ROPE_KINDS)}"
        )
    if kind == "default":
        return RopeScaling()
    if kind == "linear":
        return RopeScaling("linear", _number(rope, "factor", file))
    factor, low, high = (_number(rope, name, file) for name in ("factor", *FREQUENCY_FACTORS))
    if not IS["a whole number of at least 1"](rope.get(ORIGINAL)):
        raise UserError(
            f"{file}: {ORIGINAL} is {rope.get(ORIGINAL)!r}; llama3's rope scaling needs a whole number"
        )
    return RopeScaling("llama3", factor, low, high, rope[ORIGINAL])


def _number(rope: Mapping[str, Any], name: str, file: str | Path, default: float | None = None) -> float:
    value = rope.get(name, default)
    if not IS["a number"](value):
        raise UserError(
            f"{file}: {name} of its rotary positions is {value!r}; it must be a number: fetch it again"
        )
    return float(value)


def config_to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The config.json of a model whose weights are stored as `dtype`; read by transformers 4 and 5.

    Raises UserError for a model that is none of the families.
    """
    flags = {"qkv_bias": config.qkv_bias, "qk_norm": config.qk_norm}
    family = next(
        (name for name, adds in FAMILIES.items() if dict.fromkeys(flags, False) | adds == flags), None
    )
    if family is None:
        raise UserError(
            "a model with qkv_bias and qk_norm has no name in transformers; leave one of them out"
        )
    return {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling_to_hf(config.rope_scaling),
        "rms_norm_eps": config.rms_eps,
        "max_position_embeddings": config.max_seq_len,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.init_std,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": dtype,
    }


def _rope_scaling_to_hf(scaling: RopeScaling) -> dict[str, Any] | None:
    if scaling.kind == "none":
        return None
    entries: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        entries |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_seq_len,
        }
    return entries
