"""A benchmark in a protocol: its prompts, where the model stops, and how its answers are read.

Benchmarks without published prompts of their own are asked like another one (`_like`); which of all this is
published, and which is ours, stands in docs/evaluation.md. miniF2F, whose answers are proofs, is few_shot_cot only (formal.py). Left out on purpose: sampling, running, judging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from dsm_jax.data.benchmarks import BENCHMARKS, Problem
from dsm_jax.data.prompts import COT_INSTRUCTION, TOOL_INSTRUCTION, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.prompts import formal
from dsm_jax.evaluate.prompts.paper import PAPER
from dsm_jax.evaluate.prompts.programs import program_of
from dsm_jax.evaluate.prompts.reading import answer_text, choice_text, cut
from dsm_jax.evaluate.prompts.shapes import COT, POT, FewShot, chinese, plain, spaced

Protocol = Literal["few_shot_cot", "few_shot_pot", "zero_shot_cot", "tool"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Kind = Literal["answer", "choice", "program", "tests", "proof"]
GENERATOR = "generator"
PROGRAMMING, PROVING = ("humaneval", "mbpp"), ("minif2f", "minif2f_validation")
ASKED = {
    "humaneval": "Complete this Python function, and write the whole of it in one ```python block.\n"
    "```python\n{question}\n```",
    "mbpp": "{question}\nWrite it in Python, in one ```python block. It should pass these tests:\n"
    "```python\n{tests}\n```",
}  # of instruct models; ours
# Benchmarks that are asked like others, by language and by whether there are options.
_LIKE: Mapping[str, Mapping[tuple[str, bool], str]] = {
    "svamp": {("en", False): "gsm8k"},
    "multiarith": {("en", False): "gsm8k"},
    "mgsm_zh": {("zh", False): "cmath"},
    GENERATOR: {("en", False): "gsm8k", ("zh", False): "cmath"},
    "agieval": {
        ("en", False): "math",
        ("en", True): "mmlu",
        ("zh", False): "gaokao_mathcloze",
        ("zh", True): "gaokao_mathqa",
    },
}

_FEW_SHOT: Mapping[str, Mapping[str, FewShot]] = {"few_shot_cot": COT, "few_shot_pot": POT}


@dataclass(frozen=True)
class Task:
    """What puts a benchmark's problems to a model; made by `task`."""

    benchmark: str
    protocol: Protocol
    shots: int | None
    """Exemplars; None: all of the set."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Ends a completion, beside the end of sequence."""
        if self.benchmark in PROVING:
            return formal.STOP
        words = [word for few in _few_shots(self.benchmark, self.protocol) for word in few.shape.stop]
        return tuple(dict.fromkeys(words))

    @property
    def max_new_tokens(self) -> int:
        """Of a whole completion; the paper's limit is for each generation, of which tools allow several."""
        return PAPER.max_new_tokens * (PAPER.tool_generations if self.protocol == "tool" else 1)

    def kind(self, problem: Problem) -> Kind:
        """How the answer is judged.

        answer, choice: grade(task.response(problem, completion), problem.answer).
        program: run program_of(completion, task.stop), then grade(task.printed(problem, stdout), problem.answer).
        tests: run program_with_tests(problem, completion).
        proof: proofs.check_proof(client, problem, completion).
        """
        if self.benchmark in PROVING:
            return "proof"
        if self.benchmark in PROGRAMMING:
            return "tests"
        if self.protocol == "few_shot_pot":
            return "program"
        return "choice" if problem.options else "answer"

    def prompt(self, problem: Problem) -> str:
        """All of the text before the completion, without bos."""
        if self.benchmark in PROVING:
            return formal.formal_prompt(problem, self.shots)
        if self.protocol not in _FEW_SHOT:
            return prompt_text(self.instruction(problem))
        few_shot = _FEW_SHOT[self.protocol][_like(problem)]
        question = few_shot.asked(problem.question, problem.options)
        exemplars = few_shot.exemplars[: self.shots]
        return few_shot.shape.prompt(question, exemplars, problem.extra.get("test", ""))

    def response(self, problem: Problem, completion: str) -> str:
        """The completion for the grader's strict mode, its answer a letter where there are options."""
        text = answer_text(completion, self.stop)
        return choice_text(text, problem.options) if problem.options else text

    def published_response(self, problem: Problem, completion: str) -> str:
        """The same for mode deepseek, whose rules look for the final sentence themselves."""
        return self.response(problem, completion) if problem.options else cut(completion, self.stop)

    def program(self, completion: str) -> str | None:
        """program_of, up to this task's stop words."""
        return program_of(completion, self.stop)

    def printed(self, problem: Problem, stdout: str) -> str:
        """The last line of a program's output as a response for the grader."""
        last = stdout.strip()[-2000:].rpartition("\n")[2]
        text = f"The answer is {last}" if last else ""
        return choice_text(text, problem.options) if problem.options else text

    def instruction(self, problem: Problem) -> str:
        """What a finetuned model is asked, without a template around it; "" in few-shot protocols."""
        if self.protocol in _FEW_SHOT:
            return ""
        if self.benchmark in PROGRAMMING:
            question, tests = problem.question.strip("\n"), problem.extra["test"]
            return ASKED[self.benchmark].format(question=question, tests=tests)
        if self.benchmark == GENERATOR:
            return problem.question
        instruction = TOOL_INSTRUCTION if self.protocol == "tool" else COT_INSTRUCTION
        return _question(problem) + instruction[problem.language]


