"""Small checkpoints of every family, as Hugging Face stores them: entries of config.json, and tensors from a seed.

Weights are large enough that logits spread and attention is far from uniform; eps is large enough to show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

PLAIN: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 0.05,
    "rope_theta": 500.0,
    "max_position_embeddings": 64,
    "torch_dtype": "float32",
}
GQA = PLAIN | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES: dict[str, dict[str, Any]] = {
    "llama": PLAIN,
    "llama_gqa": GQA,
    "llama_tied": GQA | {"tie_word_embeddings": True},
    "llama_linear": GQA | {"max_position_embeddings": 32, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama_llama3": GQA | {"rope_scaling": LLAMA3},
    "qwen2": GQA | {"model_type": "qwen2", "use_sliding_window": False},
    "qwen2_tied": GQA | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": GQA | {"model_type": "qwen3", "head_dim": 24},
    "qwen3_llama3": GQA | {"model_type": "qwen3", "head_dim": 24, "rope_scaling": LLAMA3},
}
IDS = np.random.default_rng(1).integers(0, 96, (2, 50))  # longer than 32, the scalings' original length


def random_tensors(entries: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors under Hugging Face's names, linear maps [outputs, inputs]."""
    rng = np.random.default_rng(seed)
    d, f, v = entries["hidden_size"], entries["intermediate_size"], entries["vocab_size"]
    width = entries.get("head_dim", d // entries["num_attention_heads"])
    q, kv = entries["num_attention_heads"] * width, entries["num_key_value_heads"] * width
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d), "model.norm.weight": (d,)}
    if not entries.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (v, d)
    for i in range(entries["num_hidden_layers"]):
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (d,),
            "post_attention_layernorm.weight": (d,),
            "self_attn.q_proj.weight": (q, d),
            "self_attn.k_proj.weight": (kv, d),
            "self_attn.v_proj.weight": (kv, d),
            "self_attn.o_proj.weight": (d, q),
            "mlp.gate_proj.weight": (f, d),
            "mlp.up_proj.weight": (f, d),
            "mlp.down_proj.weight": (d, f),
        }
        if entries["model_type"] == "qwen2":
            layer |= {f"self_attn.{part}_proj.bias": (n,) for part, n in (("q", q), ("k", kv), ("v", kv))}
        if entries["model_type"] == "qwen3":
            layer |= {f"self_attn.{part}_norm.weight": (width,) for part in "qk"}
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return {name: _numbers(name, shape, rng) for name, shape in shapes.items()}


def _numbers(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    centre, spread = (1.0, 0.5) if "norm" in name else (0.0, 0.5 if name.endswith("bias") else 0.15)
    return (centre + spread * rng.standard_normal(shape)).astype(np.float32)


def write_folder(
    folder: Path, entries: dict[str, Any] = GQA, tensors: dict[str, np.ndarray] | None = None
) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(entries))
    save_file(tensors or random_tensors(entries), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
