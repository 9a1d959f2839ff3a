"""bench_train.py's peer torch: transformers' Llama with AdamW (fused) and clipping, on the weights that our worker wrote.
Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_worker import MATMUL, serve
from transformers import AutoModelForCausalLM


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    torch.set_num_threads(request["threads"])
    model = AutoModelForCausalLM.from_pretrained(request["folder"], dtype="auto", attn_implementation="sdpa")
    numbers, parts = request["optimizer"], request["peer_micro_batches"]
    optimizer = adamw(model, numbers)
    shape = (request["rows"], request["time"])
    ids = torch.tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, shape))
    losses: list[float] = []

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in ids.chunk(parts):
            loss = model(part, labels=part, use_cache=False).loss / parts
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), numbers["clip_norm"])
        optimizer.step()
        losses.append(total)

    square = torch.ones((MATMUL, MATMUL), dtype=model.dtype)
    return {
        "matmul": lambda: square @ square,
        "train": train,
        "report": lambda: {"first_losses": losses[:2]},
    }


def adamw(model: torch.nn.Module, numbers: dict[str, Any]) -> torch.optim.Optimizer:
    matrices = [one for one in model.parameters() if one.ndim >= 2]
    rest = [one for one in model.parameters() if one.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices}, {"params": rest, "weight_decay": 0.0}],
        lr=numbers["peak_lr"],
        betas=(numbers["b1"], numbers["b2"]),
        eps=numbers["eps"],
        weight_decay=numbers["weight_decay"],
        fused=True,
    )


if __name__ == "__main__":
    serve(build)
