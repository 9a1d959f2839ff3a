"""Scoring a rollout: completions as wholes and step by step, by functions and by trained reward models.

A reward is a function of completions (rewards.py); a StepReward, such a function called with one row for each step; or a
trained model. Functions run on the first process, models on the mesh, so that every process calls them.
Weighted sums are made of what judges whole completions, and of what judges steps, apart: the two meet as advantages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeGuard

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.rl.reward_calls import Reward
from dsm_jax.rl.rewards import RewardOptions, Rewards, Scores, Steps, name_of, weighted
from dsm_jax.rl.steps.segments import Splitting, step_ends, steps_of
from dsm_jax.rl.steps.token_ends import completion_ends
from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import Tokenizer


@dataclass(frozen=True)
class StepReward:
    """A reward of every step of a completion (process supervision, DeepSeekMath, section 4.1.3).

    function: called as any reward is, with one row for each step: `completions` are the texts up to and with the step, and
    the column `step` holds its own text. It returns one number a row.
    """

    function: Reward

    @property
    def __name__(self) -> str:
        return name_of(self.function)


class Judge(Protocol):
    """A trained model that scores tokens (reward_model/score.py): kind "outcome" the last one, "process" each step's."""

    @property
    def kind(self) -> Literal["outcome", "process"]: ...

    def require_policy(self, tokenizer: Tokenizer, splitting: Splitting) -> None:
        """UserError where it cannot score completions of this tokenizer, or steps of this kind."""

    def score(
        self, prompts: Sequence[str], completions: Sequence[Sequence[int]], ends: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """For each completion its scores [K] at these of its tokens. Every process makes the same call."""
        ...


AnyReward = Reward | StepReward | Judge
STEP, IDS = "step", "completion_ids"  # columns: of a step's text, of a completion's tokens


class Scorer:
    """All rewards of a run. Use it in a `with` block where they have processes."""

    def __init__(
        self,
        rewards: AnyReward | Sequence[AnyReward],
        options: RewardOptions,
        tokenizer: Tokenizer,
        splitting: Splitting,
    ):
        given: list[Any] = list(rewards) if isinstance(rewards, Sequence) else [rewards]
        self.names = [one.kind if is_model(one) else name_of(one) for one in given]
        require_weights(self.names, options.weights)
        self.weights = dict(zip(self.names, options.weights or [1.0] * len(given), strict=True))
        self.tokenizer, self.splitting = tokenizer, splitting
        self.models: list[Judge] = [one for one in given if is_model(one)]
        for model in self.models:
            model.require_policy(tokenizer, splitting)
        steps = [one.function for one in given if isinstance(one, StepReward)]
        wholes = [one for one in given if not isinstance(one, StepReward) and not is_model(one)]
        self._of_wholes, self._of_steps = self._functions(wholes, options), self._functions(steps, options)
        kinds = {model.kind for model in self.models}
        self.judges_wholes = bool(wholes) or "outcome" in kinds
        self.judges_steps = bool(steps) or "process" in kinds

    def described(self) -> list[str]:
        """The names; behind a model's its fingerprint, where it has one. Every process makes the same call."""
        models = {one.kind: one.fingerprint() for one in self.models if hasattr(one, "fingerprint")}
        return [f"{name} {models[name]}" if name in models else name for name in self.names]

    def check(
        self,
        prompts: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        *,
        while_waiting: Callable[[], object] = lambda: None,
    ) -> None:
        """UserError for a function that cannot work, before anything is sampled."""
        if self._of_wholes:
            self._of_wholes.check(prompts, columns, while_waiting=while_waiting)
        if self._of_steps:
            given = {**columns, STEP: [""] * len(prompts)}
            self._of_steps.check(prompts, given, while_waiting=while_waiting)

    def ends(self, completions: Sequence[Completion]) -> list[Ends]:
        """Where the steps of each completion end."""
        if not self.judges_steps:
            return []
        found = [step_ends(one.text, self.splitting) for one in completions]
        pairs = zip(completions, found, strict=True)
        return [Ends(ends, completion_ends(one, ends, self.tokenizer)) for one, ends in pairs]

    def by_models(
        self, prompts: Sequence[str], completions: Sequence[Completion], ends: Sequence[Ends]
    ) -> dict[str, np.ndarray]:
        """What each model says, by its kind: [B], or of a process model [S]. Every process makes the same call."""
        tokens = [one.tokens.tolist() for one in completions]
        last = [[len(one) - 1] for one in tokens]
        found: dict[str, np.ndarray] = {}
        for model in self.models:
            places = last if model.kind == "outcome" else [one.tokens.tolist() for one in ends]
            found[model.kind] = np.concatenate(model.score(prompts, tokens, places)).astype(np.float64)
        return found

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[Completion],
        columns: Mapping[str, Sequence[Any]],
        ends: Sequence[Ends],
        by_models: Mapping[str, np.ndarray],
        *,
        while_waiting: Callable[[], object] = lambda: None,
    ) -> Scores:
        """Calls the functions, and joins what they and the models say. Raises UserError as Rewards does."""
        texts, ids = [one.text for one in completions], [one.tokens.tolist() for one in completions]
        wholes, failures = {}, 0
        if self._of_wholes:
            found = self._of_wholes(prompts, texts, {**columns, IDS: ids}, while_waiting=while_waiting)
            wholes, failures = found.by_name, found.failures
        wholes |= {name: by_models[name] for name in by_models if name == "outcome"}
        if not self.judges_steps:
            return Scores(self._sum(wholes), wholes, failures)
        judged = {name: by_models[name] for name in by_models if name == "process"}
        if self._of_steps:
            rows = _step_rows(prompts, texts, ids, columns, ends)
            scored = self._of_steps(*rows, while_waiting=while_waiting)
            judged, failures = scored.by_name | judged, failures + scored.failures
        steps = _steps(ends, self._sum(judged), judged)
        means = {name: _means(steps, values) for name, values in judged.items()}
        total = self._sum(wholes) if wholes else _means(steps, steps.rewards)
        return Scores(total, wholes | means, failures, steps)

    def close(self) -> None:
        """Ends the processes of its functions."""
        for rewards in (self._of_wholes, self._of_steps):
            if rewards:
                rewards.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _functions(self, functions: list[Reward], options: RewardOptions) -> Rewards | None:
        weights = tuple(self.weights[name_of(one)] for one in functions)
        return Rewards(functions, replace(options, weights=weights)) if functions else None

    def _sum(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return weighted(list(values.values()), [self.weights[name] for name in values])


class Ends(NamedTuple):
    """Where the K steps of a completion end."""

    text: tuple[int, ...]  # behind each one's last character
    tokens: np.ndarray  # int32 [K], each one's last token


def is_model(reward: object) -> TypeGuard[Judge]:
    return hasattr(reward, "score")


def require_weights(names: Sequence[str], weights: Sequence[float]) -> None:
    """UserError where there is no reward, two have one name, or there are not as many weights."""
    listed = ", ".join(names)
    if not names:
        raise UserError("there is no reward; give a function")
    if len(set(names)) < len(names):
        raise UserError(f"two rewards have the same name: {listed}; give each its own")
    if weights and len(weights) != len(names):
        raise UserError(
            f"rewards.weights: {len(weights)} weights for {len(names)} rewards ({listed}); give one each"
        )


def _step_rows(
    prompts: Sequence[str],
    texts: Sequence[str],
    ids: Sequence[list[int]],
    columns: Mapping[str, Sequence[Any]],
    ends: Sequence[Ends],
) -> tuple[list[str], list[str], dict[str, list[Any]]]:
    """prompts, completions and columns with a row for each step."""
    of = [row for row, one in enumerate(ends) for _ in one.text]
    given = {name: [values[row] for row in of] for name, values in columns.items()}
    given[STEP] = [step for text, one in zip(texts, ends, strict=True) for step in steps_of(text, one.text)]
    given[IDS] = [ids[row][: int(end) + 1] for row, one in enumerate(ends) for end in one.tokens]
    prefixes = [text[:end] for text, one in zip(texts, ends, strict=True) for end in one.text]
    return [prompts[row] for row in of], prefixes, given


def _steps(ends: Sequence[Ends], rewards: np.ndarray, by_name: dict[str, np.ndarray]) -> Steps:
    counts = np.array([len(one.text) for one in ends])
    return Steps(counts, np.concatenate([one.tokens for one in ends]), rewards, by_name)


def _means(steps: Steps, values: np.ndarray) -> np.ndarray:
    """[B], of each completion's steps that have a value: 0 where there is no step, NaN where none has one."""

    def mean(part: np.ndarray) -> float:
        there = part[~np.isnan(part)]
        return float(there.mean()) if there.size else (np.nan if part.size else 0.0)

    return np.array([mean(part) for part in steps.of_completions(values)])
