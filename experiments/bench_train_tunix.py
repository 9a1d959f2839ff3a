"""bench_train.py's peer Tunix: its own Llama and its PeftTrainer's step, every parameter trained, on the weights that our
worker wrote. Of its remat settings and of accumulating gradients over micro-batches the request says which. Runs in an
environment of its own and imports nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bench_worker import MATMUL, serve
from tunix.models.llama3 import model as llama3
from tunix.models.llama3 import params as llama3_params
from tunix.sft import peft_trainer
from tunix.sft.utils import build_positions_from_mask, make_causal_attn_mask


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    folder = Path(request["folder"])
    config = model_config(json.loads((folder / "config.json").read_text()), request["peer_remat"])
    rows, parts = request["rows"], request["peer_micro_batches"]
    trainer = peft_trainer.PeftTrainer(
        llama3_params.create_model_from_safe_tensors(str(folder), config, dtype=jnp.float32),
        adamw(request["optimizer"]),
        peft_trainer.TrainingConfig(
            eval_every_n_steps=1 << 30, gradient_accumulation_steps=parts if parts > 1 else None
        ),
    ).with_gen_model_input_fn(model_input)
    train_step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (rows, request["time"])).astype(np.int32)
    batches = [
        peft_trainer.TrainingInput(input_tokens=part, input_mask=np.ones(part.shape, bool))
        for part in np.split(ids, parts)
    ]

    def train() -> jax.Array:
        return sum(train_step(batch)[0] for batch in batches) / parts

    multiply, square = jax.jit(jnp.matmul), jnp.ones((MATMUL, MATMUL))
    losses: list[float] = []
    return {
        "matmul": lambda: multiply(square, square),
        "train": lambda: losses.append(float(train())),
        "report": lambda: {"first_losses": losses[:2]},
    }


def model_config(hf: dict[str, Any], remat: str) -> llama3.ModelConfig:
    return llama3.ModelConfig(
        num_layers=hf["num_hidden_layers"],
        vocab_size=hf["vocab_size"],
        embed_dim=hf["hidden_size"],
        hidden_dim=hf["intermediate_size"],
        num_heads=hf["num_attention_heads"],
        head_dim=hf["head_dim"],
        num_kv_heads=hf["num_key_value_heads"],
        rope_theta=int(hf["rope_theta"]),  # not read: its positions turn with 1,000,000
        norm_eps=hf["rms_norm_eps"],
        weight_tying=hf["tie_word_embeddings"],
        remat_config=llama3.RematConfig[remat],
    )


def adamw(numbers: dict[str, Any]) -> optax.GradientTransformation:
    update = optax.adamw(
        numbers["peak_lr"],
        numbers["b1"],
        numbers["b2"],
        numbers["eps"],
        weight_decay=numbers["weight_decay"],
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
    )
    return optax.chain(optax.clip_by_global_norm(numbers["clip_norm"]), update)


def model_input(batch: peft_trainer.TrainingInput) -> dict[str, jax.Array]:
    return {
        "input_tokens": batch.input_tokens,
        "input_mask": batch.input_mask,
        "positions": build_positions_from_mask(batch.input_mask),
        "attention_mask": make_causal_attn_mask(batch.input_mask),
    }


if __name__ == "__main__":
    serve(build, jax.block_until_ready)
