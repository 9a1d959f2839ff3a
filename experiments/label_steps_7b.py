"""Labels of the steps of solutions, by Math-Shepherd (arXiv 2312.08935): what a process reward model is trained on.

    python experiments/label_steps_7b.py --mesh --prompts gsm8k:DIR math:DIR    DeepSeekMath-Instruct 7B from the hub
    python experiments/label_steps_7b.py --mesh --generator A --completer B --prompts FILES
    python experiments/label_steps_7b.py --mesh --completer B --pool FILES.jsonl    solutions that are there
    python experiments/label_steps_7b.py --preset tiny    1M parameters, generated problems, labels held against the truth

Of each problem the generator samples solutions; each step of each solution is completed n times, and is good where a
completion finds the right answer. Files as of grpo_7b.py. Writes labels.jsonl (a row a solution: prompt, completion, the
steps' ends and labels, draws), math_shepherd.jsonl ({input, label, task}), results.json and report.html, and of generated
problems truths.jsonl (the same rows with the truth for labels); started again it goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from grpo_7b import INSTRUCT_7B
from jax.sharding import Mesh
from label_steps_report import collect, print_results, write_label_report
from small_folders import SMALL_SEED, STEPS, StepsFolders, make_steps_models, require_made, steps_folders
from small_model import STEPS_MODEL, STEPS_SMOKE_MODEL, questions

from dsm_jax.cli import run_script
from dsm_jax.data.problems import Problem, ProblemSet
from dsm_jax.data.prompts import COT_INSTRUCTION, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.origin import hash_of, require_same_origin
from dsm_jax.processes import (
    first_process_finds,
    is_first_process,
    json_from_first_process,
    on_first_process,
    wait_for_first_process,
)
from dsm_jax.rl.prompts import read_all_questions, told
from dsm_jax.rl.shepherd.chunks import join_chunks, labels_of
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.run import LABELLED, copy_pools, fill_pools, label_chunks, require_same_pool
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.truths import solution_truths
from dsm_jax.run import CONFIG, open_run, read_json, write_json
from dsm_jax.sample.loading import find_model, load_sampler
from dsm_jax.sample.sampler import Sampler

FREE = (
    "--mesh",
    "--slots",
    "--out",
    "--cache",
    "--patience",
    "--max-decoded",
)  # what a second start may change
Role = Literal["generator", "completer"]
ORIGIN, RESULTS = "origin.json", "results.json"
TRUTHS = "truths.jsonl"  # as labels.jsonl, of generated problems, with the truth for labels
TASKS = {"gsm8k": "GSM8K", "math": "MATH"}  # as the Math-Shepherd data names its sources


@dataclass(frozen=True)
class LabelRun(Shepherd):
    """Options of a labelling run."""

    preset: str = "math_shepherd"  # math_shepherd, tiny or smoke
    # what samples solutions: a folder, a hub id, or a run of ours; None: the preset's own small model
    generator: str | None = INSTRUCT_7B
    completer: str | None = None  # what completes them; None: the generator, or the preset's own
    # gsm8k:DIR, math:DIR, hub:OWNER/NAME, files, folders; none: the problem generator
    prompts: tuple[str, ...] = ()
    # of files and the hub, only rows whose field `source` holds one of these
    source_filter: tuple[str, ...] = ()
    # files of solutions that are there, rows {question, answer, completion}: nothing is sampled for the pool
    pool: tuple[Path, ...] = ()
    problems: int = 0  # that are asked, the first ones; 0: all of --prompts
    instruction: str = COT_INSTRUCTION["en"]  # appended to every question
    out: Path = Path("runs/label_steps_7b")  # the run's folder; a second start goes on in it
    cache: Path = Path("~/.cache/dsm_jax")  # where the small model of tiny and smoke is kept
    slots: int | None = None  # rows decoded at once; left out: as many as memory has room for
    # such as fsdp=8 or data=2,tensor=4, or a name (gpu-8; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    # left out: float32 on a CPU, bfloat16 elsewhere
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool and self.prompts:
            raise UserError("--pool: its rows have their questions; leave --prompts out")
        if self.source_filter and not self.prompts:
            raise UserError("--source-filter: is for the files of --prompts; give both or neither")
        if self.problems < 0:
            raise UserError(f"--problems is {self.problems}; it must be at least 0 (0: all of --prompts)")


MATH_SHEPHERD = LabelRun()
TINY = LabelRun(
    preset="tiny",
    generator=None,
    problems=200,
    solutions=8,
    instruction="",
    max_new_tokens=STEPS_MODEL.grpo.max_completion_length,
    keep_draws=True,
    slots=64,
    out=Path("runs/label_steps_tiny"),
)
SMOKE = replace(
    TINY,
    preset="smoke",
    problems=8,
    solutions=3,
    n=4,
    keep_draws=False,
    chunk=4,
    max_new_tokens=40,
    temperature=1.0,
    completer_temperature=1.0,
    slots=16,
    out=Path("runs/label_steps_smoke"),
)
PRESETS = {config.preset: config for config in (MATH_SHEPHERD, TINY, SMOKE)}


def main(config: LabelRun) -> None:
    require_questions(config)
    mesh = parse_mesh(config.mesh)
    on_first_process(lambda: require_same(config))
    if not first_process_finds(lambda: is_finished(config)):
        on_first_process(lambda: make_small_models(config))
        check(config)
        label(config, mesh)
    if is_first_process():
        print_results(read_json(config.out / RESULTS), config.out)
    wait_for_first_process()


def require_same(config: LabelRun) -> None:
    """UserError, before any model is read, where the run's folder is of other options or solutions."""
    if (config.out / CONFIG).exists():
        open_run(config.out, config, FREE)
        if config.pool:
            require_same_pool(config.pool, config.out)


