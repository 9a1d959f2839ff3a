"""The shapes of few-shot prompts: how a worked example is written, a question behind them, and where a model stops.

Shapes marked (released) are those of the repository deepseek-ai/DeepSeek-Math, evaluation/few_shot_prompts; others name
their source, or are ours. A shape and a set of exemplars (exemplars.py) make a prompt.
Left out on purpose: templates of chat models (data/prompts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsm_jax.data.benchmark_rows import LETTERS
from dsm_jax.evaluate.prompts.exemplars import Exemplar, read_exemplars

# Between a question and its options, SAT and MMLU-STEM (released; "What of" is theirs).
CHOICE_SUFFIX = "What of the following is the right choice? Explain your answer."
CHINESE_CHOICE = "从以下选项中选择:    "  # Gaokao-MathQA (released)

# How a question with options is written: (question, options) -> text.
Asked = Callable[[str, Sequence[str]], str]


def plain(question: str, options: Sequence[str] = ()) -> str:
    return question.strip()


def raw(question: str, options: Sequence[str] = ()) -> str:
    return question


def spaced(question: str, options: Sequence[str]) -> str:
    """SAT (released)."""
    return f"{question.strip()}\n{CHOICE_SUFFIX}\n{' '.join(lettered(options))}"


def listed(question: str, options: Sequence[str]) -> str:
    """MMLU-STEM, and the exemplars of SAT (released)."""
    return f"{question.strip()}\n{CHOICE_SUFFIX}\n{', '.join(lettered(options))}"


def flan(question: str, options: Sequence[str]) -> str:
    """MMLU with chain of thought as in Flan (Chung et al., 2022)."""
    return f"{question.strip()}\n{' '.join(lettered(options))}"


def chinese(question: str, options: Sequence[str]) -> str:
    """Gaokao-MathQA (released)."""
    written = " ".join(f"({letter}){option}" for letter, option in zip(LETTERS, options, strict=False))
    stripped = question.strip().rstrip("\\").rstrip()
    return f"{stripped}\n{CHINESE_CHOICE}{written}"


def lettered(options: Sequence[str]) -> list[str]:
    return [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]


@dataclass(frozen=True)
class Shape:
    """Templates with the fields of an exemplar; {question} has its options, {number} counts from 1."""

    query: str
    """Of the problem, up to the model's part; exemplars begin with it too."""
    answer: str
    """Of an exemplar, behind the query."""
    stop: tuple[str, ...]
    gap: str = "\n\n"
    """Between exemplars."""
    asked: Asked = plain
    """For exemplars."""

    def prompt(self, question: str, exemplars: Sequence[Exemplar], tests: str = "") -> str:
        """The exemplars and the question, which has its options already."""
        parts = [self._worked(number, one) for number, one in enumerate(exemplars, start=1)]
        query = self.query.format(question=question, number=len(parts) + 1, tests=tests)
        return self.gap.join([*parts, query])

    def _worked(self, number: int, exemplar: Exemplar) -> str:
        question = self.asked(exemplar.question, exemplar.options)
        query = self.query.format(question=question, number=number, tests="\n".join(exemplar.tests))
        return query + self.completion(exemplar)

    def completion(self, exemplar: Exemplar) -> str:
        """What a model that answers like the exemplar would write."""
        return self.answer.format(
            solution=exemplar.solution,
            answer=exemplar.answer,
            program=exemplar.program,
            imports=exemplar.imports,
            script=exemplar.script,
            function=exemplar.function,
        )


@dataclass(frozen=True)
class FewShot:
    """A shape with its set of exemplars; asked: how the problem's own question and options are written."""

    shape: Shape
    set: str
    asked: Asked = plain

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        return read_exemplars(self.set) if self.set else ()


