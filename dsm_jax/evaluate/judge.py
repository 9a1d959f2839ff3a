"""Completions into judged rows: programs are run, answers graded in every mode, proofs checked, equal answers numbered.

Left out on purpose: sampling (answering.py), scores (summary.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from dsm_jax.data.benchmarks import Problem
from dsm_jax.evaluate.grader import Verdict, cluster, grade_many
from dsm_jax.evaluate.grader.grade import MODES
from dsm_jax.evaluate.isabelle import IsabelleClient
from dsm_jax.evaluate.prompts import PAPER, Task, program_with_tests, tool_status
from dsm_jax.evaluate.prompts.tasks import PROVING
from dsm_jax.evaluate.proofs import check_proof
from dsm_jax.evaluate.samples import Sample
from dsm_jax.evaluate.sandbox import ExecutionResult, Limits, run_many
from dsm_jax.sample.request import Completion

NO_PROGRAM = "no program"


class _Answer(NamedTuple):
    """One completion of a problem."""

    problem: Problem
    prompt: str
    sample: int
    completion: Completion


def judge(
    task: Task,
    problems: Sequence[Problem],
    prompts: Sequence[str],
    completions: Sequence[Sequence[Completion]],
    isabelle: IsabelleClient | None = None,
) -> list[Sample]:
    """A row for each completion, problem by problem. prompts: what was put, as text. isabelle: checks proofs, which have no
    verdict without it.
    """
    answers = [
        _Answer(problem, prompt, sample, completion)
        for problem, prompt, row in zip(problems, prompts, completions, strict=True)
        for sample, completion in enumerate(row)
    ]
    passed = secrets.token_hex(16)  # not to be guessed; a program that looks for it in itself finds it
    ran = _run([_program(task, answer, passed) for answer in answers])
    if task.benchmark in PROVING:
        verdicts = [(_proved(isabelle, answer),) * len(MODES) for answer in answers]
    else:
        verdicts = _verdicts(task, answers, ran, passed)
    votes = _votes(task, answers, [of[0] for of in verdicts])
    return [
        _row(task, answer, result, verdict, vote)
        for answer, result, verdict, vote in zip(answers, ran, verdicts, votes, strict=True)
    ]


def _program(task: Task, answer: _Answer, passed: str) -> str | None:
    """What is to be run before the answer can be judged; None: nothing, or there is no program."""
    kind = task.kind(answer.problem)
    if kind == "tests":
        return program_with_tests(answer.problem, answer.completion.text, passed)
    return task.program(answer.completion.text) if kind == "program" else None


def _run(programs: Sequence[str | None]) -> list[ExecutionResult | None]:
    limits = Limits(timeout_s=PAPER.program_s)
    results = iter(run_many([one for one in programs if one is not None], limits=limits))
    return [None if program is None else next(results) for program in programs]


def _verdicts(
    task: Task, answers: Sequence[_Answer], ran: Sequence[ExecutionResult | None], passed: str
) -> list[tuple[Verdict, ...]]:
    """For each answer a verdict in each mode. Tests have no modes: they pass or they do not."""
    by_mode = [
        grade_many(
            (
                (_response(task, answer, result, mode), answer.problem.answer)
                for answer, result in zip(answers, ran, strict=True)
            ),
            mode=mode,
        )
        for mode in MODES
    ]
    found = list(zip(*by_mode, strict=True))
    for place, (answer, result) in enumerate(zip(answers, ran, strict=True)):
        if task.kind(answer.problem) == "tests":
            found[place] = (_tested(result, passed),) * len(MODES)
    return found


def _response(task: Task, answer: _Answer, result: ExecutionResult | None, mode: str) -> str:
    """What the grader reads."""
    if task.kind(answer.problem) == "tests":
        return ""
    if task.kind(answer.problem) == "program":
        return task.printed(answer.problem, result.stdout) if result and result.status == "ok" else ""
    read = task.published_response if mode == "deepseek" else task.response
    return read(answer.problem, answer.completion.text)


def _tested(result: ExecutionResult | None, passed: str) -> Verdict:
    ok = result is not None and result.status == "ok" and result.stdout.rstrip().endswith(passed)
    return Verdict(ok, "passed" if ok else "failed", "tests passed" if ok else "a test failed")


def _proved(isabelle: IsabelleClient | None, answer: _Answer) -> Verdict:
    found = check_proof(isabelle, answer.problem, answer.completion.text)
    return Verdict({"proved": True, "failed": False, "unchecked": None}[found], found, found)


def _votes(task: Task, answers: Sequence[_Answer], verdicts: Sequence[Verdict]) -> list[int | None]:
    """Numbers of equal answers, problem by problem; programs and proofs have none."""
    votes: list[int | None] = []
    pairs = zip(answers, verdicts, strict=True)
    for problem, of_problem in groupby(pairs, key=lambda pair: pair[0].problem):
        found = [verdict.extracted for _, verdict in of_problem]
        votes += [None] * len(found) if task.kind(problem) in ("tests", "proof") else cluster(found)
    return votes


def _row(
    task: Task,
    answer: _Answer,
    result: ExecutionResult | None,
    verdicts: Sequence[Verdict],
    vote: int | None,
) -> Sample:
    problem, completion = answer.problem, answer.completion
    needs_program = task.kind(problem) in ("program", "tests")
    return Sample(
        benchmark=task.benchmark,
        protocol=task.protocol,
        id=problem.id,
        subject=problem.subject,
        level=problem.level,
        language=problem.language,
        gold=problem.answer,
        sample=answer.sample,
        prompt=answer.prompt,
        response=completion.text or completion.error,
        finish=completion.finish_reason,
        tokens=len(completion.tokens),
        executed=result.status if result else NO_PROGRAM if needs_program else tool_status(completion.text),
        extracted=verdicts[0].extracted,
        correct={mode: verdict.correct for mode, verdict in zip(MODES, verdicts, strict=True)},
        reason=completion.error or verdicts[0].reason,
        vote=vote,
    )