def require_questions(config: LabelRun) -> None:
    if not (config.problems or config.prompts or config.pool):
        raise UserError("--prompts: give questions, --pool solutions, or --problems of the problem generator")
    if config.pool and config.problems != PRESETS[config.preset].problems:
        raise UserError(
            "--problems: all solutions of --pool are labelled; leave it out, or give files with fewer"
        )


def check(config: LabelRun) -> None:
    """What can be seen before any work; the models are there."""
    require_questions(config)
    find_model(model_name(config, "completer"))  # which is not read until all solutions are sampled


def is_finished(config: LabelRun) -> bool:
    if not (config.out / RESULTS).exists():
        return False
    results = read_json(config.out / RESULTS)
    return not results["problems_left"] or results["max_decoded"] == config.max_decoded


def label(config: LabelRun, mesh: Mesh) -> None:
    """Solutions, their labels, and the report."""
    problems = Problems(config)
    sampler: Sampler | None = None
    if not config.pool:
        rows = problems.rows
        sampler = make_sampler(config, "generator", mesh)
        claim(config, "generator", sampler, rows)
        fill_pools(sampler, rows, config.out, config)
    if sampler is None or model_name(config, "generator") != model_name(config, "completer"):
        sampler = None  # before the other model's parameters come
        sampler = make_sampler(config, "completer", mesh)
    claim(config, "completer", sampler)
    if config.pool:
        on_first_process(lambda: copy_pools(config.pool, config.out, config, config.instruction))
    label_chunks(sampler, config.out, config)
    on_first_process(lambda: finish(config, problems))


