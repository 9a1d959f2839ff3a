"""The loop of every method: fetch what the source gives, grade it, spread the grades over tokens, one update.

As in rl/grpo.py a step is one update, mu of which follow a rollout, and a run that is killed anywhere ends in the same bits:
rollouts and what the old policy gave stand on disk, everything else in the checkpoint. The reference is the policy that
the run started from. Policy and critic are updated one after the other, so that one's gradients are gone when the other's
are made.
Left out on purpose: what ALONE in config.py lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_shards
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.processes import on_first_process
from dsm_jax.rl.actor import Actor
from dsm_jax.rl.completions_file import completions_text
from dsm_jax.rl.config import CHANGEABLE
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.micro_batches import Arrays, Group, micro_batches, of_completions
from dsm_jax.rl.paradigm import credit
from dsm_jax.rl.paradigm.batches import pair_batches, with_columns
from dsm_jax.rl.paradigm.coefficients import Constants
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.critic import Columns, Critic
from dsm_jax.rl.paradigm.method import METHODS, Method
from dsm_jax.rl.paradigm.objectives import paradigm_objective
from dsm_jax.rl.paradigm.sources import Fetched, Given
from dsm_jax.rl.prompts import Prompts, Row
from dsm_jax.rl.reference import make_reference, reference_target
from dsm_jax.rl.reward_functions import accuracy_reward
from dsm_jax.rl.rollout_metrics import rollout_metrics, rollout_sums
from dsm_jax.rl.scoring import AnyReward, Scorer
from dsm_jax.rl.update import Learner
from dsm_jax.run import open_run, write_text
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.loop import run_loop
from dsm_jax.train.step import TrainState, abstract_state, start_state

ROLLOUTS, SAMPLES, COMPLETIONS = "rollouts", "samples", "completions"
# Options that a run may be given anew when it goes on.
FREE = tuple(name.replace("--grpo", "--training.training") for name in CHANGEABLE)
Look = Callable[[Params, int], Mapping[str, float]]


class ParadigmState(NamedTuple):
    """What a checkpoint holds; the data position is the step."""

    train: TrainState
    reference: Params | None
    critic: TrainState | None


class Paradigm:
    """A method's compiled programs and the step that joins them.

    method: a name of METHODS. prompts: as GRPO takes them; of sft none are asked. solutions: (question, worked solution)
    pairs, of sft. reward: as GRPO takes them, functions and, but of methods with a rule, models; of whole completions, or of
    steps where the method learns from these. samples: where the start policy's completions are kept, which runs with the
    same start, prompts, rewards and rollouts may share; None: in the run's folder.
    """

    def __init__(
        self,
        method: str,
        config: ParadigmTraining,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        prompts: Sequence[Row] | Prompts | Callable[[int], Sequence[Row]] = (),
        solutions: Sequence[tuple[str, str]] = (),
        reward: AnyReward | Sequence[AnyReward] = accuracy_reward,
        samples: Path | None = None,
        rng_seed: int = 0,
    ):
        self.method = _find(method)
        self.name, self.config, self.model, self.mesh, self.samples = method, config, model, mesh, samples
        self.training, self.rng_seed = config.training, rng_seed
        self.scorer = Scorer(reward, self.training.rewards, tokenizer, self.training.splitting)
        _require_reward(method, self.scorer)
        if not callable(prompts):
            prompts = Prompts(prompts, self.training.prompts_per_rollout, rng_seed)
        self.actor = Actor(
            self.training, model, tokenizer, mesh,
            prompts=prompts, scorer=self.scorer, control=None, tool=None, rng_seed=rng_seed,
        )  # fmt: skip
        self.source = self.method.source(Given(config, self.actor, tokenizer, solutions, rng_seed))
        self.critic = Critic(config, model, tokenizer, mesh) if self.method.needs_critic else None
        beta = config.dpo_beta if self.method.in_pairs else self.training.loss.beta
        self._holds_reference = self.method.needs_reference and beta > 0
        constants = Constants(beta, self.training.loss.epsilon)
        objective = paradigm_objective(
            self.method.ascent.coefficient, self.method.ascent.loss, constants, in_pairs=self.method.in_pairs
        )
        in_loss = beta if self.method.reference_in_loss else 0.0
        self.learner = Learner(config.with_beta(in_loss), model, mesh, objective)

    def described(self) -> dict[str, Any]:
        """Whose run this is, for its folder. Every process makes the same call."""
        return {
            "method": self.name,
            "training": self.config,
            "rewards": self.scorer.described(),
            "rng_seed": self.rng_seed,
        }

    def start(self, params: Params) -> ParadigmState:
        """Step 0: the policy is a copy of `params`, as are reference and the critic's trunk."""
        train = start_state(self.model, self.learner.optimizer, self.mesh, params)
        reference = make_reference(self.model, params, self.mesh) if self._holds_reference else None
        values = self.critic.start(params) if self.critic else None
        return ParadigmState(train, reference, values)

    def target(self) -> ParadigmState:
        """Shapes and shardings of the state, for a restore."""
        train = abstract_state(self.model, self.learner.optimizer, self.mesh)
        reference = reference_target(self.model, self.mesh) if self._holds_reference else None
        return ParadigmState(train, reference, self.critic.target() if self.critic else None)

    def prepare(self, start: Params | None, folder: Path) -> None:
        """Before the first update of a process. start: None after a restart."""
        self.source.prepare(start, self._rollouts(folder))

    def step(self, state: ParadigmState, step: int, folder: Path) -> tuple[ParadigmState, dict[str, float]]:
        """An update, after a fetch where the one before has served mu times."""
        draw, place = divmod(step, self.training.num_iterations)
        rollouts = self._rollouts(folder)
        fetched = self.source(draw, None if place else state.train.params, rollouts)
        began = time.monotonic()
        batch, journal = self.micro_batches(fetched.groups), Journal(folder / ROLLOUTS)
        columns = journal.old(draw) if place else self._columns(state, fetched, batch)
        if not place:
            self._keep(fetched, columns["advantages"], step, draw, folder)
        state, metrics = self._update(state, batch, columns, journal, draw, place)
        metrics["seconds/update"] = time.monotonic() - began
        metrics["num_samples"] = float(self.source.samples(draw))
        if fetched.rollout:
            metrics |= rollout_metrics(fetched.rollout)
            metrics |= {} if place else rollout_sums(fetched.rollout)
        return state, metrics

    def _columns(self, state: ParadigmState, fetched: Fetched, batch: Sequence[Arrays]) -> Columns:
        """What each completion's tokens are credited with, `advantages`, and PPO's values and returns."""
        spread = credit.of_completions(fetched.graded, self.method.credit(fetched.graded))
        if not self.critic:
            return {"advantages": spread}
        assert state.critic is not None
        return self.critic.columns(state.train.params, state.reference, state.critic.params, batch, spread)

    def _update(
        self,
        state: ParadigmState,
        batch: Sequence[Arrays],
        columns: Columns,
        journal: Journal,
        draw: int,
        place: int,
    ) -> tuple[ParadigmState, dict[str, float]]:
        batch, rows = with_columns(batch, columns), len(columns["advantages"])
        has_others = place == 0 and self.training.num_iterations > 1
        update = self.learner.update(
            state.train, self._reference_in_loss(state), batch, rows, keep_logps=has_others
        )
        train, metrics, logps = update.finish()
        if has_others:
            journal.keep_old(draw, columns | {"old_logps": of_completions(batch, logps)})
        state = state._replace(train=train)
        if self.critic:
            values, measured = self._update_critic(state, batch, rows)
            state, metrics = state._replace(critic=values), metrics | measured
        return state, metrics

    def _update_critic(
        self, state: ParadigmState, batch: Sequence[Arrays], rows: int
    ) -> tuple[TrainState, dict[str, float]]:
        assert self.critic is not None and state.critic is not None
        values, measured, _ = self.critic.learner.update(state.critic, None, batch, rows).finish()
        return values, {f"critic/{name}": value for name, value in measured.items()}

    def micro_batches(self, groups: Sequence[Group]) -> list[Arrays]:
        """Of all completions; pairs side by side."""
        tokens, shards = self.training.micro_batch_tokens, batch_shards(self.mesh)
        if self.method.in_pairs:
            return pair_batches(groups, tokens, shards=shards)
        return micro_batches(groups, tokens, shards=shards)

    def _reference_in_loss(self, state: ParadigmState) -> Params | None:
        return state.reference if self.method.reference_in_loss else None

    def _rollouts(self, folder: Path) -> Path:
        if not self.source.is_kept:
            return folder / ROLLOUTS
        return self.samples or folder / SAMPLES

    def _keep(
        self, fetched: Fetched, advantages: Sequence[np.ndarray], step: int, draw: int, folder: Path
    ) -> None:
        """Writes the completions for people, and forgets what no checkpoint needs any more."""
        if fetched.rollout:
            own = credit.of_all(fetched.graded, advantages)
            text = completions_text(fetched.rollout._replace(advantages=own))
            on_first_process(lambda: write_text(folder / COMPLETIONS / f"{step:06d}.jsonl", text))
        loop = self.training.loop
        Journal(folder / ROLLOUTS).forget(draw - (loop.keep + 1) * loop.checkpoint_every)


