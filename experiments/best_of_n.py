"""Verification (Math-Shepherd, arXiv 2312.08935, table 1): a reward model chooses among N answers to each question.

    python experiments/best_of_n.py --mesh --reward process:DIR outcome:DIR --eval-questions gsm8k:DIR math:DIR
    python experiments/best_of_n.py --mesh --model DIR_OR_HUB_ID_OR_RUN --reward process:DIR --eval-questions FILES
    python experiments/best_of_n.py --preset tiny --reward process:runs/reward_model/model    1M parameters, generated problems

Best-of-N by the least of the steps' scores, by their product and by the last one, beside self-consistency, self-consistency
weighted by these, one sample, and any of them; each with its 95% interval, and differences paired by question. Of generated
problems the truth of each step is known: how well the reward model tells it is measured too. Writes samples/ and scores/
(a row a sample), results.json and report.html; started again it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from best_of_n_report import collect, print_results, report
from grpo_7b import INSTRUCT_7B
from grpo_evaluation import read_test_questions
from grpo_rewards import RULES, judge, judge_configs, kind_of, require_known
from jax.sharding import Mesh
from small_folders import SMALL_SEED, STEPS, make_policy, require_made, steps_folders
from small_model import STEPS_MODEL, STEPS_SMOKE_MODEL, held_out, questions, unlabelled

from dsm_jax.cli import run_script
from dsm_jax.data.benchmarks import Problem as Asked
from dsm_jax.data.problems import Problem, ProblemSet
from dsm_jax.data.prompts import COT_INSTRUCTION, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.answering import Sampling, answer_benchmark
from dsm_jax.evaluate.prompts import task
from dsm_jax.mesh import parse_mesh
from dsm_jax.model import load_hf
from dsm_jax.origin import hash_of, require_same_origin
from dsm_jax.processes import (
    first_process_finds,
    is_first_process,
    json_from_first_process,
    on_first_process,
    wait_for_first_process,
)
from dsm_jax.rl.reward_model.folder import save_reward_model
from dsm_jax.rl.reward_model.form import FILE, Form
from dsm_jax.rl.reward_model.readout import two_tokens
from dsm_jax.rl.reward_model.scored_samples import score_samples
from dsm_jax.rl.steps.truths import solution_truths
from dsm_jax.run import CONFIG, open_run, read_json, write_json
from dsm_jax.sample.loading import find_model, load_sampler
from dsm_jax.sample.request import LEAST_TEMPERATURE
from dsm_jax.tokenizer import load_tokenizer

FREE = ("--mesh", "--slots", "--out", "--cache")  # what a second start may change
SAMPLES, SCORES, ORIGIN, RESULTS = "samples", "scores", "origin.json", "results.json"
QUESTIONS = "questions"  # the benchmark's name in rows of samples
ALL = 2**31  # more questions than any set has


@dataclass(frozen=True)
class Verification:
    """Options."""

    preset: str = "paper"  # paper, tiny or smoke
    # what answers: a folder, a hub id, or a run of ours; None: the preset's own small model
    model: str | None = INSTRUCT_7B
    # what chooses: process:DIR, outcome:DIR, or both, folders of reward models or runs of reward_model_7b.py
    reward: tuple[str, ...] = ()
    # gsm8k:DIR, math:DIR (their test splits), hub:OWNER/NAME, files, folders; none: the problem generator
    eval_questions: tuple[str, ...] = ()
    # of tiny's problems: test, whose wordings no model has seen; or rl, from which labelled ones are, but others
    split: Literal["test", "rl"] = "test"
    count: int = 0  # questions, at most; 0: all (of the generator 1,000)
    instruction: str = COT_INSTRUCTION["en"]  # appended to every question
    n: int = 256  # answers to choose among, at most; also from 1, 2, 4, .. of them
    # so many times n answers are sampled: weighted votes are the mean of so many groups, all else of every choice of n
    groups: int = 3
    temperature: float = 0.7  # of the answers
    max_new_tokens: int = 1024  # of an answer
    chunk: int = 12_288  # answers that are sampled and scored together; a killed run loses one chunk at most
    rng_seed: int = 0  # of sampling
    out: Path = Path("runs/best_of_n")  # the run's folder; a second start goes on in it
    cache: Path = Path("~/.cache/dsm_jax")  # where the small model of tiny and smoke is kept
    slots: int | None = None  # rows decoded at once; left out: as many as memory has room for
    # such as fsdp=8 or data=2,tensor=4, or a name (gpu-8; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    # of the model that answers; left out: float32 on a CPU, bfloat16 elsewhere
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        least = {"count": 0, "n": 2, "groups": 1, "max_new_tokens": 1, "chunk": 1, "rng_seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {low}"
                )
        if not LEAST_TEMPERATURE <= self.temperature < float("inf"):
            raise UserError(f"--temperature is {self.temperature}; it must be at least {LEAST_TEMPERATURE}")
        if self.rng_seed >= 2**31:
            raise UserError(f"--rng-seed is {self.rng_seed}; it must be below {2**31}")
        if self.split != "test" and (self.preset != "tiny" or self.eval_questions):
            raise UserError("--split: is for the generated problems of --preset tiny; leave it out")
        require_known(self.reward)
        if rules := [name for name in self.reward if name in RULES]:
            raise UserError(f"--reward {rules[0]}: no model; give process:DIR or outcome:DIR")
        if len(set(self.reward)) < len(self.reward):
            raise UserError("--reward: a reward model stands there twice; name each once")

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            self.n * self.groups, self.temperature, 1.0, self.max_new_tokens, self.rng_seed, self.chunk
        )


# 256 answers and the mean of three groups are Math-Shepherd's (section 4.1); temperature and longest answer are ours.
PAPER = Verification()
TINY = Verification(
    preset="tiny",
    model=None,
    count=500,
    instruction="",
    n=16,
    groups=1,
    max_new_tokens=STEPS_MODEL.grpo.max_completion_length,
    chunk=2_000,
    slots=64,
    out=Path("runs/best_of_n_tiny"),
)
SMOKE = replace(
    TINY,
    preset="smoke",
    count=8,
    n=4,
    temperature=1.0,
    max_new_tokens=40,
    chunk=8,
    slots=16,
    out=Path("runs/best_of_n_smoke"),
)
PRESETS = {config.preset: config for config in (PAPER, TINY, SMOKE)}


def main(config: Verification) -> None:
    mesh = parse_mesh(config.mesh)
    config = with_reward(config)
    on_first_process(lambda: (config.out / CONFIG).exists() and open_run(config.out, config, FREE))
    if not first_process_finds((config.out / RESULTS).exists):
        on_first_process(lambda: make_small_models(config))
        verify(config, mesh)
    if is_first_process():
        print_results(read_json(config.out / RESULTS), config.out)
    wait_for_first_process()


def with_reward(config: Verification) -> Verification:
    """smoke, which tries the script out, takes its own untrained policy where no reward model is named."""
    if config.reward:
        return config
    if config.preset == "smoke":
        return replace(config, reward=(f"process:{judging_folder(config)}",))
    raise UserError(
        "--reward: give process:DIR or outcome:DIR, what reward_model_7b.py has trained on labels of label_steps_7b.py"
    )


def verify(config: Verification, mesh: Mesh) -> None:
    """Samples, their scores, and the report."""
    judge_configs(config.reward, mesh)
    asked = Questions(config)
    sample(config, mesh, asked)
    prompts = {one.id: prompt_text(one.question + config.instruction) for one in asked.all}
    for number, name in enumerate(config.reward):
        model = judge(name, mesh)
        claim(config, f"--reward {name}", model.fingerprint())
        score_samples(model, config.out / SAMPLES, scores_folder(config, number), prompts)
        model.unload()
    on_first_process(lambda: finish(config, asked))


class Questions:
    """What is asked."""

    def __init__(self, config: Verification):
        self.config = config

    @cached_property
    def all(self) -> list[Asked]:
        """Of files as the first process reads them."""
        if not self.config.eval_questions:
            return [asked(p.id, p.question, p.answer, p.family, p.level) for p in self.generated.values()]
        rows = json_from_first_process(lambda: self._read())
        return [asked(*row) for row in rows]

    def _read(self) -> list[tuple[str, str, str, str, int]]:
        found = read_test_questions(self.config.eval_questions, self.config.count or ALL)
        return [(one.id, one.question, one.answer, one.family, one.level) for one in found]

    @cached_property
    def generated(self) -> dict[str, Problem]:
        """By id; none where files are read."""
        config = self.config
        if config.eval_questions:
            return {}
        count = config.count or 1_000
        if config.preset == "smoke":  # those that its model has learned
            learned = questions(STEPS_SMOKE_MODEL, "sft", SMALL_SEED)
            found = [learned[i] for i in range(min(count, STEPS_SMOKE_MODEL.sft_problems))]
        elif config.preset == "tiny" and config.split == "rl":
            found = unlabelled(STEPS_MODEL, count)
        elif config.preset == "tiny":
            found = held_out(STEPS_MODEL, count)
        else:
            found = ProblemSet("test").distinct(count)
        return {one.id: one for one in found}

    def truths(self, name: str, text: str, ends: Sequence[int]) -> Sequence[bool] | None:
        """Of each step; None where the problem is not a generated one."""
        problem = self.generated.get(name)
        return solution_truths(problem, text, ends) if problem else None


def asked(name: str, question: str, answer: str, family: str, level: int) -> Asked:
    return Asked(QUESTIONS, name, question, answer, subject=family, level=str(level) if level else "")


def sample(config: Verification, mesh: Mesh, questions: Questions) -> None:
    """The answers that the run's folder does not hold yet."""
    found = find_model(config.model or str(policy_folder(config)))
    sampler = load_sampler(found, mesh, dtype=config.dtype, slots=config.slots)
    claim(config, "the model", sampler.fingerprint())
    rows = [[one.id, one.question, one.answer] for one in questions.all]
    claim(config, "the questions", hash_of(rows))

    def encode(problem: Asked) -> list[int]:
        tokenizer = sampler.tokenizer
        return [tokenizer.bos_id, *tokenizer.encode(prompt_text(problem.question + config.instruction))]

    answer_benchmark(
        sampler, task(QUESTIONS, "zero_shot_cot", own=True), questions.all, config.out / SAMPLES, config.sampling,
        encode=encode,
    )  # fmt: skip


