"""Samples for tests."""

from __future__ import annotations

from typing import Any

from dsm_jax.evaluate.samples import Sample


def sample(id: str, number: int = 0, right: bool | None = True, **changes: Any) -> Sample:
    """An answer that is right, wrong, or to a question whose gold answer cannot be scored."""
    values: dict[str, Any] = {
        "benchmark": "gsm8k", "protocol": "zero_shot_cot", "id": id, "subject": "", "level": "", "language": "en",
        "gold": "7", "sample": number, "prompt": "Q", "response": "\\boxed{7}", "finish": "stop", "tokens": 10,
        "executed": "", "extracted": "7", "correct": {"strict": right, "flexible": right}, "reason": "", "vote": 0,
    }  # fmt: skip
    return Sample(**values | changes)
