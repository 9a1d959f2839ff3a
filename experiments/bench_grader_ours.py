"""bench_grader.py's own grader: each pair's milliseconds, for the first time in a pass, and the verdicts on the cases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench_worker import serve

from dsm_jax.evaluate.grader import equal, grade, normalise, numbers, parse, same

CACHES = (equal.same_answer, normalise.plain, numbers.quantity, parse.parse, same.same_value)


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""

    def graded(pair: dict[str, Any]) -> tuple[float, bool | None]:
        start = time.perf_counter()
        verdict = grade(pair["response"], pair["gold"], mode=pair["mode"])
        return (time.perf_counter() - start) * 1e3, verdict.correct

    def report() -> dict[str, Any]:
        for function in CACHES:
            function.cache_clear()
        found = {kind: [graded(pair) for pair in pairs] for kind, pairs in request["pairs"].items()}
        ms = {kind: [time for time, _ in rows] for kind, rows in found.items()}
        return ms | {"verdicts": [verdict for _, verdict in found["all"]]}

    return {"report": report}


if __name__ == "__main__":
    serve(build)
