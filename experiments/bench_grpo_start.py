"""bench_grpo.py's worker that starts: imports the package, loads the model and does one GRPO step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from bench_grpo_ours import Run
from bench_worker import serve

from dsm_jax.host_memory import keep_host_memory
from dsm_jax.mesh import single_device_mesh


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """No tasks: the first step is done when it returns."""
    Run(request).step()
    return {}


if __name__ == "__main__":
    keep_host_memory()
    with jax.set_mesh(single_device_mesh()):
        serve(build)
