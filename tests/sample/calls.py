"""Calls of the sampler on a mesh of 8 devices, all that several processes share in them. As a script it is one of two:
python -m tests.sample.calls FOLDER MESH.."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.mesh import batch_shards, parse_mesh
from dsm_jax.sample import Completion, Request, Tool
from tests.sample.models import CONFIG, Endless, sampler_of

WIDE = dataclasses.replace(CONFIG, d_model=64, n_heads=8, n_kv_heads=8)  # eight devices can share its heads


class Sixteen(Endless):
    """Its tokens stand for few letters, so that stop strings come often."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + int(i) % 16) for i in ids)


def plain() -> list[Request]:
    """More rows than slots, of all kinds of draws and ends."""
    kinds = [
        {"n": 9, "max_new_tokens": 40},
        {"top_p": 0.8, "max_new_tokens": 70, "n": 2},
        {"stop": ["aa", "bcd", "fl"], "max_new_tokens": 60, "n": 8},
        {"temperature": 0.0, "max_new_tokens": 9},
        {"top_k": 5, "seed": 9, "stop_token_ids": [70, 71], "max_new_tokens": 150},
        {"min_p": 0.1, "temperature": 1.4, "max_new_tokens": 20},
        {"prompt": [], "max_new_tokens": 3},
    ]
    return [Request(**{"prompt": f"prompt {i} " * (1 + 3 * (i % 2))} | kind) for i, kind in enumerate(kinds)]


def tool_rounds() -> list[Request]:
    """Rows that call a tool, which answers at once, late, never in time, or raises."""
    return [
        Request(f"ask {i}", max_new_tokens=60, temperature=2.0, stop=["mm"] * (i % 2), seed=i)
        for i in range(8)
    ]


class Answers:
    """A tool whose answer is of the text alone; how often this process ran it."""

    calls = 0

    def __call__(self, text: str) -> str:
        self.calls += 1
        if len(text) % 5 == 0:
            raise ValueError(f"of {len(text)}\ncharacters")
        if len(text) % 5 == 1:
            time.sleep(0.5)
        if len(text) % 9 == 2:
            time.sleep(30)
        return f"={len(text)};"


def said(completion: Completion) -> dict:
    """As JSON, log-probabilities exactly."""
    fields = dataclasses.asdict(completion)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()
    }


def heard(row: dict) -> Completion:
    return Completion(
        **row | {name: np.array(row[name]) for name in ("tokens", "logps", "full_logps", "inserted")}
    )


def make(mesh: Mesh) -> dict:
    """What the calls gave on this mesh."""
    tool = Answers()
    sampler = sampler_of(WIDE, mesh, tokenizer=Sixteen(), slots=4 * batch_shards(mesh))
    shown: dict[str, str] = {}

    def show(request: int, sample: int, text: str) -> None:
        name = f"{request}.{sample}"
        shown[name] = shown.get(name, "") + text

    streamed = {f"{i}.{sample}": said(one) for i, sample, one in sampler.stream(plain(), on_text=show)}
    asked = sampler.generate(tool_rounds(), tool=Tool(tool, "e", max_rounds=3, timeout_s=3.0))
    last = sampler.generate([Request("long", max_new_tokens=70), Request("short", max_new_tokens=5, n=15)])
    return {
        "streamed": streamed,
        "shown": shown,
        "asked": {str(i): said(one) for i, (one,) in enumerate(asked)},
        "last": {f"{i}.{sample}": said(one) for i, row in enumerate(last) for sample, one in enumerate(row)},
        "fingerprint": sampler.fingerprint(),
        "calls": tool.calls,
        "programs": sorted({program.name for program in sampler.usage.programs}),
    }


def alone() -> list[dict]:
    """A call that each process makes by itself, on its first device, with its own tool."""
    tool = Tool(lambda text: f"{len(text)}", "e", timeout_s=3.0)
    sampler = sampler_of(WIDE, tokenizer=Sixteen())
    return [said(one) for one in sampler.generate(["by myself"], n=2, max_new_tokens=40, tool=tool)[0]]


def main(folder: str, meshes: Sequence[str]) -> None:
    for name in meshes:
        found = make(parse_mesh(name)) | {"alone": alone()}
        (Path(folder) / f"{name}-{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
