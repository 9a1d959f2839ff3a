"""The methods of the unified paradigm (DeepSeekMath, section 5.2) against each other, from one SFT checkpoint.

    python experiments/compare_algorithms.py --preset tiny             every arm once: under an hour on 2 CPU cores
    python experiments/compare_algorithms.py --preset tiny --seeds 3 --arms grpo_rule grpo_steps    and these two twice more
    python experiments/compare_algorithms.py --preset tiny --search --seeds 5 --out runs/searched    hours; docs/paradigm.md
    python experiments/compare_algorithms.py --preset tiny --search --seeds 5 --out runs/searched --iterative RUNS
    python experiments/compare_algorithms.py --memory                  the memory of GRPO against PPO with a critic

Arms are SFT, RFT, Online RFT, DPO, REINFORCE, PPO and GRPO, with 1-0 rewards, an outcome and a process reward model
(algorithm_findings.py). All have the same checkpoint, updates, completions an update and problems; offline ones draw as many
completions before the first update. --search: each arm first runs once at each of --learning-rates, on a seed and on
problems of its own, and takes the best one: the same budget for all. Everything resumes: an arm with a seed is a folder in
--out, and what is there is not made again. Writes results.json and report.html, with every finding's difference and
interval.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import label_steps_7b
import reward_model_7b
from algorithm_findings import ARMS, AT_K
from algorithm_memory import memory_report
from algorithm_report import (
    ANSWERS,
    RESULTS,
    SEARCH,
    START,
    collect,
    decided_before,
    decided_iterations,
    print_results,
    report,
)
from algorithm_runs import GIVEN, Asking, Base, Recipe, ask, make_base, run_arm
from jax.sharding import Mesh
from small_model import STEPS_MODEL, STEPS_SMOKE_MODEL

from dsm_jax.cli import refuse_options, run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import greedy_scores, read_answers
from dsm_jax.mesh import parse_mesh
from dsm_jax.model import load_hf
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.run import open_run, read_json, write_json
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

# More of these may be asked for later. The base's stages know by their folders what they are made from.
FREE = ("--mesh", "--arms", "--seeds", "--iterative", "--memory")
SEARCHED = ["training.training.optimizer.peak_lr"]  # by --search
BASE = "base"  # in the run's folder
SEARCH_SEED = 1_000  # of the runs that choose a learning rate; none of the measured ones has it


@dataclass(frozen=True)
class Comparison:
    """Options of the comparison."""

    preset: str
    recipe: Recipe
    training: ParadigmTraining
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: int = 1  # runs of each arm, from --rng-seed on
    search: bool = False  # choose each arm's learning rate first; else the training's is every arm's
    learning_rates: tuple[float, ...] = (5e-5, 1.5e-4, 4.5e-4)
    eval_count: int = 1_000  # held-out test problems, answered greedily
    search_count: int = 300  # other problems, that choose the learning rate
    samples: int = 32  # of the first --sampled test problems, of the start and of the arm of maj@K and pass@K
    sampled: int = 250
    iterative: tuple[Path, ...] = ()  # runs of iterative_grpo_7b.py, whose iterations' gains are decided too
    memory: bool = False  # print the memory of GRPO and of PPO, and do nothing else
    # such as data=2, or a name (README); bare or left out: every device
    mesh: tuple[str, ...] = ()
    out: Path = Path("runs/compare_algorithms")  # the run's folder
    cache: Path = Path("~/.cache/dsm_jax")  # where the small models are kept
    rng_seed: int = 0  # of the first run of each arm

    def __post_init__(self) -> None:
        if unknown := set(self.arms) - ARMS.keys():
            raise UserError(f"--arms {min(unknown)}: take some of {', '.join(ARMS)}")
        least = {"seeds": 1, "eval_count": 1, "search_count": 1, "sampled": 1, "samples": 0, "rng_seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is {getattr(self, name)}; it must be at least {low}")
        if not self.learning_rates or not min(self.learning_rates) > 0:
            raise UserError("--learning-rates: give some, above 0")
        if self.rng_seed + self.seeds > SEARCH_SEED:
            raise UserError(f"--rng-seed and --seeds must stay below {SEARCH_SEED}, which is the search's")

    def asking(self, arm: str) -> Asking:
        """The evaluation of a measured run."""
        return Asking(self.eval_count, self.sampled, self.samples if arm == AT_K else 0)


def training(small: GRPOTraining, updates: int, every: int) -> ParadigmTraining:
    loop = LoopConfig(steps=updates, log_every=1, checkpoint_every=20, stop_every=every)
    optimizer = OptimizerConfig(
        peak_lr=1.5e-4, warmup_steps=min(5, updates - 1), schedule="constant", weight_decay=0.0
    )
    return ParadigmTraining(
        replace(small, loop=loop, optimizer=optimizer), critic=replace(optimizer, peak_lr=5e-4)
    )


LEARNING = replace(
    reward_model_7b.TINY_RUN,
    training=replace(
        reward_model_7b.TINY_RUN.training,
        optimizer=replace(reward_model_7b.TINY_RUN.training.optimizer, peak_lr=1e-3),
    ),
)
SMOKE_LEARNING = replace(reward_model_7b.SMOKE_RUN, held_out=0)
TINY = Comparison(
    "tiny",
    Recipe(
        checker=replace(LEARNING, problems=15_000, epochs=1.0),
        labels=replace(label_steps_7b.TINY, problems=1_500, solutions=4, n=4, keep_draws=False, chunk=512),
        reward_model=replace(LEARNING, epochs=2.0),
    ),
    training(STEPS_MODEL.grpo, updates=24, every=12),
)
SMOKE = replace(
    TINY,
    preset="smoke",
    recipe=Recipe(SMOKE_LEARNING, label_steps_7b.SMOKE, SMOKE_LEARNING),
    training=training(STEPS_SMOKE_MODEL.grpo, updates=2, every=1),
    arms=("online_rft", "grpo_steps"),  # whose policy may be right in none of so few samples
    eval_count=8,
    search_count=8,
    samples=2,
    sampled=4,
    out=Path("runs/compare_algorithms_smoke"),
)
PRESETS = {config.preset: config for config in (TINY, SMOKE)}


def main(config: Comparison) -> None:
    if config.memory:
        print(memory_report())
        return
    refuse_options(
        config, PRESETS[config.preset], [f"recipe.{name}" for name in GIVEN] + SEARCHED * config.search
    )
    mesh = parse_mesh(config.mesh)
    if jax.process_count() > 1:
        raise UserError("compare_algorithms.py: one process compares, and there are several")
    iterations = decided_iterations(config.iterative) if config.iterative else decided_before(config.out)
    open_run(config.out, config, FREE)
    base = make_base(config.recipe, config.preset, config.cache, config.out / BASE, config.mesh)
    ask_start(base, config, config.asking(AT_K), mesh, config.out / START)
    for arm, rate, seed, folder in runs(config, base, mesh):
        run(config, arm, base, mesh, folder, rate, seed, config.asking(arm))
        keep_results(config, iterations)
    keep_results(config, iterations)
    print_results(read_json(config.out / RESULTS), config.out)


def ask_start(base: Base, config: Comparison, asking: Asking, mesh: Mesh, folder: Path) -> None:
    """The answers of the policy that every arm starts from, which every arm takes for its first ones."""
    model, tokenizer = load_hf(base.policy, mesh, dtype="float32"), load_tokenizer(base.policy)
    sampler = Sampler(model, tokenizer, mesh, slots=config.training.training.slots)
    ask(sampler, base.small, asking, folder, 0, sampled=True)


def runs(config: Comparison, base: Base, mesh: Mesh) -> Iterator[tuple[str, float, int, Path]]:
    """(arm, learning rate, seed, folder) of every measured run, a seed of all arms before the next seed."""
    rates = {arm: chosen_rate(config, arm, base, mesh) for arm in config.arms}
    for seed in range(config.rng_seed, config.rng_seed + config.seeds):
        for arm in config.arms:
            yield arm, rates[arm], seed, folder_of(config, arm, seed)


def folder_of(config: Comparison, arm: str, seed: int) -> Path:
    return config.out / f"seed-{seed}" / arm


def chosen_rate(config: Comparison, arm: str, base: Base, mesh: Mesh) -> float:
    """The learning rate whose policy answers most of the search's problems; of equal ones the smallest."""
    if not config.search:
        return config.training.training.optimizer.peak_lr
    scores, asking = {}, Asking(config.search_count, of_test=False)
    ask_start(base, config, asking, mesh, config.out / SEARCH / START)
    for rate in sorted(config.learning_rates):
        folder = config.out / SEARCH / arm / f"{rate:g}"
        run(config, arm, base, mesh, folder, rate, SEARCH_SEED, asking)
        last = folder / ANSWERS / f"greedy-{config.training.training.loop.steps:06d}.jsonl"
        scores[rate] = greedy_scores(read_answers(last))["greedy"].value
    write_json(
        config.out / SEARCH / arm / "scores.json", {f"{rate:g}": score for rate, score in scores.items()}
    )
    return max(scores, key=lambda rate: scores[rate])


def run(
    config: Comparison, arm: str, base: Base, mesh: Mesh, folder: Path, rate: float, seed: int, asking: Asking
) -> None:
    (folder / ANSWERS).mkdir(parents=True, exist_ok=True)
    for file in (folder.parent.parent / START).glob("greedy-*"):
        shutil.copy(file, folder / ANSWERS)
    optimizer = replace(config.training.training.optimizer, peak_lr=rate)
    trained = replace(config.training, training=replace(config.training.training, optimizer=optimizer))
    run_arm(
        ARMS[arm], base, trained, asking, mesh, folder,
        rng_seed=seed, kept=folder.parent.parent / "samples" / f"{seed}", description=f"{arm}, seed {seed}, lr {rate:g}",
    )  # fmt: skip


def keep_results(config: Comparison, iterations: Sequence[Mapping[str, Any]]) -> None:
    """results.json and report.html of what is there."""
    results = collect(config.out, config.training.training.loop.steps, iterations)
    write_json(config.out / RESULTS, results)
    report(config.out, results)


if __name__ == "__main__":
    run_script(main, PRESETS)
