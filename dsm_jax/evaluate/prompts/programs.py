"""Programs in completions: of program-of-thought, which print an answer, and of HumanEval and MBPP, which are tested.

Programs are put together here, and run elsewhere (dsm_jax.evaluate.sandbox).
Left out on purpose: tool-integrated transcripts (tool.py); any look at what a program does.
"""

import inspect
import re
from collections.abc import Iterable, Sequence

from dsm_jax.data.benchmarks import Problem
from dsm_jax.evaluate.prompts.plain_values import returning_plain_values
from dsm_jax.evaluate.prompts.reading import cut
from dsm_jax.evaluate.prompts.shapes import HUMANEVAL, MBPP
from dsm_jax.evaluate.prompts.written import written

FENCE = "```"
_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t]*$", re.MULTILINE)
PASSED = "every test has passed"
_SOLUTION = re.compile(r"^def solution\(\s*\)", re.MULTILINE)
_ANSWER = re.compile(r"^[ \t]*answer[ \t]*=(?!=)", re.MULTILINE)
_IMPORTS = re.compile(r"\s*(?:import|from)\b")
_WRITTEN, _GUARD = inspect.getsource(written), inspect.getsource(returning_plain_values)
_GUARD = f"from collections.abc import Callable\nfrom typing import Any\n\n\n{_GUARD}"
# MBPP's tests call functions by their names; the functions themselves call each other as they are.
_GUARD_ALL = """_guarded = {
    name: returning_plain_values(value) if type(value).__name__ == "function" else value
    for name, value in list(globals().items())
}
"""


def program_of(completion: str, stop: Iterable[str] = ()) -> str | None:
    """The completion's program, which prints its answer as its last line; None where there is none.

    That is `solution()` (PAL), a first fenced block that assigns `answer` with the imports of a second one (MATH's
    shape), or a program that prints by itself; a fence that never closes ends with the text.
    """
    text = cut(completion, stop)
    parts = blocks(text)
    program = _with_imports(parts) if parts else text.strip("\n")
    if _SOLUTION.search(program):
        return f"{program}\n\n\n{_WRITTEN}\n\nprint(written(solution()))\n"
    if _ANSWER.search(program):
        return f"{program}\n\n\n{_WRITTEN}\n\nprint(written(answer))\n"
    return f"{program}\n" if "print(" in program else None


def blocks(text: str) -> list[str]:
    """What stands in the fenced blocks, a fence being a line of its own; a last one may be open. Empty ones count.

    A lone fence without a language behind other text closes a block that the prompt began: what is before it.
    """
    fences = list(_FENCE.finditer(text))
    if len(fences) % 2 and not fences[0][1] and text[: fences[0].start()].strip():
        return [text[: fences[0].start()].strip("\n")]
    edges = [*(fence.span() for fence in fences), (len(text), len(text))]
    return [
        text[begin[1] : end[0]].strip("\n") for begin, end in zip(edges[:-1:2], edges[1::2], strict=False)
    ]


def program_with_tests(problem: Problem, completion: str, passed: str = PASSED) -> str:
    """The completion's function and its tests. It prints `passed` last, and only where every test passes.

    A program that ends early, by os._exit(0) say, does not. `passed` stands in the program: one that looks for it there, and
    for the sandbox's own sign of the end, can pretend; no test within one process is proof against that.
    """
    code = _humaneval(problem, completion) if "entry_point" in problem.extra else _mbpp(problem, completion)
    return f"{code}\nprint({passed!r})\n"


def _humaneval(problem: Problem, completion: str) -> str:
    """A whole function in a fenced block, else the prompt's function carried on up to the published stops."""
    name = problem.extra["entry_point"]
    define = f"def {name}("
    if parts := blocks(completion):
        block = _chosen(parts, define)
        before = problem.question.rpartition(define)[0] if define in block else problem.question
        code = before + block
    else:
        code = problem.question + cut(completion, HUMANEVAL.stop)
    return f"{code}\n\n\n{_GUARD}\n\n{problem.extra['test']}\ncheck(returning_plain_values({name}))"


def _mbpp(problem: Problem, completion: str) -> str:
    text = cut(completion.removeprefix("[BEGIN]"), MBPP.stop)
    parts = blocks(text)
    code = _chosen(parts, "def ") if parts else text
    guarded = f"\n\n{_GUARD}\n\n{_GUARD_ALL}exec({problem.extra['test']!r}, _guarded)"
    return "\n".join(part for part in (problem.extra.get("setup", ""), code, guarded) if part)


def _with_imports(parts: Sequence[str]) -> str:
    """The first block, behind the second one where that holds nothing but imports."""
    if len(parts) > 1 and all(_IMPORTS.match(line) for line in parts[1].splitlines() if line.strip()):
        return f"{parts[1]}\n{parts[0]}".strip("\n")
    return parts[0]


def _chosen(parts: Sequence[str], wanted: str) -> str:
    """The last block with the wanted text, else the last one."""
    return next((part for part in reversed(parts) if wanted in part), parts[-1])
