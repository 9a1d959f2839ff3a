"""The half of GRPO that acts: completions of questions, and their scores (DeepSeekMath, algorithm 1, lines 5 to 9).

With most_rollouts above 1, questions whose completions all got the same reward are replaced by further ones (DAPO's dynamic
sampling, arXiv 2503.14476): they teach nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.journal import Journal, Kept, name_of
from dsm_jax.rl.micro_batches import Group
from dsm_jax.rl.prompts import Prompts, Row, column_names
from dsm_jax.rl.rewards import Scores
from dsm_jax.rl.rollout import NOTHING, Rollout, has_spread, joined, token_advantages
from dsm_jax.rl.scoring import Scorer
from dsm_jax.run import stop_if_asked
from dsm_jax.sample.request import Completion, Tool, require_answers
from dsm_jax.sample.sampler import Sampler, Usage
from dsm_jax.tokenizer import Tokenizer

CHECKED = 2  # prompts that rewards are tried with
Control = Callable[..., np.ndarray]  # rewards [N, G] -> other rewards [N, G]; see controls.py


class Actor:
    """Samples from the parameters that it is given, and scores."""

    def __init__(
        self,
        config: GRPOTraining,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        prompts: Prompts | Callable[[int], Sequence[Row]],
        scorer: Scorer,
        control: Control | None,
        tool: Tool | None,
        rng_seed: int,
    ):
        if config.curriculum:
            _require_rows(prompts, config.prompts_per_rollout)
        if control and scorer.judges_steps:
            raise UserError("a control replaces rewards of whole completions; give it no reward of steps")
        if config.process_weight != 1 and not (scorer.judges_wholes and scorer.judges_steps):
            raise UserError(
                f"process_weight is {config.process_weight}: it weighs rewards of steps against those of whole completions, "
                "and there are not both; leave it out"
            )
        self.config, self.tokenizer, self.scorer = config, tokenizer, scorer
        self.prompts: Any = prompts
        self.control, self.tool, self.rng_seed = control, tool, rng_seed
        self.sampler = Sampler(model, tokenizer, mesh, slots=config.slots, on_chunk=self._on_chunk)
        self._meanwhile: Iterator[object] = iter(())

    def rollout(
        self,
        params: Params | None,
        first: int,
        journal: Journal,
        *,
        success: jax.Array | None = None,
        meanwhile: Iterable[object] = (),
    ) -> Rollout:
        """Draws `first` and, where groups have to be replaced, those after it. What is in the journal is taken from there.

        params: None where all of it is there. success: with a curriculum, what Prompts.choose takes; a question is then
        asked once, and there are no more draws than questions for them. meanwhile: other work for the devices, of which a
        step is taken with each chunk of decoding, and what is left before the rewards. Raises UserError where the journal
        lacks what params could not make, or where no completion has a reward.
        """
        self._meanwhile = iter(meanwhile)
        parts: list[Rollout] = []
        while len(parts) < self._most_draws:
            asked = np.concatenate([NOTHING, *(part.questions for part in parts)])
            parts.append(self._draw(params, first + len(parts), journal, success, asked.astype(int)))
            used = _first_true(has_spread(self.scorer, joined(parts)), self.config.prompts_per_rollout)
            if used.sum() == self.config.prompts_per_rollout:
                break
        self.sampler.unload()
        whole = joined(parts)
        if self.config.most_rollouts == 1 or not used.any():
            used = np.arange(len(whole.rewards)) < self.config.prompts_per_rollout
        return whole._replace(advantages=token_advantages(self.config, self.scorer, whole, used), used=used)

    @property
    def _most_draws(self) -> int:
        """For a batch."""
        most, count = self.config.most_rollouts, self.config.prompts_per_rollout
        return min(most, len(self.prompts.rows) // count) if self.config.curriculum else most

    def groups(self, rollout: Rollout) -> list[Group]:
        """What the update trains on: the completions that have a reward."""
        found, each = [], rollout.rewards.shape[1]
        for i in np.flatnonzero(rollout.used):
            there = np.flatnonzero(~np.isnan(rollout.rewards[i]))
            prompt = [self.tokenizer.bos_id, *self.tokenizer.encode(rollout.prompts[i]["prompt"])]
            completions = [rollout.completions[i][j] for j in there]
            found.append(Group(prompt, completions, [rollout.advantages[i * each + j] for j in there]))
        return found

    def usage(self) -> Usage:
        """Of the sampler, since the last call."""
        usage = self.sampler.usage
        self.sampler.reset_usage()
        return usage

    def _on_chunk(self) -> None:
        self._stop_if_asked()
        next(self._meanwhile, None)

    def _draw(
        self, params: Params | None, draw: int, journal: Journal, success: jax.Array | None, asked: np.ndarray
    ) -> Rollout:
        """The draw's questions, with a curriculum none of those already asked, sampled and scored."""
        began = time.monotonic()
        kept = journal.completions(draw)
        questions = kept.questions if kept else self._choose(draw, success, asked)
        rows = self._rows(draw, questions)
        prompts = name_of([row["prompt"] for row in rows])
        if not kept:
            kept = Kept(questions, self._sample(params, rows, draw, journal.folder), prompts)
            journal.keep_completions(draw, kept)
        if kept.prompts != prompts:
            raise UserError(
                f"{journal.folder}: rollout {draw} is of other prompts than those asked now; go on with the prompts that the "
                "run began with, or start anew in another folder"
            )
        completions, sampled = kept.completions, time.monotonic()
        for _ in self._meanwhile:
            pass
        scores = self._score(rows, completions, draw, journal)
        rewards = scores.total.reshape(len(rows), -1)
        if self.control:
            rewards = self.control(rewards, rng_seed=self.rng_seed, step=draw)
        seconds = {"rollout": sampled - began, "rewards": time.monotonic() - sampled}
        return Rollout(rows, completions, scores, rewards, [], NOTHING, questions, 1, seconds)

    def _rows(self, draw: int, questions: np.ndarray) -> list[Row]:
        """The draw's rows: with a curriculum those of the questions, as far as there are so many."""
        if not len(questions):
            return list(self.prompts(draw))
        return [self.prompts.rows[i] for i in questions if i < len(self.prompts.rows)]

    def _choose(self, draw: int, success: jax.Array | None, asked: np.ndarray) -> np.ndarray:
        """The numbers of the draw's rows, with a curriculum."""
        if success is None:
            return NOTHING.astype(int)
        return self.prompts.choose(draw, np.asarray(success), asked)

    def _sample(
        self, params: Params | None, rows: Sequence[Row], draw: int, folder: Path
    ) -> list[list[Completion]]:
        if params is None:
            raise UserError(
                f"{folder}: rollout {draw} is missing, and the policy that it was drawn from is gone; start the run "
                "anew in another folder"
            )
        if self.sampler.params is None:
            self.sampler.load(params)
        first = draw * self.config.prompts_per_rollout
        completions = self.sampler.generate(
            [row["prompt"] for row in rows],
            n=self.config.num_generations,
            max_new_tokens=self.config.max_completion_length,
            temperature=self.config.temperature,
            seed=self.rng_seed,
            prompt_ids=[first + i for i in range(len(rows))],
            tool=self.tool,
        )
        require_answers([one for one in group if not len(one.tokens)] for group in completions)
        return completions

    def check_rewards(self) -> None:
        """UserError for a reward that cannot work, before anything is sampled."""
        rows = list(self.prompts(0))
        columns = {name: values[:CHECKED] for name, values in self._columns(rows).items()}
        self.scorer.check(
            [row["prompt"] for row in rows[:CHECKED]], columns, while_waiting=self._stop_if_asked
        )

    def _score(
        self, rows: Sequence[Row], completions: Sequence[Sequence[Completion]], draw: int, journal: Journal
    ) -> Scores:
        """UserError, before the scores are kept, where there is no reward to go on with."""
        asked = [row for row, group in zip(rows, completions, strict=True) for _ in group]
        flat = [one for group in completions for one in group]
        prompts, ends = [row["prompt"] for row in asked], self.scorer.ends(flat)
        by_models: dict[str, np.ndarray] = {}
        if self.scorer.models:
            self.sampler.unload()
            by_models = journal.model_scores(draw, lambda: self.scorer.by_models(prompts, flat, ends))

        def score() -> Scores:
            scores = self.scorer(
                prompts, flat, self._columns(asked), ends, by_models, while_waiting=self._stop_if_asked
            )
            if np.isnan(scores.total).all():
                raise UserError(
                    f"rollout {draw}: no completion has a reward, all are None; return some numbers"
                )
            return scores

        return journal.scores(draw, score)

    def _columns(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """The rows' other fields, which rewards take; None where a row lacks one that others have."""
        names = self.prompts.columns if isinstance(self.prompts, Prompts) else column_names(rows)
        return {name: [row.get(name) for row in rows] for name in names}

    def _stop_if_asked(self) -> None:
        if not self.sampler.mesh.is_multi_process:  # those stop together, between two updates
            stop_if_asked()


def _require_rows(prompts: Prompts | Callable[[int], Sequence[Row]], count: int) -> None:
    """UserError where a curriculum cannot choose so many different rows."""
    if not isinstance(prompts, Prompts):
        raise UserError("curriculum: these prompts have no end; give a list of rows")
    if (there := len(prompts.rows)) < count:
        raise UserError(
            f"curriculum: a rollout asks {count} different questions, and there are {there}; give more, or a smaller batch_size"
        )


def _first_true(marks: np.ndarray, count: int) -> np.ndarray:
    """The first so many marks."""
    return marks & (np.cumsum(marks) <= count)
