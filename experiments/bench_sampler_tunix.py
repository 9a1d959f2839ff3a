"""bench_sampler.py's peer Tunix: its own Llama and its Sampler, which decodes a static batch until its longest row ends,
on the weights that our worker wrote. Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from bench_train_tunix import model_config
from bench_worker import serve
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import params as llama3_params

NO_TOKEN = -1  # an id that no row draws: neither end nor padding


class Ids:
    """A tokenizer whose texts are token ids already."""

    def encode(self, ids: list[int]) -> list[int]:
        return ids

    def decode(self, ids: list[int]) -> str:
        return ""

    def bos_id(self) -> None:
        """The prompts have theirs."""

    def eos_id(self) -> int:
        return NO_TOKEN

    def pad_id(self) -> int:
        return NO_TOKEN


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    folder, prompts = Path(request["folder"]), request["prompts"]
    config = model_config(json.loads((folder / "config.json").read_text()), "NONE")
    model = llama3_params.create_model_from_safe_tensors(str(folder), config, dtype=jnp.float32)
    length = len(prompts[0])
    cache = CacheConfig(
        cache_size=length + request["max_new_tokens"],
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
    )
    sampler = Sampler(model, Ids(), cache)

    def draw(batches: list[dict[str, Any]]) -> None:
        for batch in batches:
            rows = [prompts[row] for row in batch["rows"]]
            found = sampler(
                rows, batch["steps"], max_prompt_length=length, temperature=1.0, top_p=1.0,
                seed=0, return_logprobs=request["peer_logprobs"],
            )  # fmt: skip
            assert all(len(tokens) == batch["steps"] for tokens in found.tokens)

    def report() -> dict[str, Any]:
        found = sampler(prompts, request["greedy"], max_prompt_length=length, return_logprobs=True)
        return {"greedy": [tokens.tolist() for tokens in found.tokens], "logps": found.logprobs}

    tasks = {name: lambda batches=batches: draw(batches) for name, batches in request["batches"].items()}
    return tasks | {"report": report}


if __name__ == "__main__":
    serve(build)
