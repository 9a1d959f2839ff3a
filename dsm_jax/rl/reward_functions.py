"""Ready-made rewards: the grader's verdict, a marked answer, short and complete completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import grade


def accuracy_reward(
    prompts: Sequence[str], completions: Sequence[str], *, answer: Sequence[str], **columns: Any
) -> list[float]:
    """1 where the grader (mode strict) finds the completion's marked answer equal to the column `answer`, else 0.

    Raises UserError for an answer that the grader cannot score.
    """
    return [_accuracy(completion, gold) for completion, gold in zip(completions, answer, strict=True)]


def format_reward(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    r"""1 where exactly one \boxed{} that holds something and closes stands in the completion, else 0."""
    return [float(_is_marked_once(completion)) for completion in completions]


@dataclass(frozen=True)
class length_penalty:
    """A reward of -per_token for each token of the completion."""

    per_token: float

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], *, completion_ids: Sequence[Sequence[int]]
    ) -> list[float]:
        return [-self.per_token * len(ids) for ids in completion_ids]


@dataclass(frozen=True)
class overlong_penalty:
    """A reward of 0 up to max_completion_length - margin tokens, from there on down to -1 at max_completion_length (DAPO,
    arXiv 2503.14476, eq. 13)."""

    max_completion_length: int
    margin: int

    def __post_init__(self) -> None:
        if not 0 < self.margin <= self.max_completion_length:
            raise UserError(
                f"overlong_penalty: margin is {self.margin}; it must be above 0 and at most {self.max_completion_length}"
            )

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], *, completion_ids: Sequence[Sequence[int]]
    ) -> list[float]:
        free = self.max_completion_length - self.margin
        return [max(-1.0, min(0.0, (free - len(ids)) / self.margin)) for ids in completion_ids]


def _accuracy(completion: str, gold: str) -> float:
    correct = grade(completion, gold).correct
    if correct is None:
        raise UserError(f"the answer {gold!r} cannot be graded; correct it or drop its row")
    return float(correct)


def _is_marked_once(completion: str) -> bool:
    return completion.count(r"\boxed{") == 1 and bool(grade(completion, "0").extracted)
