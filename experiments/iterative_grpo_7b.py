"""Iterative GRPO (DeepSeekMath, algorithm 1 and section 4.1.4): the reward model keeps up with the policy.

    python experiments/iterative_grpo_7b.py --mesh --prompts gsm8k:DIR math:DIR    DeepSeekMath-Instruct 7B from the hub
    python experiments/iterative_grpo_7b.py --preset tiny    1M parameters, generated problems

An iteration has three phases, each one a script of its own with its folder in --out/iteration-NN:
  labels         label_steps_7b.py: solutions of the present policy, their steps labelled by completions
  reward_model   reward_model_7b.py: the reward model learns on from these and a share of earlier iterations' (replay.jsonl)
  policy         grpo_7b.py: the policy, rewarded by that model; its reference is the policy that the iteration began with
The options of each are --labels.*, --reward-model.* and --policy.*, but for what one phase hands to the next. The policy
answers the test questions before and after each iteration. The same command goes on where a killed run was. Writes
results.json and report.html beside the iterations'; the last policy is in --out/iteration-NN/policy/model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpo_7b
import label_steps_7b
import numpy as np
import reward_model_7b
from grpo_7b import GRPORun
from iterative_grpo_report import collect, print_results, report
from jax.sharding import Mesh
from label_steps_7b import LabelRun
from reward_model_7b import RewardModelling
from small_folders import STEPS, make_steps_models, require_made, steps_folders

from dsm_jax.cli import refuse_options, run_script
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.processes import first_process_finds, is_first_process, on_first_process, wait_for_first_process
from dsm_jax.rl.reward_model.score import same_ids
from dsm_jax.rl.steps.segments import Splitting
from dsm_jax.run import CONFIG, open_run, options, read_json, write_json, write_text
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.start import Start, find_start

LABELS, REWARD_MODEL, POLICY = "labels", "reward_model", "policy"  # folders of an iteration
FILE, REPLAY, RESULTS, MODEL = "labels.jsonl", "replay.jsonl", "results.json", "model"
# What this script sets in the phases, and its own options for all of them.
HANDED = {
    LABELS: (
        "generator",
        "completer",
        "prompts",
        "source_filter",
        "pool",
        "splitting",
        "out",
        "mesh",
        "cache",
        "rng_seed",
    ),
    REWARD_MODEL: ("init", "data", "kind", "splitting", "export", "out", "mesh", "rng_seed"),
    POLICY: (
        "init",
        "prompts",
        "source_filter",
        "reward",
        "grpo.splitting",
        "export",
        "out",
        "mesh",
        "cache",
        "rng_seed",
    ),
}
# This script's own options that a phase is the first to depend on, where it is not the labels.
FIRST_OF = {REWARD_MODEL: ("--kind", "--reward-init"), POLICY: ("--reward",)}
SEEDS = 1_000  # of iterations, for each --rng-seed


@dataclass(frozen=True)
class IterativeRun:
    """Options of iterative GRPO."""

    preset: str
    labels: LabelRun
    reward_model: RewardModelling
    policy: GRPORun
    # the first policy: a Hugging Face folder, a hub id, or a run of ours; None: the preset's own small model
    init: str | None = grpo_7b.INSTRUCT_7B
    # what completes solutions that are labelled; None: the present policy
    completer: str | None = None
    # the first reward model's base, or a reward model's folder, which learns on; None: the first policy
    reward_init: str | None = reward_model_7b.BASE_7B
    kind: reward_model_7b.Kind = "process"  # what the reward model judges: each step, or the outcome
    splitting: Splitting = "lines"  # into steps, in every phase
    # beside it: accuracy, format or overlong; their weights with the model's last are --policy.grpo.rewards.weights
    reward: tuple[str, ...] = ()
    iterations: int = 2  # the paper's figure 6 has two
    replay: float = 0.1  # share of a reward model's solutions that are earlier iterations'
    # gsm8k:DIR, math:DIR, hub:OWNER/NAME, files, folders; none: the problem generator
    prompts: tuple[str, ...] = ()
    # of files and the hub, only rows whose field `source` holds one of these
    source_filter: tuple[str, ...] = ()
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); bare or left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: Path = Path("runs/iterative_grpo_7b")  # the run's folder
    cache: Path = Path("~/.cache/dsm_jax")  # where the small model of tiny and smoke is kept
    rng_seed: int = 0  # of all sampling; each iteration has a seed of its own, and no two runs share one

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= SEEDS:
            raise UserError(f"--iterations is {self.iterations}; it must be from 1 to {SEEDS}")
        if not 0 <= self.rng_seed < 2**31 // SEEDS:
            raise UserError(f"--rng-seed is {self.rng_seed}; it must be from 0 to {2**31 // SEEDS - 1}")
        if not 0 <= self.replay < 1:
            raise UserError(f"--replay is {self.replay}; it must be at least 0 and below 1")


PAPER = IterativeRun("paper", label_steps_7b.MATH_SHEPHERD, reward_model_7b.PRESETS["paper"], grpo_7b.PAPER)
ITERATION = replace(grpo_7b.STEPS_TINY.grpo.loop, steps=30, stop_every=30)
TINY = IterativeRun(
    "tiny",
    replace(label_steps_7b.TINY, problems=600, n=4, keep_draws=False),
    replace(reward_model_7b.TINY_RUN, epochs=3.0),
    replace(grpo_7b.STEPS_TINY, grpo=replace(grpo_7b.STEPS_TINY.grpo, loop=ITERATION)),
    init=None,
    reward_init=None,
    out=Path("runs/iterative_grpo_tiny"),
)
# Half a minute: two updates an iteration, and few slots, so that few programs are traced.
SMOKE = replace(
    TINY,
    preset="smoke",
    labels=replace(label_steps_7b.SMOKE, problems=6, chunk=3, slots=2),
    reward_model=replace(
        reward_model_7b.SMOKE_RUN,
        training=replace(
            reward_model_7b.SMOKE_RUN.training,
            loop=replace(reward_model_7b.SMOKE_RUN.training.loop, steps=10),
        ),
        held_out=0,
    ),
    policy=replace(
        grpo_7b.SMOKE,
        eval_count=4,
        eval_samples=0,
        grpo=replace(
            grpo_7b.SMOKE.grpo,
            loop=replace(grpo_7b.SMOKE.grpo.loop, steps=2),
            batch_size=8,
            micro_batch_tokens=4_096,
            slots=2,
        ),
    ),
    out=Path("runs/iterative_grpo_smoke"),
)
PRESETS = {config.preset: config for config in (PAPER, TINY, SMOKE)}


def main(config: IterativeRun) -> None:
    mesh = parse_mesh(config.mesh)
    handed = [f"{phase}.{name}" for phase, names in HANDED.items() for name in names]
    refuse_options(config, PRESETS[config.preset], handed)
    phases(config, 1)  # which refuse what is wrong in their options
    on_first_process(lambda: require_same(config))
    if not first_process_finds((config.out / RESULTS).exists):
        known = with_models(config)
        check(known, mesh)
        on_first_process(lambda: claim(config))
        for number in range(1, config.iterations + 1):
            iterate(known, number)
        on_first_process(lambda: finish(config))
    if is_first_process():
        print_results(read_json(config.out / RESULTS), config.out)
    wait_for_first_process()


def require_same(config: IterativeRun) -> None:
    """UserError, before any model is made, where the run's folder is of other options."""
    if (config.out / CONFIG).exists():
        open_run(config.out, config, free_options(config))


