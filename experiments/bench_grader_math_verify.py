"""bench_grader.py's peer math_verify: its parse and verify on the same pairs. Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from bench_worker import serve
from math_verify import parse, verify


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once. A bare gold answer is put between dollar signs, which it needs."""
    logging.disable()

    def graded(pair: dict[str, Any]) -> tuple[float, bool]:
        gold = pair["gold"]
        start = time.perf_counter()
        wanted = parse(gold if "$" in gold or "boxed" in gold else f"${gold}$")
        correct = verify(wanted, parse(pair["response"]))
        return (time.perf_counter() - start) * 1e3, bool(correct)

    def report() -> dict[str, Any]:
        found = {kind: [graded(pair) for pair in pairs] for kind, pairs in request["pairs"].items()}
        ms = {kind: [time for time, _ in rows] for kind, rows in found.items()}
        return ms | {"verdicts": [verdict for _, verdict in found["all"]]}

    return {"report": report}


if __name__ == "__main__":
    serve(build)