def claim(config: Verification, role: str, identity: str) -> None:
    """Opens the run's folder; UserError where its files are of something else."""

    def note() -> None:
        open_run(config.out, config, FREE)
        require_same_origin(config.out / ORIGIN, {role: identity})

    on_first_process(note)


def scores_folder(config: Verification, number: int) -> Path:
    return config.out / SCORES / f"{number + 1}-{kind_of(config.reward[number])}"


def finish(config: Verification, questions: Questions) -> None:
    """report.html and, last, results.json."""
    folders = {name: scores_folder(config, number) for number, name in enumerate(config.reward)}
    every = {one.id: one.question for one in questions.all}
    results, shown = collect(config.out / SAMPLES, folders, config.n, config.groups, every, questions.truths)
    report(config.out, lead(config, results), results, shown)
    write_json(config.out / RESULTS, results)


def lead(config: Verification, results: dict[str, Any]) -> str:
    """The sentence under the report's title."""
    groups = f" ({config.groups} groups)" if config.groups > 1 else ""
    return (
        f"{results['problems']:,} questions, {config.n} answers{groups} by {config.model or 'a small SFT model'} at temperature "
        f"{config.temperature:g}; chosen by {', '.join(config.reward)}"
    )


# The presets' own models


def policy_folder(config: Verification) -> Path:
    if config.preset not in STEPS:
        raise UserError("--model: this preset has no model of its own; give a folder, a hub id or a run")
    return steps_folders(config.cache, config.preset).policy


def judging_folder(config: Verification) -> Path:
    policy = policy_folder(config)
    return policy.with_name(f"{policy.name}-judging")


def make_small_models(config: Verification) -> None:
    """Where no other ones are named."""
    own_judge = config.reward == (f"process:{judging_folder(config)}",) if config.preset in STEPS else False
    if config.model is not None and not own_judge:
        return
    policy = policy_folder(config)
    require_made(config.preset, config.cache, [policy], "--model and --reward")
    make_policy(STEPS[config.preset][0], policy)
    if own_judge and not (judging_folder(config) / FILE).exists():
        form = Form(two_tokens(load_tokenizer(policy)))
        save_reward_model(load_hf(policy), form, judging_folder(config), policy)


if __name__ == "__main__":
    run_script(main, PRESETS)
