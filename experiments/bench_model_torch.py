"""bench_model.py's peer: transformers on torch, on the weights that our worker wrote, with its fastest settings for a
CPU (scaled_dot_product_attention, a static cache). Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_worker import MATMUL, serve
from transformers import AutoModelForCausalLM, StaticCache


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    torch.set_num_threads(request["threads"])
    model = AutoModelForCausalLM.from_pretrained(request["folder"], dtype="auto", attn_implementation="sdpa")
    rows, length = request["rows"], request["time"]
    ids = torch.tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, (rows, length)))
    cache = StaticCache(config=model.config, max_cache_len=length)
    with torch.no_grad():
        model(ids[:, :-1], past_key_values=cache, use_cache=True)

    @torch.no_grad()
    def forward() -> Any:
        return model(ids, use_cache=False).logits

    def train() -> None:
        model.zero_grad(set_to_none=True)
        model(ids, labels=ids, use_cache=False).loss.backward()

    @torch.no_grad()
    def decode() -> Any:
        for layer in cache.layers:  # the same place again: the cache is full
            layer.cumulative_length.fill_(length - 1)
        return model(ids[:, -1:], past_key_values=cache, use_cache=True).logits

    square = torch.ones((MATMUL, MATMUL), dtype=model.dtype)
    return {"matmul": lambda: square @ square, "forward": forward, "train": train, "decode": decode}


if __name__ == "__main__":
    serve(build)