def task(benchmark: str, protocol: str, *, shots: int | None = None, own: bool = False) -> Task:
    """The benchmark in the protocol, with the published number of exemplars or fewer (where it has any).

    own: a benchmark of one's own, which is asked like AGIEval's problems of its language, with options or without.

    Raises UserError for a benchmark or a protocol that is not known, and for a number of exemplars that there is not.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol {protocol}: not known; known are {', '.join(PROTOCOLS)}")
    if benchmark in PROVING and protocol != "few_shot_cot":
        raise UserError(f"benchmark {benchmark}: its answers are proofs, which only few_shot_cot asks for")
    if not own and benchmark != GENERATOR and benchmark not in BENCHMARKS:
        raise UserError(f"benchmark {benchmark}: not known; known are {', '.join([*BENCHMARKS, GENERATOR])}")
    named = cast(Protocol, protocol)
    most = most_exemplars(benchmark, named)
    if shots is not None and (shots < 0 or (most and shots > most)):
        raise UserError(f"benchmark {benchmark}: {protocol} has 0 to {most} exemplars, not {shots}")
    return Task(benchmark, named, shots)


def most_exemplars(benchmark: str, protocol: Protocol) -> int:
    if benchmark in PROVING:
        return formal.MOST_SHOTS
    return max((len(few.exemplars) for few in _few_shots(benchmark, protocol)), default=0)


def protocols_of(benchmark: str) -> tuple[Protocol, ...]:
    """Those that the benchmark has."""
    return PROTOCOLS[:1] if benchmark in PROVING else PROTOCOLS


def _few_shots(benchmark: str, protocol: Protocol) -> list[FewShot]:
    """Of all its problems."""
    table = _FEW_SHOT.get(protocol, {})
    names = (benchmark,) if benchmark in table else _LIKE.get(benchmark, _LIKE["agieval"]).values()
    return [table[name] for name in names if name in table]


def _like(problem: Problem) -> str:
    """The benchmark like which this problem is asked."""
    if problem.benchmark in COT:
        return problem.benchmark
    return _LIKE.get(problem.benchmark, _LIKE["agieval"])[problem.language, bool(problem.options)]


def _question(problem: Problem) -> str:
    """With its options, for instruct models: in Chinese as for Gaokao-MathQA, in English as for SAT."""
    if not problem.options:
        return plain(problem.question)
    return (chinese if problem.language == "zh" else spaced)(problem.question, problem.options)