PAL_MATH = "You are an expert programmer. Solve the above mathematical problem by writing a Python program. "
PAL_MATH_ANSWER = (
    "\n```\n{program}\n```\nThe imports required for this program are\n```\n{imports}\n```\n"
    "I hope my solution is correct."
)
QA = Shape(
    "Q: {question}\nA:", " {solution} The answer is {answer}.", ("\nQ:",), gap="\n\n\n"
)  # GSM8K (released)
PAL = Shape(
    "Q: {question}\n\n# solution in Python:", "\n\n\n{function}", ("\nQ:", "Q: "), gap="\n\n\n\n\n\n"
)  # GSM8K (released)
MATH = Shape(
    "Problem:\n{question}\n\nSolution:",
    "\n{solution}\nFinal Answer: The final answer is ${answer}$. I hope it is correct.",
    ("\nProblem:",),
)  # (released; Lewkowycz et al., 2022)
MATH_PROGRAM = Shape(
    "Problem:\n{question}\n\n" + PAL_MATH + "Express your answer as a numeric type or a SymPy object.",
    PAL_MATH_ANSWER,
    ("\nProblem:", "Problem:"),
)  # (released)
CHOICE = Shape(
    "Problem:\n{question}\nSolution:",
    "\n{solution}\nFinal Answer: The final answer is ({answer}). I hope it is correct.",
    ("\nProblem:",),
    asked=listed,
)  # SAT, MMLU-STEM (released)
CHOICE_PROGRAM = Shape(
    "Problem:\n{question}\n\n" + PAL_MATH + "Express your answer as the letter of the right choice.",
    PAL_MATH_ANSWER,
    ("\nProblem:", "Problem:"),
    asked=listed,
)  # ours, after MATH's
OCW = Shape(
    "Problem:\n{question}\nSolution:",
    "\n{solution}\nFinal answer: The final answer is ${answer}$. I hope it is correct.",
    ("\nProblem:",),
)  # (released; Lewkowycz et al., 2022)
CHINESE_QA = Shape(
    "问题：{question}\n答案：", "{solution}所以答案是：{answer}。", ("\n问题：",), gap="\n\n\n"
)  # CMATH (released)
CHINESE_PAL = Shape(
    "问题：{question}\n\n# 用Python解答：", "\n\n\n{function}", ("\n问题：",), gap="\n\n\n\n\n\n"
)  # ours, after GSM8K's
CLOZE = Shape(
    "问题 {number}.   {question}\n问题 {number}的解析:",
    "   {solution}\n答案是 ${answer}$",
    ("\n问题 ",),
    gap="\n\n\n",
)  # Gaokao-MathCloze (released)
CHINESE_CHOICES = Shape(
    "问题 {number}.    {question}\n问题 {number}的解析:",
    "   {solution}\n答案是 {answer}",
    ("\n问题 ",),
    gap="\n\n\n",
    asked=chinese,
)  # Gaokao-MathQA (released)
CLOZE_PROGRAM = Shape(
    "问题 {number}.   {question}\n问题 {number}的Python程序:",
    "\n```\n{script}\n```",
    ("\n问题 ",),
    gap="\n\n\n",
)  # ours
CHINESE_CHOICES_PROGRAM = Shape(
    "问题 {number}.    {question}\n问题 {number}的Python程序, answer 为选项的字母:",
    "\n```\n{script}\n```",
    ("\n问题 ",),
    gap="\n\n\n",
    asked=chinese,
)  # ours
KNOWLEDGE = Shape(
    "Q: {question}\nA: Let's think step by step.",
    " {solution} The answer is ({answer}).",
    ("\nQ:",),
    asked=flan,
)  # MMLU (Chung et al., 2022)
STEP_BY_STEP = Shape(
    "Q: {question}\nA: Let's think step by step.", "\n{solution} So the answer is {answer}.", ("\nQ:",)
)  # BBH (Suzgun et al., 2022)
MBPP = Shape(
    "You are an expert Python programmer, and here is your task: {question} "
    "Your code should pass these tests:\n\n{tests}\n[BEGIN]\n",
    "{script}\n[DONE]",
    ("[DONE]",),
)  # (Austin et al., 2021)
HUMANEVAL = Shape("{question}", "", ("\nclass", "\ndef", "\n#", "\nif", "\nprint"))  # (Chen et al., 2021)

COT = {
    "gsm8k": FewShot(QA, "arithmetic"),
    "math": FewShot(MATH, "math"),
    "sat": FewShot(CHOICE, "choice", spaced),
    "ocw": FewShot(OCW, "ocw"),
    "mmlu_stem": FewShot(CHOICE, "choice", listed),
    "cmath": FewShot(CHINESE_QA, "cmath"),
    "gaokao_mathcloze": FewShot(CLOZE, "gaokao_cloze"),
    "gaokao_mathqa": FewShot(CHINESE_CHOICES, "gaokao_choice", chinese),
    "mmlu": FewShot(KNOWLEDGE, "mmlu", flan),
    "bbh": FewShot(STEP_BY_STEP, "bbh"),
    "humaneval": FewShot(HUMANEVAL, "", raw),
    "mbpp": FewShot(MBPP, "mbpp"),
}
POT = {
    "gsm8k": FewShot(PAL, "arithmetic"),
    "math": FewShot(MATH_PROGRAM, "math"),
    "sat": FewShot(CHOICE_PROGRAM, "choice", spaced),
    "ocw": FewShot(MATH_PROGRAM, "ocw"),
    "mmlu_stem": FewShot(CHOICE_PROGRAM, "choice", listed),
    "cmath": FewShot(CHINESE_PAL, "cmath"),
    "gaokao_mathcloze": FewShot(CLOZE_PROGRAM, "gaokao_cloze"),
    "gaokao_mathqa": FewShot(CHINESE_CHOICES_PROGRAM, "gaokao_choice", chinese),
    "mmlu": FewShot(CHOICE_PROGRAM, "choice", listed),
    "bbh": FewShot(PAL, "bbh"),
    "humaneval": FewShot(HUMANEVAL, "", raw),
    "mbpp": FewShot(MBPP, "mbpp"),
}
