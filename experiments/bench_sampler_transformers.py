"""bench_sampler.py's peer transformers: generate() of its Llama on torch, batches that wait for their longest row, on the
weights that our worker wrote. Of its caches the request says which. Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_worker import serve
from transformers import AutoModelForCausalLM, GenerationConfig


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    torch.set_num_threads(request["threads"])
    model = AutoModelForCausalLM.from_pretrained(request["folder"], dtype="auto", attn_implementation="sdpa")
    model.generation_config = GenerationConfig(
        eos_token_id=None, pad_token_id=0, cache_implementation=request["peer_cache"]
    )
    prompts = torch.tensor(request["prompts"])

    def generate(rows: torch.Tensor, steps: int, **options: Any) -> Any:
        with torch.inference_mode():
            return model.generate(rows, attention_mask=torch.ones_like(rows), max_new_tokens=steps, **options)

    def draw(batches: list[dict[str, Any]]) -> None:
        for batch in batches:
            rows = prompts[batch["rows"]]
            found = generate(rows, batch["steps"], do_sample=True, temperature=1.0, top_p=1.0, top_k=0)
            assert found.shape[1] == rows.shape[1] + batch["steps"]

    def report() -> dict[str, Any]:
        steps = request["greedy"]
        found = generate(prompts, steps, do_sample=False, return_dict_in_generate=True, output_logits=True)
        tokens = found.sequences[:, -steps:]
        logps = torch.stack(found.logits, 1).float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return {"greedy": tokens.tolist(), "logps": logps.tolist()}

    tasks = {name: lambda batches=batches: draw(batches) for name, batches in request["batches"].items()}
    return tasks | {"report": report}


if __name__ == "__main__":
    serve(build)
