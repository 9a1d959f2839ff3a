"""GRPO of DeepSeekMath-Instruct 7B with the paper's numbers (section 4.2), or of any Llama-shaped model.

    python experiments/grpo_7b.py --mesh --prompts gsm8k:DIR math:DIR    every device; DeepSeekMath-Instruct 7B from the hub
    python experiments/grpo_7b.py --mesh --init DIR_OR_HUB_ID_OR_RUN --prompts FILES --eval-questions gsm8k:DIR
    python experiments/grpo_7b.py --mesh --preset tiny    1M parameters: a CPU does it in three to four minutes

Prompts are the questions of GSM8K's or MATH's training split (gsm8k:DIR, math:DIR), of a data set on the Hugging Face hub
(hub:openai/gsm8k/main, hub:OWNER/NAME), or of files and folders of JSON lines, JSON or parquet: a question and an answer a
row (dsm_jax/rl/questions.py); without --prompts the problem generator's.
The paper takes MathInstruct's words on GSM8K and MATH: --prompts MathInstruct.json --source-filter CoT/gsm8k CoT/MATH.
Before anything is downloaded or allocated, the memory that the run needs is compared with what is there. Before the first
update, every --grpo.loop.stop-every updates and after the last one the policy answers test questions. Without --init, tiny
and smoke first train a small SFT model of their own (a few minutes, once: it stays in --cache). The same command goes on
where a killed run was. The run's folder holds config.json, metrics.jsonl, tb/, completions/, checkpoints/, answers/, best/
(the policy with the highest greedy score) and model/ (the last one) in Hugging Face's format, results.json and report.html.
Several processes (a pod's hosts) run the same command with --out on a disk that all of them see (docs/training.md).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from grpo_evaluation import Evaluation, Sampling, answerable, read_test_questions
from grpo_report import collect, print_results, report
from grpo_rewards import judge_configs, kind_of, require_judges, require_judges_room, require_known, rewards
from jax.sharding import Mesh
from sft_questions import Asked, Question
from small_folders import is_made, make_policy, policy_folder, require_made
from small_model import SMOKE_MODEL, STEPS_MODEL, TINY_MODEL, held_out, questions

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.prompts import COT_INSTRUCTION
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, ModelConfig
from dsm_jax.model.hf import Model, save_hf
from dsm_jax.origin import hash_of, require_same_origin
from dsm_jax.processes import (
    first_process_finds,
    is_first_process,
    json_from_first_process,
    on_first_process,
    wait_for_first_process,
)
from dsm_jax.rl.config import CHANGEABLE, GRPOTraining
from dsm_jax.rl.grpo import GRPO, run_grpo
from dsm_jax.rl.memory import require_memory
from dsm_jax.rl.prompts import Prompts, problem_prompts, prompt_rows, read_all_questions, told
from dsm_jax.rl.questions import has_test
from dsm_jax.rl.scoring import require_weights
from dsm_jax.run import (
    CONFIG,
    claim_export_folder,
    open_run,
    preparing,
    read_json,
    require_export_folder,
    write_json,
)
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.start import Start, compute_dtype, find_start, keep_shape

INSTRUCT_7B = "deepseek-ai/deepseek-math-7b-instruct"
# What these presets start from without --init, and whose problems they ask.
SMALL = {"tiny": TINY_MODEL, "smoke": SMOKE_MODEL, "steps-tiny": STEPS_MODEL}
FREE = (*CHANGEABLE, "--out", "--cache", "--mesh", "--export")
ORIGIN, RESULTS, EXPORT = "origin.json", "results.json", "model"  # in the run's folder
ASKED = tuple(field.name for field in fields(Question))
REMEDY = (
    "give more devices, fewer --grpo.slots or --grpo.micro-batch-tokens, --grpo.lora.rank 16 or a smaller --init, or try "
    "--preset tiny"
)


@dataclass(frozen=True)
class GRPORun:
    """Options of a GRPO run."""

    preset: str = "paper"  # paper, tiny, smoke or steps-tiny
    # a Hugging Face folder, a hub id, or a run of ours; None: the preset's own small model
    init: str | None = INSTRUCT_7B
    # gsm8k:DIR, math:DIR, hub:OWNER/NAME, files, folders; none: the problem generator
    prompts: tuple[str, ...] = ()
    # of files and the hub, only rows whose field `source` holds one of these
    source_filter: tuple[str, ...] = ()
    instruction: str = COT_INSTRUCTION["en"]  # appended to every question
    # what completions are rewarded for: the right answer (accuracy), exactly one box (format), keeping clear of the longest
    # completion (overlong), or what a reward model says of each step (process:DIR) or of the whole (outcome:DIR)
    reward: tuple[str, ...] = ("accuracy",)
    # as --prompts, but sets their test split; none: the test splits of --prompts, or the generator's
    eval_questions: tuple[str, ...] = ()
    eval_count: int = 1_000  # questions of an evaluation, at most; --grpo.loop.stop-every says how often
    eval_samples: int = 0  # k of maj@k and pass@k, completions of each of these questions; 0: greedy alone
    eval_temperature: float = 0.7  # of these samples; the paper's for its maj@K and pass@K figures
    grpo: GRPOTraining = GRPOTraining()
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); bare or left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: Path = Path("runs/grpo_7b")  # the run's folder
    export: Path | None = None  # folder of the last policy in Hugging Face's format; None: model/ in --out
    cache: Path = Path("~/.cache/dsm_jax")  # where the small model of tiny and smoke is kept
    rng_seed: int = 0  # of problems, their order and sampling

    def __post_init__(self) -> None:
        if not 0 <= self.rng_seed < 2**31:
            raise UserError(f"--rng-seed is {self.rng_seed}; it must be from 0 to 2147483647")
        if self.eval_count < 1 or self.eval_samples < 0 or not self.eval_temperature > 0:
            raise UserError(
                "--eval-count must be at least 1, --eval-samples at least 0, --eval-temperature above 0"
            )
        require_known(self.reward)
        if self.source_filter and not self.prompts:
            raise UserError("--source-filter: is for the files of --prompts; give both or neither")


PAPER = GRPORun(grpo=replace(GRPOTraining(), loop=replace(GRPOTraining().loop, stop_every=100)))
TINY = GRPORun(
    preset="tiny",
    init=None,
    instruction="",
    grpo=replace(
        TINY_MODEL.grpo,
        loop=replace(TINY_MODEL.grpo.loop, steps=70, stop_every=70),  # three minutes
    ),
    out=Path("runs/grpo_tiny"),
)
SMOKE = replace(
    TINY,
    preset="smoke",
    eval_count=8,
    eval_samples=2,
    grpo=replace(SMOKE_MODEL.grpo, loop=replace(SMOKE_MODEL.grpo.loop, stop_every=2)),
    out=Path("runs/grpo_smoke"),
)
STEPS_TINY = replace(  # longer solutions, for rewards of steps
    TINY,
    preset="steps-tiny",
    grpo=replace(STEPS_MODEL.grpo, loop=replace(STEPS_MODEL.grpo.loop, steps=70, stop_every=70)),
    out=Path("runs/grpo_steps_tiny"),
)
PRESETS = {config.preset: config for config in (PAPER, TINY, SMOKE, STEPS_TINY)}


class Prepared(NamedTuple):
    """What a run has before its first update: the tokenizer's folder, prompts and the evaluation's questions."""

    tokenizer: Path
    prompts: Callable[[int], Sequence[Mapping[str, Any]]]
    asked: Asked


def main(config: GRPORun) -> None:
    mesh = parse_mesh(config.mesh)
    start = find_model(config, mesh)
    check(config, start, mesh, judge_configs(config.reward, mesh))
    on_first_process(lambda: begin(config, start))
    if not first_process_finds(lambda: is_finished(config)):
        with preparing(config.out):
            prepared = prepare(config, start)
            grpo = make_grpo(config, start, mesh, prepared)
            described = grpo.scorer.described()
            given = {"the models of --reward": described}
            on_first_process(lambda: require_same_origin(config.out / ORIGIN, given))
        train(config, start, grpo, prepared)
        on_first_process(lambda: finish(config, prepared))
    if is_first_process():
        print_results(read_json(config.out / RESULTS), config.out)
        print(f"for transformers: {exported(config)}")
    wait_for_first_process()


def find_model(config: GRPORun, mesh: Mesh) -> Start:
    """The model that training starts from; nothing but its shape is read or downloaded."""
    small = SMALL.get(config.preset)
    if config.init is None and small:
        return Start(str(small_sft_folder(config)), compute_dtype(small.model, mesh))
    if config.init == INSTRUCT_7B:  # whose shape is known: the memory is compared before any download
        return Start(config.init, compute_dtype(DEEPSEEK_MATH_7B, mesh))
    return find_start(config.init, mesh, own=None)


def check(config: GRPORun, start: Start, mesh: Mesh, judges: Sequence[ModelConfig]) -> None:
    """What can be seen before any work. judges: the shapes of the reward models."""
    length, most = config.grpo.max_completion_length, start.config.max_seq_len
    if length >= most:
        raise UserError(
            f"--grpo.max-completion-length {length} leaves no room for a prompt in the model's {most} tokens; give fewer"
        )
    if config.grpo.curriculum and not config.prompts:
        raise UserError("--grpo.curriculum: the problem generator has no end; give --prompts")
    require_weights([kind_of(name) for name in config.reward], config.grpo.rewards.weights)
    require_memory(config.grpo, start.config, mesh, judges=judges, remedy=REMEDY)
    if config.init:
        start.require_params(mesh)
    else:
        require_made(config.preset, config.cache, [small_sft_folder(config)], "--init")


def begin(config: GRPORun, start: Start) -> None:
    """The run's folder; UserError where it is another run's."""
    if config.export:
        require_export_folder(config.export, config.out)
    if (noted := config.out / ORIGIN).exists() and not (config.out / CONFIG).exists():
        noted.unlink()  # by a start that failed
    # Another folder of the small model makes no other run; another recipe of it does.
    open_run(config.out, replace(config, init=config.init or Path(str(start.init)).name), FREE)


def is_finished(config: GRPORun) -> bool:
    return (config.out / RESULTS).exists() and is_made(exported(config))


def exported(config: GRPORun) -> Path:
    return config.export or config.out / EXPORT


def prepare(config: GRPORun, start: Start) -> Prepared:
    """What the first process has read, in all; each has a tokenizer of its own."""
    read = json_from_first_process(lambda: read_all(config, start))
    folder = start.tokenizer()
    assert folder is not None  # only random numbers have none
    prompts = of_rows(config, read["rows"]) if config.prompts else generated(config)
    return Prepared(folder, prompts, [Question(*one) for one in read["asked"]])


def read_all(config: GRPORun, start: Start) -> dict[str, Any]:
    """The prompts' rows and the evaluation's questions, as JSON has them; UserError where nothing can be asked.

    Makes the small model where there is no other.
    """
    asked, skipped = test_questions(config), Counter[str]()
    rows = []
    if config.prompts:
        seen = {one.question for one in asked}
        rows = read_all_questions(config.prompts, skipped, only=config.source_filter, without=seen)
    if config.init is None:
        make_policy(SMALL[config.preset], Path(str(start.init)))
    folder = start.tokenizer()
    assert folder is not None  # only random numbers have none
    tokenizer = load_tokenizer(folder, rows=start.config.vocab_size)
    require_judges(config.reward, tokenizer, config.grpo.splitting)
    length = config.grpo.max_completion_length
    room = start.config.max_seq_len - length
    if asked:
        asked = answerable(asked, tokenizer, config.instruction, room)
    if config.prompts:
        rows = prompt_rows(rows, tokenizer, config.instruction, room, skipped)
        print(f"prompts: {told(len(rows), skipped)}")
    require_judges_room(config.reward, rows or generated(config)(0), tokenizer, length)
    if config.prompts:
        require_same_questions(config.out, of_rows(config, rows), asked)
    keep_shape(start.config, folder, config.out)
    return {"rows": rows, "asked": [[getattr(one, name) for name in ASKED] for one in asked]}


def of_rows(config: GRPORun, rows: Sequence[Mapping[str, Any]]) -> Prompts:
    return Prompts(rows, config.grpo.prompts_per_rollout, config.rng_seed)


def test_questions(config: GRPORun) -> Asked:
    """What the evaluation asks; nothing where it is off, or has no source."""
    if not config.grpo.loop.stop_every:
        return []
    sources = config.eval_questions or tuple(filter(has_test, config.prompts))
    if sources:
        return read_test_questions(sources, config.eval_count)
    if config.prompts:
        print("no evaluation: --prompts has no test split of its own; give --eval-questions", file=sys.stderr)
        return []
    if config.preset in SMALL:
        return held_out(SMALL[config.preset], config.eval_count)
    return ProblemSet("test").distinct(config.eval_count)


def generated(config: GRPORun) -> Callable[[int], Sequence[Mapping[str, Any]]]:
    """Prompts of the generator: a small model's are those that it can learn, none of which SFT has seen."""
    problems = ProblemSet("train", seed=config.rng_seed)
    if config.preset in SMALL:
        problems = questions(SMALL[config.preset], "grpo", config.rng_seed)
    return problem_prompts(problems, config.grpo.prompts_per_rollout, config.instruction)