class Problems:
    """What is asked."""

    def __init__(self, config: LabelRun):
        self.config = config

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Rows {question, answer, prompt, task}, as the first process reads them."""
        found = json_from_first_process(lambda: self._read())
        instruction = self.config.instruction
        return [row | {"prompt": prompt_text(row["question"] + instruction)} for row in found]

    def _read(self) -> list[dict[str, str]]:
        config = self.config
        if not config.prompts:
            return [{"question": p.question, "answer": p.answer, "task": p.family} for p in self.generated]
        skipped: Counter[str] = Counter()
        rows = read_all_questions(config.prompts, skipped, only=config.source_filter)
        asked = rows[: config.problems or None]
        if left := len(rows) - len(asked):
            skipped["beyond --problems"] += left
        print(f"prompts: {told(len(asked), skipped)}")
        return [
            {
                "question": row["question"],
                "answer": row["answer"],
                "task": TASKS.get(row["source"], row["source"]),
            }
            for row in asked
        ]

    @cached_property
    def generated(self) -> list[Problem]:
        config = self.config
        if config.pool or config.prompts:
            return []
        if config.preset == "smoke":  # those that its models have learned
            problems = questions(STEPS_SMOKE_MODEL, "sft", SMALL_SEED)
            return [problems[i] for i in range(config.problems)]
        if config.preset == "tiny":
            return questions(STEPS_MODEL, "labels", config.rng_seed).distinct(config.problems)
        return ProblemSet("rl", seed=config.rng_seed).distinct(config.problems)

    @cached_property
    def _by_question(self) -> dict[str, Problem]:
        return {one.question: one for one in self.generated}

    def truth(self, one: Labelled) -> Sequence[bool] | None:
        """Of each step; None where the question is not a generated one."""
        problem = self._by_question.get(one.question)
        return solution_truths(problem, one.completion, one.ends) if problem else None

    def perfect(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """A labelled solution with the truth for its labels; None where it is not known."""
        truths = self.truth(labels_of(row).labelled)
        return None if truths is None else {**row, "labels": [float(one) for one in truths]}


def model_name(config: LabelRun, role: Role) -> str:
    """A completer that is not named is the generator, where that is named."""
    name = config.generator if role == "generator" else config.completer or config.generator
    if name is not None:
        return name
    folders = small_folders_of(config)
    return str(folders.policy if role == "generator" else folders.completer)


def make_sampler(config: LabelRun, role: Role, mesh: Mesh) -> Sampler:
    found = find_model(model_name(config, role))
    return load_sampler(found, mesh, dtype=config.dtype, slots=config.slots)


def claim(config: LabelRun, role: str, sampler: Sampler, rows: Sequence[Any] = ()) -> None:
    """Opens the run's folder; UserError where it has labels by other parameters, or of other questions."""
    given = {f"the {role}": sampler.fingerprint()} | ({"the questions": hash_of(rows)} if rows else {})

    def note() -> None:
        open_run(config.out, config, FREE)
        require_same_origin(config.out / ORIGIN, given)

    on_first_process(note)


def finish(config: LabelRun, problems: Problems) -> None:
    """report.html and, last, results.json; of generated problems perfect labels too."""
    results = collect(config.out, config, problems.truth)
    if problems.generated:
        join_chunks(config.out / LABELLED, config.out / TRUTHS, problems.perfect)
    write_label_report(config.out, lead(config), results, problems.truth)
    write_json(config.out / RESULTS, results)


def lead(config: LabelRun) -> str:
    kind = f"{config.estimate} labels, {config.n} completions a step"
    if config.search == "binary":
        kind = f"first bad step by binary search, {config.n} completions a step"
    generator = "files" if config.pool else config.generator or "a small model"
    completer = config.completer or config.generator or "the same, finetuned further"
    return f"{kind}; solutions of {generator}, completed by {completer}"


def small_folders_of(config: LabelRun) -> StepsFolders:
    """Of the preset's own models."""
    if config.preset not in STEPS:
        raise UserError("--generator: this preset has no model of its own; give a folder, a hub id or a run")
    return steps_folders(config.cache, config.preset)


def make_small_models(config: LabelRun) -> None:
    """Where no other ones are named."""
    if config.generator is not None or (config.pool and config.completer):
        return
    require_made(config.preset, config.cache, small_folders_of(config), "--generator and --completer")
    make_steps_models(config.cache, config.preset)


if __name__ == "__main__":
    run_script(main, PRESETS)