def claim(config: IterativeRun) -> None:
    """Opens the run's folder; options of phases that have not begun are those of the last start."""
    open_run(config.out, config, free_options(config))
    write_json(config.out / CONFIG, config)


def with_models(config: IterativeRun) -> IterativeRun:
    """Where no policy is named the preset's own models, made where they are not there."""
    if config.init is not None:
        return config
    if config.preset not in STEPS:
        raise UserError("--init: this preset has no policy of its own; give a folder, a hub id or a run")
    folders = steps_folders(config.cache, config.preset)
    require_made(config.preset, config.cache, folders, "--init and --completer")
    on_first_process(lambda: make_steps_models(config.cache, config.preset))
    policy, completer = map(str, folders)
    return replace(config, init=policy, completer=config.completer or completer)


def free_options(config: IterativeRun) -> Sequence[str]:
    """What may be given anew when a run goes on: what changes no result, and all of a phase that has not begun. Not --out and
    --cache: the phases know the folders of the models that they are handed."""
    there = options(read_json(config.out / CONFIG)) if (config.out / CONFIG).exists() else {}
    if not begun(config, LABELS):
        return list(there)
    phases = {LABELS: label_steps_7b.FREE, REWARD_MODEL: reward_model_7b.FREE_HERE, POLICY: grpo_7b.FREE}
    free = ["--mesh", *(f"--{option(phase)}.{name[2:]}" for phase, names in phases.items() for name in names)]
    free.remove("--labels.max-decoded")  # more labels are other data, and a reward model may have learned
    for phase, own in FIRST_OF.items():
        if not begun(config, phase):
            free += [*own, *(name for name in there if name.startswith(f"--{option(phase)}."))]
    return free


def begun(config: IterativeRun, phase: str) -> bool:
    return any(config.out.glob(f"iteration-*/{phase}/{CONFIG}"))


def option(phase: str) -> str:
    return phase.replace("_", "-")


