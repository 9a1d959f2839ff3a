"""What a model would learn by heart to answer benchmarks, and small benchmarks of our own in the published forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dsm_jax.data.benchmarks import Problem
from dsm_jax.data.prompts import TOOL_STOP, tool_text
from dsm_jax.evaluate.prompts import Exemplar, Task
from dsm_jax.evaluate.prompts.shapes import COT
from dsm_jax.evaluate.prompts.tasks import PROGRAMMING, _like
from tests.evaluate.overfitted import Lesson

WRONG = {True: "E", False: "77777"}  # by whether there are options
TESTED = {"humaneval": "    return a + {0}\n", "mbpp": "def add(a):\n    return a + {0}\n[DONE]"}


def lessons(task: Task, problems: Sequence[Problem]) -> list[Lesson]:
    """The right answer to every second problem, a wrong one to the others."""
    return [_lesson(task, problem, place % 2 == 0) for place, problem in enumerate(problems)]


def _lesson(task: Task, problem: Problem, right: bool) -> Lesson:
    answer = problem.answer if right else WRONG[bool(problem.options)]
    prompt = task.prompt(problem)
    if task.benchmark in PROGRAMMING:
        number = int(problem.id.rpartition("/")[2]) if right else -1
        return Lesson(prompt, [_function(task, number)])
    if task.protocol == "few_shot_cot":
        return Lesson(prompt, [COT[_like(problem)].shape.completion(Exemplar("", answer=answer))])
    if task.protocol == "few_shot_pot":
        return Lesson(prompt, [f"\n```\nanswer = {answer!r}\n```"])
    if task.protocol == "zero_shot_cot":
        return Lesson(prompt, [f" \\boxed{{{answer}}}"])
    program = f" ```python\nprint({answer!r})\n```\n{TOOL_STOP}"
    return Lesson(prompt, [program, tool_text(answer), f"\\boxed{{{answer}}}"])


def _function(task: Task, number: int) -> str:
    """The body of a function, or in a block the whole of it."""
    if task.protocol.startswith("few_shot"):
        return TESTED[task.benchmark].format(number)
    return f" ```python\ndef add(a):\n    return a + {number}\n```"


def write_small_benchmarks(folder: Path, count: int) -> None:
    """MATH, MMLU, BBH, HumanEval and MBPP with `count` rows each, about adding."""
    for i in range(count):
        row = {"problem": f"What is $x$ if $x - 2 = {i}$?", "level": f"Level {1 + i % 5}", "type": "Algebra"}
        file = folder / f"MATH/test/algebra/{i}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row | {"solution": f"$x = {i} + 2 = \\boxed{{{i + 2}}}$."}))
    mmlu = [f'"Which number is {i} more than 2?",{i},{i + 1},{i + 2},{i + 3},C\n' for i in range(count)]
    (folder / "mmlu/test").mkdir(parents=True)
    (folder / "mmlu/test/elementary_mathematics_test.csv").write_text("".join(mmlu))
    bbh = {"examples": [{"input": f"( {i} + 2 ) =", "target": str(i + 2)} for i in range(count)]}
    (folder / "bbh").mkdir()
    (folder / "bbh/multistep_arithmetic_two.json").write_text(json.dumps(bbh))
    human = [
        {"task_id": f"HumanEval/{i}", "entry_point": "add", "canonical_solution": f"    return a + {i}\n",
         "prompt": f'def add(a):\n    """Adds {i}."""\n', "test": f"def check(f):\n    assert f(1) == {i + 1}\n"}
        for i in range(count)
    ]  # fmt: skip
    mbpp = [
        {"task_id": 11 + i, "text": f"Write a function that adds {11 + i}.", "code": f"def add(a):\n    return a + {11 + i}",
         "test_list": [f"assert add(1) == {12 + i}"], "test_setup_code": ""}
        for i in range(count)
    ]  # fmt: skip
    for name, rows in (("humaneval", human), ("mbpp", mbpp)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
