"""Tool-integrated solutions for finetuning, by a model that writes programs: sampled, run, graded, the right ones kept.

    python experiments/make_tool_solutions.py --model DIR_OR_HUB_ID_OR_RUN --questions gsm8k/train.jsonl --out runs/tool

A solution is reasoning with ```python blocks, each followed by what the sandbox says of it, up to a boxed answer. Of n tries
at a question those are kept whose programs ran, whose answer the grader's strict mode finds right, and which differ from
each other. Writes OUT/solutions.jsonl {question, solution, answer, source}, which sft_7b.py reads (--data), and a row for
every try in OUT/samples/; started again it goes on.
Left out on purpose: models behind an API, and the rewriting of wrong solutions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dsm_jax.cli import run_script
from dsm_jax.data.benchmarks import Problem
from dsm_jax.data.prompts import TOOL_INSTRUCTION, TOOL_STOP
from dsm_jax.errors import UserError
from dsm_jax.evaluate.answering import Sampling, answer_benchmark, claim
from dsm_jax.evaluate.prompts import Task, task
from dsm_jax.evaluate.samples import Sample, by_problem, read_samples
from dsm_jax.evaluate.tool import python_tool, require_sandbox
from dsm_jax.mesh import parse_mesh
from dsm_jax.processes import on_first_process
from dsm_jax.rl.prompts import read_all_questions, told
from dsm_jax.run import CONFIG, open_run, write_json, write_text
from dsm_jax.sample.loading import find_model, load_sampler

FREE = ("--mesh", "--slots", "--per-question")
OPENED, FAILED = f"{TOOL_STOP}\n", "\nRuntime errors:"  # what the sandbox says begins behind these


@dataclass(frozen=True)
class Making:
    """Options."""

    preset: str = "default"
    model: str = ""  # a folder of a model, a hub id, or a run of ours (its model/)
    questions: tuple[str, ...] = ()  # files or folders of rows {question, answer} (docs/grpo.md)
    language: Literal["en", "zh"] = "en"  # of the instruction behind a question
    limit: int = 0  # the first so many questions; 0: all
    per_question: int = 4  # solutions that are kept of a question, at most
    executions: int = 3  # programs in a solution, at most
    sampling: Sampling = Sampling(n=8, temperature=0.7)
    out: Path = Path("runs/tool_solutions")  # the run's folder; a second start goes on in it
    slots: int | None = None  # rows decoded at once; left out: as many as memory has room for
    # such as fsdp=8 or data=2,tensor=4, or a name (gpu-8; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    # left out: float32 on a CPU, bfloat16 elsewhere
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        if self.limit < 0 or self.per_question < 1 or self.executions < 1:
            raise UserError("--limit must be at least 0, --per-question and --executions at least 1")


def main(config: Making) -> None:
    problems, asked = read_questions(config), task("questions", "tool", own=True)
    found = find_model(config.model)
    require_sandbox()
    mesh = parse_mesh(config.mesh)
    on_first_process(lambda: (config.out / CONFIG).exists() and open_run(config.out, config, FREE))
    sampler = load_sampler(found, mesh, dtype=config.dtype, slots=config.slots)
    fingerprint = sampler.fingerprint()
    on_first_process(lambda: begin(config, asked, problems, fingerprint))
    tool = python_tool(sampler.tokenizer, config.executions)

    def encode(problem: Problem) -> list[int]:
        return [sampler.tokenizer.bos_id, *sampler.tokenizer.encode(asked.prompt(problem))]

    answer_benchmark(
        sampler, asked, problems, config.out / "samples", config.sampling, encode=encode, tool=tool
    )
    on_first_process(lambda: write(config, problems, asked))


def begin(config: Making, asked: Task, problems: Sequence[Problem], fingerprint: str) -> None:
    """Opens the run's folder; UserError where it holds answers of other options, another model or other questions."""
    open_run(config.out, config, FREE)
    claim(config.out / "model.json", fingerprint, {"questions": (asked, problems)})


def read_questions(config: Making) -> list[Problem]:
    """The questions as problems. UserError where there are none."""
    if not config.questions:
        raise UserError("--questions: give files of rows {question, answer}, such as gsm8k/train.jsonl")
    skipped: Counter[str] = Counter()
    rows = read_all_questions(config.questions, skipped)
    rows = rows[: config.limit or len(rows)]
    print(f"questions: {told(len(rows), skipped)}")
    return [
        Problem(str(row["source"]), str(place), row["question"], row["answer"], language=config.language)
        for place, row in enumerate(rows)
    ]


def write(config: Making, problems: Sequence[Problem], asked: Task) -> None:
    """solutions.jsonl and results.json from all tries."""
    samples = read_samples(config.out / "samples")
    of = {problem.id: problem for problem in problems}
    rows = [row for tries in by_problem(samples) for row in keep(tries, of[tries[0].id], config.per_question)]
    if not rows:
        raise UserError(
            f"none of {len(samples):,} tries is right with a program that ran; see {config.out}/samples"
        )
    write_text(
        config.out / "solutions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    write_json(config.out / "results.json", counts(samples, rows))
    print(
        f"{config.out}/solutions.jsonl: {len(rows):,} solutions of {len({row['id'] for row in rows}):,} of {len(problems):,} "
        f"questions, from {len(samples):,} tries"
    )


def keep(tries: Sequence[Sample], problem: Problem, most: int) -> list[dict[str, Any]]:
    """The first `most` different right solutions of a question, as rows for finetuning."""
    found = dict.fromkeys(one.response.strip() for one in tries if is_solution(one))
    question = problem.question + TOOL_INSTRUCTION[problem.language]
    return [
        {
            "id": problem.id,
            "question": question,
            "solution": text,
            "answer": problem.answer,
            "source": problem.benchmark,
        }
        for text in list(found)[:most]
    ]


def is_solution(one: Sample) -> bool:
    """Right in mode strict, ended by itself, and every program in it ran."""
    ran = OPENED in one.response and FAILED not in one.response
    return bool(one.correct["strict"]) and one.finish == "stop" and ran


def counts(samples: Sequence[Sample], rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {
        "tries": len(samples),
        "right": sum(bool(one.correct["strict"]) for one in samples),
        "right_by_programs": sum(is_solution(one) for one in samples),
        "solutions": len(rows),
        "questions": len({one.id for one in samples}),
        "questions_with_solutions": len({row["id"] for row in rows}),
    }


PRESETS = {"default": Making()}

if __name__ == "__main__":
    run_script(main, PRESETS)