def check(config: IterativeRun, mesh: Mesh) -> None:
    """What can be seen of every phase before the first one."""
    labels, model, policy = phases(config, 1)
    start, base = grpo_7b.find_model(policy, mesh), find_start(model.init, mesh, own=None)
    grpo_7b.check(policy, start, mesh, judges=[base.config])
    reward_model_7b.check(model, base, mesh)
    label_steps_7b.check(labels)
    on_first_process(lambda: require_one_tokenizer(start, base))


def require_one_tokenizer(policy: Start, base: Start) -> None:
    ours, theirs = (load_tokenizer(one.tokenizer(), rows=one.config.vocab_size) for one in (policy, base))
    if not same_ids(ours, theirs):
        raise UserError(
            f"--reward-init {base.init}: its tokenizer is not that of the policy, whose tokens it is to score; give another"
        )


def iterate(config: IterativeRun, number: int) -> None:
    """The three phases; each takes what is there of it."""
    labels, model, policy = phases(config, number)
    say(number, config, "solutions of the policy, and labels of their steps")
    label_steps_7b.main(labels)
    say(number, config, "the reward model")
    reward_model_7b.main(replace(model, data=training_files(config, number)))
    say(number, config, "the policy")
    grpo_7b.main(policy)


def phases(config: IterativeRun, number: int) -> tuple[LabelRun, RewardModelling, GRPORun]:
    """The iteration's, but for what the reward model learns from."""
    folder = folder_of(config, number)
    shared: dict[str, Any] = {"mesh": config.mesh, "rng_seed": SEEDS * config.rng_seed + number - 1}
    asked: dict[str, Any] = {"prompts": config.prompts, "source_filter": config.source_filter}
    asked |= {"cache": config.cache, **shared}
    split = {"splitting": config.splitting}
    policy = policy_before(config, number)
    labels = replace(config.labels, generator=policy, completer=config.completer, out=folder / LABELS)
    model = replace(
        config.reward_model,
        init=reward_model_before(config, number),
        kind=config.kind,
        out=str(folder / REWARD_MODEL),
    )
    rewards = (*config.reward, f"{config.kind}:{folder / REWARD_MODEL / MODEL}")
    grpo = replace(config.policy.grpo, **split)
    return (
        replace(labels, **split, **asked),
        replace(model, **split, **shared),
        replace(config.policy, init=policy, reward=rewards, grpo=grpo, out=folder / POLICY, **asked),
    )


def policy_before(config: IterativeRun, number: int) -> str | None:
    """What an iteration begins with."""
    return config.init if number == 1 else str(folder_of(config, number - 1) / POLICY / MODEL)


def reward_model_before(config: IterativeRun, number: int) -> str | None:
    if number > 1:
        return str(folder_of(config, number - 1) / REWARD_MODEL / MODEL)
    return config.reward_init or config.init


def training_files(config: IterativeRun, number: int) -> tuple[Path, ...]:
    """The iteration's labels, and behind them the share of earlier ones that is seen again."""
    labels, replayed = (folder_of(config, number) / name for name in (Path(LABELS) / FILE, REPLAY))
    if number == 1 or not config.replay:
        return (labels,)
    earlier = [folder_of(config, before) / LABELS / FILE for before in range(1, number)]
    on_first_process(lambda: write_replay(replayed, labels, earlier, config.replay, config.rng_seed + number))
    return (labels, replayed) if first_process_finds(replayed.exists) else (labels,)


def write_replay(file: Path, new: Path, earlier: Sequence[Path], share: float, rng_seed: int) -> None:
    """Rows of the earlier files, drawn without replacement: so many that they are `share` of all that is trained on. No file
    where that is none."""
    lines = [line for one in earlier for line in lines_of(one)]
    count = min(len(lines), round(len(lines_of(new)) * share / (1 - share)))
    chosen = np.random.default_rng(rng_seed).choice(len(lines), count, replace=False)
    if count:
        write_text(file, "".join(lines[i] for i in np.sort(chosen)))


def lines_of(file: Path) -> list[str]:
    """Each with its line break; a row may hold other breaks."""
    return [f"{line}\n" for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def finish(config: IterativeRun) -> None:
    """report.html and, last, results.json."""
    folders = [folder_of(config, number) for number in range(1, config.iterations + 1)]
    results = collect(folders)
    report(config.out, results)
    write_json(config.out / RESULTS, results)


def folder_of(config: IterativeRun, number: int) -> Path:
    return config.out / f"iteration-{number:02d}"


def say(number: int, config: IterativeRun, phase: str) -> None:
    if is_first_process():
        print(f"iteration {number} of {config.iterations}: {phase}")


if __name__ == "__main__":
    run_script(main, PRESETS)
