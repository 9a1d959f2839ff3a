"""The runs of compare_algorithms.py: what all arms share, and one arm with one seed. Not a script.

Shared are the policy that all start from, a labelling of its solutions by a completer (label_steps_7b.py) and the two reward
models that learn from the labels (reward_model_7b.py). Before the labels they learn from worked solutions with slips: it is
what a model of this size needs to check a calculation, and a pretrained 7B brings along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import label_steps_7b
import reward_model_7b
from algorithm_findings import Arm
from algorithm_report import ANSWERS
from grpo_rewards import rewards
from jax.sharding import Mesh
from label_steps_7b import LabelRun
from reward_model_7b import RewardModelling
from small_folders import STEPS, make_steps_models
from small_model import SmallModel, held_out, questions

from dsm_jax.data.problems import Problem
from dsm_jax.data.prompts import prompt_text
from dsm_jax.evaluate.harness import Answers, answer_problems, greedy_scores
from dsm_jax.model import load_hf
from dsm_jax.model.decoder import Params
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.loop import Paradigm, run_paradigm
from dsm_jax.rl.prompts import problem_prompts
from dsm_jax.run import is_done
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import load_tokenizer

KINDS = ("outcome", "process")  # of reward models
CHECKER = "checker"  # a folder
# Options of a Recipe that make_base sets.
GIVEN = (
    *(f"labels.{name}" for name in ("generator", "completer", "cache", "out", "mesh")),
    *(f"checker.{name}" for name in ("init", "export", "out", "mesh")),
    *(f"reward_model.{name}" for name in ("init", "data", "kind", "export", "out", "mesh")),
)


@dataclass(frozen=True)
class Base:
    """What all arms share: problems, and folders of models."""

    small: SmallModel  # whose problems these are
    policy: Path
    models: Mapping[str, Path]  # reward models by kind


@dataclass(frozen=True)
class Recipe:
    """How the reward models are made."""

    checker: RewardModelling  # of worked solutions, what the two begin with
    labels: LabelRun
    reward_model: RewardModelling


@dataclass(frozen=True)
class Asking:
    """The evaluation: held-out problems, and samples of the first ones."""

    count: int  # problems answered greedily
    sampled: int = 0  # of them those with samples
    samples: int = 0  # of each of these
    temperature: float = 0.7  # of the samples; the paper's figure 7
    of_test: bool = True  # else of those that choose the learning rate

    def problems(self, small: SmallModel) -> list[Problem]:
        if self.of_test:
            return held_out(small, self.count)
        return questions(small, "search", 0).distinct(self.count)


def make_base(recipe: Recipe, preset: str, cache: Path, out: Path, mesh: tuple[str, ...]) -> Base:
    """Makes what is not there yet. Its seeds are fixed: every seed of every arm begins with the same."""
    policy, completer = make_steps_models(cache, preset)
    labels = replace(
        recipe.labels,
        generator=str(policy),
        completer=str(completer),
        cache=cache,
        out=out / "labels",
        mesh=mesh,
    )
    label_steps_7b.main(labels)
    checker = replace(recipe.checker, init=str(completer), out=str(out / CHECKER), mesh=mesh)
    reward_model_7b.main(checker)
    taught = replace(
        recipe.reward_model, init=str(out / CHECKER / "model"), data=(out / "labels/labels.jsonl",)
    )
    for kind in KINDS:
        reward_model_7b.main(replace(taught, kind=kind, out=str(out / kind), mesh=mesh))
    return Base(STEPS[preset][0], policy, {kind: out / kind / "model" for kind in KINDS})


def run_arm(
    arm: Arm,
    base: Base,
    config: ParadigmTraining,
    asking: Asking,
    mesh: Mesh,
    folder: Path,
    *,
    rng_seed: int,
    kept: Path,
    description: str,
) -> None:
    """An arm with one seed, to the end; its answers are in folder/answers. kept: where the start policy's samples of this
    seed are, which offline methods share."""
    steps = config.training.loop.steps
    if is_done(folder) and all(file.exists() for file in answer_files(folder / ANSWERS, asking, steps)):
        return
    model = load_hf(base.policy, mesh, dtype="float32")
    tokenizer = load_tokenizer(base.policy)
    name = arm.reward if arm.reward == "accuracy" else f"{arm.reward}:{base.models[arm.reward]}"
    small = base.small
    paradigm = Paradigm(
        arm.method, config, model.config, tokenizer, mesh,
        prompts=problem_prompts(questions(small, "grpo", rng_seed), config.training.prompts_per_rollout),
        solutions=worked(small) if arm.method == "sft" else (),
        reward=rewards([name], config.training, mesh), samples=kept, rng_seed=rng_seed,
    )  # fmt: skip

    def look(policy: Params, step: int) -> dict[str, float]:
        paradigm.actor.sampler.load(policy)
        rows = ask(paradigm.actor.sampler, small, asking, folder / ANSWERS, step, sampled=step == steps)
        paradigm.actor.sampler.unload()
        return {f"eval/{name}": score.value for name, score in greedy_scores(rows["greedy"]).items()}

    run_paradigm(paradigm, lambda: model.params, folder, look=look, description=description)


def ask(
    sampler: Sampler, small: SmallModel, asking: Asking, folder: Path, step: int, *, sampled: bool
) -> dict[str, list[Answers]]:
    """Greedy answers of a policy, and samples of the first problems."""
    problems = asking.problems(small)
    greedy, *more = answer_files(folder, asking, step)
    found = {"greedy": _answers(sampler, small, problems, greedy, 1, 0.0)}
    if sampled and more:
        part = problems[: asking.sampled]
        found["sampled"] = _answers(sampler, small, part, more[0], asking.samples, asking.temperature)
    return found


def answer_files(folder: Path, asking: Asking, step: int) -> list[Path]:
    """Where the answers of the policy after so many updates are: the greedy ones and, where there are any, the samples."""
    kinds = ("greedy", "sampled") if asking.samples else ("greedy",)
    return [folder / f"{kind}-{step:06d}.jsonl" for kind in kinds]


def worked(small: SmallModel) -> list[tuple[str, str]]:
    """The SFT set of the small model."""
    problems = questions(small, "sft", 0)
    return [(one.question, one.solution) for one in (problems[i] for i in range(small.sft_problems))]


def _answers(
    sampler: Sampler, small: SmallModel, problems: Sequence[Problem], file: Path, n: int, temperature: float
) -> list[Answers]:
    return answer_problems(
        sampler, problems, file, prompt=prompt_text, max_new_tokens=small.grpo.max_completion_length, n=n,
        temperature=temperature, rng_seed=0, description=file.stem,
    )  # fmt: skip