def run_paradigm(
    paradigm: Paradigm,
    start: Callable[[], Params],
    folder: Path,
    *,
    look: Look | None = None,
    description: str | None = None,
) -> Params:
    """Trains to the end, resuming from `folder`; start() gives the initial parameters when there is no checkpoint.
    UserError where the folder is of another method, or of other options (but FREE), rewards or seed.

    look(policy, step): called before the first update, every loop.stop_every updates and after the last one; its numbers go
    to metrics.jsonl, but after the last update only where loop.stop_every divides the steps.
    """
    claimed = paradigm.described()
    on_first_process(lambda: open_run(folder, claimed, FREE))
    (folder / COMPLETIONS).mkdir(parents=True, exist_ok=True)
    prepared: list[bool] = []

    def begin() -> ParadigmState:
        params = start()
        if paradigm.source.is_sampled:
            on_first_process(paradigm.actor.check_rewards)
        paradigm.prepare(params, folder)
        prepared.append(True)
        return paradigm.start(params)

    def update(state: ParadigmState, step: int) -> tuple[ParadigmState, dict[str, float]]:
        if not prepared:
            paradigm.prepare(None, folder)
            prepared.append(True)
        return paradigm.step(state, step, folder)

    def scores(state: ParadigmState, step: int = 0) -> Mapping[str, float]:
        assert look is not None
        return look(state.train.params, step)

    with paradigm.scorer:
        state = run_loop(
            update,
            begin,
            paradigm.target(),
            paradigm.training.loop,
            folder,
            description=description or paradigm.name,
            at_start=scores if look else None,
            stop=(lambda state, step: (False, scores(state, step))) if look else None,
        )
    if look:
        look(state.train.params, paradigm.training.loop.steps)
    return state.train.params


def _find(name: str) -> Method:
    if name not in METHODS:
        raise UserError(f"there is no method {name}; take one of {', '.join(METHODS)}")
    return METHODS[name]


def _require_reward(name: str, scorer: Scorer) -> None:
    kind = METHODS[name].reward
    if kind == "steps" and not scorer.judges_steps:
        raise UserError(f"{name} learns from rewards of steps; give a StepReward or a process reward model")
    if kind == "rule" and scorer.models:
        raise UserError(
            f"{name} learns from a reward that is 0 or 1, which no model gives; give a rule alone"
        )
    if kind in ("rule", "outcome") and not scorer.judges_wholes:
        raise UserError(f"{name} learns from rewards of whole completions; give one of these")
    unused = {"steps": scorer.judges_wholes, "rule": scorer.judges_steps, "outcome": scorer.judges_steps}
    if unused.get(kind):
        other = "whole completions" if kind == "steps" else "steps"
        raise UserError(f"{name} does not learn from rewards of {other}; leave those out")
