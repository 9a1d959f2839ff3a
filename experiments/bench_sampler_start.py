"""bench_sampler.py's worker that starts: imports the package, makes a small model and draws one token of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_ours import model_config
from bench_sampler_ours import Drawing
from bench_worker import serve


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """No tasks: the first token is there when it returns."""
    Drawing(model_config(request["model"]), request).greedy(1)
    return {}


if __name__ == "__main__":
    serve(build)