def require_same_questions(out: Path, prompts: Prompts, asked: Asked) -> None:
    """UserError where a run that goes on had others."""
    tested = hash_of([(one.question, one.answer) for one in asked])
    given = {"the files of --prompts": prompts.fingerprint(), "the files of --eval-questions": tested}
    require_same_origin(out / ORIGIN, given)


def make_grpo(config: GRPORun, start: Start, mesh: Mesh, prepared: Prepared) -> GRPO:
    tokenizer = load_tokenizer(prepared.tokenizer, rows=start.config.vocab_size)
    return GRPO(
        config.grpo, start.config, tokenizer, mesh,
        prompts=prepared.prompts, reward=rewards(config.reward, config.grpo, mesh), rng_seed=config.rng_seed,
    )  # fmt: skip


def train(config: GRPORun, start: Start, grpo: GRPO, prepared: Prepared) -> None:
    """GRPO to the end, with the evaluation on the way, and the last policy as a folder."""
    sampling = Sampling(config.eval_samples, config.eval_temperature, config.rng_seed)
    look = None
    if prepared.asked:
        look = Evaluation(
            grpo, prepared.asked, config.out,
            instruction=config.instruction, sampling=sampling, tokenizer=prepared.tokenizer,
        )  # fmt: skip
    params = run_grpo(grpo, lambda: start.params(grpo.mesh, config.rng_seed), config.out, look=look)
    if folder := config.export:
        on_first_process(lambda: claim_export_folder(folder, config.out))
    save_hf(Model(start.config, params), exported(config), prepared.tokenizer)


def finish(config: GRPORun, prepared: Prepared) -> None:
    """report.html and, last, results.json."""
    results = collect(config.out, config.eval_samples)
    report(config.out, lead(config, prepared), results)
    write_json(config.out / RESULTS, results)


def lead(config: GRPORun, prepared: Prepared) -> str:
    """The sentence under the report's title."""
    prompts = prepared.prompts
    asked = f"{len(prompts.rows):,} questions" if isinstance(prompts, Prompts) else "the problem generator"
    grpo = config.grpo
    return (
        f"{asked}, {grpo.prompts_per_rollout} prompts of {grpo.num_generations} completions a rollout, from "
        f"{config.init or 'a small SFT model'}"
    )


def small_sft_folder(config: GRPORun) -> Path:
    """Where the cache keeps the small SFT model that the preset starts from."""
    return policy_folder(config.cache, config.preset, SMALL[config.preset])


if __name__ == "__main__":
    run_script(main, PRESETS)
