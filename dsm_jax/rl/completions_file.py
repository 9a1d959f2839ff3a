"""A rollout's completions for people: a JSON line each, with its rewards, advantages and steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dsm_jax.rl.rollout import Rollout


def completions_text(rollout: Rollout) -> str:
    """The lines of a completions/STEP.jsonl."""
    rows = _rows(rollout)
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _rows(rollout: Rollout) -> Iterable[Mapping[str, Any]]:
    each, steps = rollout.rewards.shape[1], rollout.scores.steps
    of_steps = [steps.of_completions(part) for part in (steps.ends, steps.rewards)] if steps else []
    flat = [one for group in rollout.completions for one in group]
    for i, (completion, advantages) in enumerate(zip(flat, rollout.advantages, strict=True)):
        row = {
            **rollout.prompts[i // each],
            "completion": completion.text,
            "finish_reason": completion.finish_reason,
            "rewards": {name: _plain(values[i]) for name, values in rollout.scores.by_name.items()},
            "reward": _plain(rollout.rewards.ravel()[i]),
            "advantage": round(float(advantages[0]), 6),
            "used": bool(rollout.used[i // each]),
        }
        if steps:
            ends, rewards = (part[i] for part in of_steps)
            row["steps"] = [
                {
                    "end": int(end),
                    "reward": _plain(round(float(reward), 6)),
                    "advantage": round(float(advantages[end]), 6),
                }
                for end, reward in zip(ends, rewards, strict=True)
            ]
        yield row


def _plain(reward: float) -> float | None:
    return None if np.isnan(reward) else float(reward)
