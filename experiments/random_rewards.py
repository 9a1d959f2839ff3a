"""Rewards that are coin flips must teach nothing: GRPO of the small SFT model on them, greedy accuracy before and after.

    python experiments/random_rewards.py --json docs/random_rewards.json     3 seeds; 10 to 15 minutes on 2 CPU cores

The model, the questions and GRPO's numbers are those of grpo_7b.py --preset tiny; only the rewards are fair coins. A gain of
more than --limit with any seed is an error: then the harness, not the reward, makes a model better. The same command goes on
where a killed one was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from grpo_7b import PRESETS as GRPO_RUNS
from grpo_7b import SMALL, small_sft_folder
from small_folders import make_policy
from small_model import SmallModel, held_out, questions

from dsm_jax.cli import run_script
from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import Answers, answer_problems
from dsm_jax.evaluate.scores import paired_difference, share
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.decoder import Params
from dsm_jax.model.hf import load_hf
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.controls import random_rewards
from dsm_jax.rl.grpo import GRPO, run_grpo
from dsm_jax.rl.prompts import problem_prompts
from dsm_jax.run import open_run, write_json
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import load_tokenizer


@dataclass(frozen=True)
class RandomRewards:
    """Options of the control."""

    preset: str
    grpo: GRPOTraining
    init: Path | None = None  # folder of the SFT model; None: that of grpo_7b.py with the same preset
    seeds: int = 3
    problems: int = 1_000  # held out, answered greedily
    limit: float = 0.03  # largest gain of greedy accuracy, as a share of the problems
    out: Path = Path("runs/random_rewards")  # the run's folder
    json: Path | None = None  # where the result is written too


TINY = RandomRewards("tiny", GRPO_RUNS["tiny"].grpo)
SMOKE = replace(  # 32 problems say nothing
    TINY,
    preset="smoke",
    grpo=GRPO_RUNS["smoke"].grpo,
    seeds=2,
    problems=32,
    limit=1.0,
    out=Path("runs/random_rewards_smoke"),
)
PRESETS = {config.preset: config for config in (TINY, SMOKE)}


def main(config: RandomRewards) -> None:
    small, folder = SMALL[config.preset], config.init
    if folder is None:
        folder = small_sft_folder(GRPO_RUNS[config.preset])
        make_policy(small, folder)
    open_run(config.out, replace(config, out=Path(), json=None, init=Path(folder.name)))
    control = Control(config, small, folder)
    before = control.answers("sft", control.sft)
    results = {"sft": asdict(share([row.correct[0] for row in before])), "gains": []}
    for seed in range(config.seeds):
        after = control.answers(f"seed_{seed}", control.train(seed))
        gain = paired_difference(*([row.correct[0] for row in rows] for rows in (after, before)))
        print(
            f"seed {seed}: {gain.value:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}] greedy, n = {gain.n}",
            flush=True,
        )
        results["gains"].append(asdict(gain))
    finish(config, results)


class Control:
    """Training on coins and evaluation, on the first device."""

    def __init__(self, config: RandomRewards, small: SmallModel, folder: Path):
        self.config, self.small, self.mesh = config, small, single_device_mesh()
        self.tokenizer = load_tokenizer(folder, rows=small.model.vocab_size)
        self.sft = load_hf(folder, self.mesh, dtype="float32").params
        self.sampler = Sampler(small.model, self.tokenizer, self.mesh, slots=config.grpo.slots)
        self.problems = held_out(small, config.problems)

    def train(self, seed: int) -> Params:
        config, fresh = self.config.grpo, questions(self.small, "grpo", seed)
        grpo = GRPO(
            config,
            self.small.model,
            self.tokenizer,
            self.mesh,
            prompts=problem_prompts(fresh, config.prompts_per_rollout),
            control=random_rewards,
            rng_seed=seed,
        )
        return run_grpo(grpo, lambda: self.sft, self.config.out / f"seed_{seed}", description=f"seed {seed}")

    def answers(self, name: str, params: Params) -> list[Answers]:
        self.sampler.load(params)
        return answer_problems(
            self.sampler,
            self.problems,
            self.config.out / "eval" / f"{name}.jsonl",
            prompt=prompt_text,
            max_new_tokens=self.config.grpo.max_completion_length,
            description=f"evaluate {name}",
        )


def finish(config: RandomRewards, results: dict[str, Any]) -> None:
    """Writes the result. Raises UserError where a gain is above the limit."""
    gains = [one["value"] for one in results["gains"]]
    results |= {"largest": float(np.max(gains)), "limit": config.limit, "steps": config.grpo.loop.steps}
    for path in filter(None, (config.out / "results.json", config.json)):
        write_json(path, results)
    if results["largest"] > config.limit:
        raise UserError(
            f"random rewards raised greedy accuracy by {results['largest']:.1%}, more than {config.limit:.0%}: what is measured is "
            "not the reward's work; look at the evaluation and at what the update does without advantages"
        )


if __name__ == "__main__":
    run_script(main, PRESETS)
