"""Prompts against goldens typed from the published shapes; stops, limits, kinds; every benchmark in every protocol."""

from dataclasses import replace

import pytest

from dsm_jax.data.benchmarks import BENCHMARKS, Problem, read_benchmark
from dsm_jax.errors import UserError
from dsm_jax.evaluate import grade
from dsm_jax.evaluate.prompts import PAPER, PROTOCOLS, Paper, task

NAMES = [*(name for name in BENCHMARKS if not name.startswith("minif2f")), "generator"]
OPTIONS = ("3", "$4$", "5", "6")
PROBLEM = {
    "mmlu_stem": Problem("mmlu_stem", "0", "Which?", "B", options=OPTIONS),
    "sat": Problem("sat", "0", "Which?", "B", options=OPTIONS),
    "mmlu": Problem("mmlu", "0", "Which?", "B", options=OPTIONS),
    "cmath": Problem("cmath", "0", "几个？", "4", language="zh"),
    "mgsm_zh": Problem("mgsm_zh", "0", "几个？", "4", language="zh"),
    "gaokao_mathcloze": Problem("gaokao_mathcloze", "0", "求 $x$.", "4", language="zh"),
    "gaokao_mathqa": Problem("gaokao_mathqa", "0", "求 $x$\\\\", "B", options=OPTIONS, language="zh"),
    "agieval": Problem("agieval", "0", "求 $x$", "B", options=OPTIONS, language="zh"),
    "humaneval": Problem(
        "humaneval",
        "0",
        'import math\n\n\ndef double(x):\n    """Twice x."""\n',
        "",
        extra={
            "test": "def check(candidate):\n    assert candidate(2) == 4\n",
            "entry_point": "double",
        },
    ),
    "mbpp": Problem(
        "mbpp", "11", "Write a function.", "", extra={"test": "assert f(1) == 1\nassert f(2) == 2"}
    ),
}
PAL_LINE = "You are an expert programmer. Solve the above mathematical problem by writing a Python program. "
WHAT = "What of the following is the right choice? Explain your answer."


def problem_of(name):
    return PROBLEM.get(name, Problem(name, "0", "How many?", "4"))


# What a prompt with one exemplar is, in the words of its publishers.
ONE_SHOT = {
    ("gsm8k", "few_shot_cot"): (
        "Q: A bakery fills 6 trays with 14 rolls each. By noon 59 of the rolls are sold. How many rolls are left?\n"
        "A: 6 trays of 14 rolls are 6 * 14 = 84 rolls. After 59 are sold, 84 - 59 = 25 rolls are left. "
        "The answer is 25.\n\n\nQ: How many?\nA:"
    ),
    ("gsm8k", "few_shot_pot"): (
        "Q: A bakery fills 6 trays with 14 rolls each. By noon 59 of the rolls are sold. How many rolls are left?\n\n"
        "# solution in Python:\n\n\ndef solution():\n"
        '    """A bakery fills 6 trays with 14 rolls each. By noon 59 of the rolls are sold. How many rolls are left?"""\n'
        "    trays = 6\n    rolls_per_tray = 14\n    rolls_sold = 59\n"
        "    result = trays * rolls_per_tray - rolls_sold\n    return result\n\n\n\n\n\n"
        "Q: How many?\n\n# solution in Python:"
    ),
    ("math", "few_shot_cot"): (
        "Problem:\nFor how many integers $n$ is $n^2 - 11n + 24 < 0$?\n\nSolution:\n"
        "The quadratic factors as $n^2 - 11n + 24 = (n-3)(n-8)$.\n"
        "It is negative exactly between its roots, that is for $3 < n < 8$.\n"
        "The integers there are $4, 5, 6, 7$, so there are $\\boxed{4}$ of them.\n"
        "Final Answer: The final answer is $4$. I hope it is correct.\n\nProblem:\nHow many?\n\nSolution:"
    ),
    ("math", "few_shot_pot"): (
        f"Problem:\nFor how many integers $n$ is $n^2 - 11n + 24 < 0$?\n\n{PAL_LINE}"
        "Express your answer as a numeric type or a SymPy object.\n```\n"
        "# Count the integers between the roots; none is far from them\nanswer = 0\n"
        "for n in range(-100, 101):\n    if n**2 - 11*n + 24 < 0:\n        answer += 1\n```\n"
        "The imports required for this program are\n```\n\n```\nI hope my solution is correct.\n\n"
        f"Problem:\nHow many?\n\n{PAL_LINE}Express your answer as a numeric type or a SymPy object."
    ),
    ("sat", "few_shot_cot"): (
        f"Problem:\nWhat is the slope of the line $3x + 4y = 20$?\n{WHAT}\n"
        "(A) $\\frac{3}{4}$, (B) $-\\frac{4}{3}$, (C) $-\\frac{3}{4}$, (D) $5$\nSolution:\n"
        "Solving for $y$ gives $4y = -3x + 20$, so $y = -\\frac{3}{4}x + 5$. "
        "The slope is $\\boxed{-\\frac{3}{4}}$.\nFinal Answer: The final answer is (C). I hope it is correct.\n\n"
        f"Problem:\nWhich?\n{WHAT}\n(A) 3 (B) $4$ (C) 5 (D) 6\nSolution:"
    ),
    ("cmath", "few_shot_cot"): (
        "问题：小林有45张卡片，送给弟弟17张，小林还剩多少张卡片？\n"
        "答案：剩下的卡片数=原有的卡片数-送出的卡片数，45-17=28。所以答案是：28。\n\n\n问题：几个？\n答案："
    ),
    ("gaokao_mathcloze", "few_shot_cot"): (
        "问题 1.   一个等差数列的第 3 项为 7, 第 8 项为 22, 它的第 20 项为 $(\\quad)$.\n"
        "问题 1的解析:   公差 $d=\\frac{a_{8}-a_{3}}{8-3}=\\frac{15}{5}=3$,\n"
        "所以 $a_{20}=a_{8}+12 d=22+36=58$\n答案是 $58$\n\n\n问题 2.   求 $x$.\n问题 2的解析:"
    ),
    ("mbpp", "few_shot_cot"): (
        "You are an expert Python programmer, and here is your task: Write a function to count the words of a sentence "
        "that begin with a given letter, in upper or lower case. Your code should pass these tests:\n\n"
        'assert count_starting("Red roses and a rusty gate", "r") == 3\n'
        'assert count_starting("Nothing here", "z") == 0\nassert count_starting("", "a") == 0\n[BEGIN]\n'
        "def count_starting(sentence, letter):\n"
        "    return sum(word.lower().startswith(letter.lower()) for word in sentence.split())\n[DONE]\n\n"
        "You are an expert Python programmer, and here is your task: Write a function. "
        "Your code should pass these tests:\n\nassert f(1) == 1\nassert f(2) == 2\n[BEGIN]\n"
    ),
}
# How the others end, with all exemplars.
TAILS = {
    ("mmlu_stem", "few_shot_cot"): (
        f"The final answer is (D). I hope it is correct.\n\nProblem:\nWhich?\n{WHAT}\n"
        "(A) 3, (B) $4$, (C) 5, (D) 6\nSolution:"
    ),
    ("mmlu_stem", "few_shot_pot"): (
        f"(D) 6\n\n{PAL_LINE}Express your answer as the letter of the right choice."
    ),
    ("ocw", "few_shot_cot"): (
        "Final answer: The final answer is $(2, 5)$. I hope it is correct.\n\nProblem:\nHow many?\nSolution:"
    ),
    ("cmath", "few_shot_pot"): "    return result\n\n\n\n\n\n问题：几个？\n\n# 用Python解答：",
    ("mgsm_zh", "few_shot_cot"): "所以答案是：60。\n\n\n问题：几个？\n答案：",
    ("gaokao_mathqa", "few_shot_cot"): (
        "答案是 B\n\n\n问题 6.    求 $x$\n从以下选项中选择:    (A)3 (B)$4$ (C)5 (D)6\n问题 6的解析:"
    ),
    ("agieval", "few_shot_cot"): (
        "答案是 B\n\n\n问题 6.    求 $x$\n从以下选项中选择:    (A)3 (B)$4$ (C)5 (D)6\n问题 6的解析:"
    ),
    ("gaokao_mathcloze", "few_shot_pot"): "\n```\n\n\n问题 6.   求 $x$.\n问题 6的Python程序:",
    ("svamp", "few_shot_cot"): "The answer is 195.\n\n\nQ: How many?\nA:",
    ("multiarith", "few_shot_pot"): "    return result\n\n\n\n\n\nQ: How many?\n\n# solution in Python:",
    ("generator", "few_shot_cot"): "The answer is 195.\n\n\nQ: How many?\nA:",
    ("mmlu", "few_shot_cot"): (
        "12 * 8 = 96 m. The answer is (B).\n\nQ: Which?\n(A) 3 (B) $4$ (C) 5 (D) 6\nA: Let's think step by step."
    ),
    ("bbh", "few_shot_cot"): "So the answer is No.\n\nQ: How many?\nA: Let's think step by step.",
    ("bbh", "few_shot_pot"): "    return result\n\n\n\n\n\nQ: How many?\n\n# solution in Python:",
}
EN = "\nPlease reason step by step, and put your final answer within \\boxed{}."
EN_TOOL = (
    "\nPlease integrate natural language reasoning with programs to solve the problem above, "
    "and put your final answer within \\boxed{}."
)
ZERO_SHOT = {
    ("gsm8k", "zero_shot_cot"): f"User: How many?{EN}\n\nAssistant:",
    ("math", "tool"): f"User: How many?{EN_TOOL}\n\nAssistant:",
    ("sat", "zero_shot_cot"): f"User: Which?\n{WHAT}\n(A) 3 (B) $4$ (C) 5 (D) 6{EN}\n\nAssistant:",
    ("cmath", "zero_shot_cot"): (
        "User: 几个？\n请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。\n\nAssistant:"
    ),
    ("mgsm_zh", "tool"): (
        "User: 几个？\n请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\\boxed{}中。\n\nAssistant:"
    ),
    ("gaokao_mathqa", "zero_shot_cot"): (
        "User: 求 $x$\n从以下选项中选择:    (A)3 (B)$4$ (C)5 (D)6\n"
        "请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。\n\nAssistant:"
    ),
    ("humaneval", "few_shot_pot"): 'import math\n\n\ndef double(x):\n    """Twice x."""\n',
    ("humaneval", "zero_shot_cot"): (
        "User: Complete this Python function, and write the whole of it in one ```python block.\n```python\n"
        'import math\n\n\ndef double(x):\n    """Twice x."""\n```\n\nAssistant:'
    ),
    ("mbpp", "tool"): (
        "User: Write a function.\nWrite it in Python, in one ```python block. It should pass these tests:\n"
        "```python\nassert f(1) == 1\nassert f(2) == 2\n```\n\nAssistant:"
    ),
    ("generator", "zero_shot_cot"): "User: How many?\n\nAssistant:",
    ("generator", "tool"): "User: How many?\n\nAssistant:",
}


@pytest.mark.parametrize("name, protocol", ONE_SHOT)
def test_a_prompt_with_one_exemplar_is_exactly_the_published_shape(name, protocol):
    assert task(name, protocol, shots=1).prompt(problem_of(name)) == ONE_SHOT[name, protocol]


@pytest.mark.parametrize("name, protocol", TAILS)
def test_the_problem_comes_behind_all_exemplars(name, protocol):
    assert task(name, protocol).prompt(problem_of(name)).endswith(TAILS[name, protocol])


@pytest.mark.parametrize("name, protocol", ZERO_SHOT)
def test_prompts_without_exemplars(name, protocol):
    assert task(name, protocol).prompt(problem_of(name)) == ZERO_SHOT[name, protocol]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_benchmark_in_every_protocol(name, protocol):
    """The question stands once behind the exemplars, no field of a template is left, nothing of it stops the prompt."""
    one, problem = task(name, protocol), problem_of(name)
    prompt = one.prompt(problem)
    assert prompt.count(problem.question.rstrip("\\").strip("\n")) == 1
    assert not any(
        field in prompt for field in ("{question}", "{number}", "{solution}", "{program}", "{tests}")
    )
    programming = name in ("humaneval", "mbpp")
    few_shot = protocol.startswith("few_shot")
    wanted = "tests" if programming else "program" if protocol == "few_shot_pot" else None
    assert one.kind(problem) == (wanted or ("choice" if problem.options else "answer"))
    assert bool(one.stop) == few_shot
    assert one.max_new_tokens == (2048 if protocol == "tool" else 1024)
    assert one.prompt(problem) == prompt and isinstance(one.response(problem, prompt), str)


PUBLISHED = {  # benchmark -> exemplars, where a model stops (the repository deepseek-ai/DeepSeek-Math)
    ("gsm8k", "few_shot_cot"): (8, ("\nQ:",)),
    ("gsm8k", "few_shot_pot"): (8, ("\nQ:", "Q: ")),
    ("math", "few_shot_cot"): (4, ("\nProblem:",)),
    ("math", "few_shot_pot"): (4, ("\nProblem:", "Problem:")),
    ("sat", "few_shot_cot"): (4, ("\nProblem:",)),
    ("mmlu_stem", "few_shot_cot"): (4, ("\nProblem:",)),
    ("ocw", "few_shot_cot"): (4, ("\nProblem:",)),
    ("cmath", "few_shot_cot"): (6, ("\n问题：",)),
    ("gaokao_mathcloze", "few_shot_cot"): (5, ("\n问题 ",)),
    ("gaokao_mathqa", "few_shot_cot"): (5, ("\n问题 ",)),
    ("mbpp", "few_shot_pot"): (3, ("[DONE]",)),
    ("humaneval", "few_shot_pot"): (0, ("\nclass", "\ndef", "\n#", "\nif", "\nprint")),
}


@pytest.mark.parametrize("name, protocol", PUBLISHED)
def test_published_numbers_of_exemplars_and_stops(name, protocol):
    shots, stop = PUBLISHED[name, protocol]
    one, problem = task(name, protocol), problem_of(name)
    assert one.stop == stop
    assert one.prompt(problem) == task(name, protocol, shots=shots).prompt(problem)
    if shots:
        with pytest.raises(UserError, match=f"has 0 to {shots} exemplars, not {shots + 1}"):
            task(name, protocol, shots=shots + 1)
        assert task(name, protocol, shots=shots - 1).prompt(problem) != one.prompt(problem)


def test_the_paper_preset():
    assert PAPER == Paper(
        temperature=0.0,
        top_p=1.0,
        max_new_tokens=1024,
        tool_generations=2,
        output_characters=50,
        error_tokens=50,
        program_s=10.0,
    )
    assert PAPER.executions == 1


def test_sat_and_mmlu_stem_have_the_same_exemplars():
    sat, stem = (
        task(name, "few_shot_cot").prompt(problem_of(name)).partition("Problem:\nWhich?")[0]
        for name in ("sat", "mmlu_stem")
    )
    assert sat == stem and sat.count("Problem:") == 4


@pytest.mark.parametrize("protocol", ["few_shot_cot", "few_shot_pot"])
def test_mixed_benchmarks_ask_each_problem_in_its_language(protocol):
    agieval, generator = task("agieval", protocol), task("generator", protocol)
    for name in ("math", "gaokao_mathcloze", "gaokao_mathqa", "mmlu"):
        problem = problem_of(name)
        prompt = agieval.prompt(replace(problem, benchmark="agieval"))
        assert prompt == task(name, protocol).prompt(problem)
        assert set(task(name, protocol).stop) <= set(agieval.stop)
    for name in ("gsm8k", "cmath"):
        problem = problem_of(name)
        assert generator.prompt(replace(problem, benchmark="generator")) == task(name, protocol).prompt(
            problem
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("minif2f", "tool"), "benchmark minif2f: its answers are proofs"),
        (("gsm9k", "tool"), "benchmark gsm9k: not known; known are gsm8k, math"),
        (("gsm8k", "one_shot"), "protocol one_shot: not known; known are few_shot_cot"),
    ],
)
def test_what_cannot_be_asked_ends_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        task(*arguments)
    assert "\n" not in str(caught.value)
    assert task("math", "tool", shots=1).prompt(problem_of("math")) == task("math", "tool").prompt(
        problem_of("math")
    )
    with pytest.raises(UserError, match="not -1"):
        task("math", "few_shot_cot", shots=-1)


@pytest.mark.parametrize(
    "name, protocol, completion, correct",
    [
        ("gsm8k", "few_shot_cot", " 2 + 2 = 4. The answer is 4.\n\n\nQ: More?\nA: The answer is 9.", True),
        ("gsm8k", "few_shot_cot", " So 5. The answer is 5.\n\n\nQ: More?\nA: The answer is 4.", False),
        (
            "math",
            "few_shot_cot",
            "\nSo $\\boxed{2+2}$.\nFinal Answer: The final answer is $4$. I hope it is correct.",
            True,
        ),
        (
            "sat",
            "few_shot_cot",
            "\nIt is $\\boxed{4}$.\nFinal Answer: The final answer is (B). I hope it is correct.",
            True,
        ),
        ("sat", "few_shot_cot", "\nFinal Answer: The final answer is (C). I hope it is correct.", False),
        ("sat", "zero_shot_cot", "So \\boxed{\\text{(B)}}.", True),
        ("sat", "zero_shot_cot", "So \\boxed{4}.", True),
        ("sat", "zero_shot_cot", "So \\boxed{5}.", False),
        ("sat", "zero_shot_cot", "So \\boxed{E}.", False),
        ("sat", "zero_shot_cot", "(B) it is, I guess", False),
        ("mmlu", "few_shot_cot", " It is 4. The answer is (B).\n\nQ:", True),
        ("gaokao_mathqa", "few_shot_cot", "   因为 2+2=4。\n答案是 (B) 4\n\n\n问题 7.", True),
        ("cmath", "few_shot_cot", "2+2=4。所以答案是：4。\n\n\n问题：几个？答案是：5。", True),
        ("gaokao_mathcloze", "few_shot_cot", "   $x=4$\n答案是 $4$", True),
        ("bbh", "few_shot_cot", "\n2 and 2. So the answer is 4.", True),
        ("math", "tool", "```python\nprint(4)\n```\n```output\n4\n```\nIt is $\\boxed{4}$.", True),
        ("math", "tool", "", False),
    ],
)
def test_responses_are_read_as_the_prompt_shows_them(name, protocol, completion, correct):
    problem = problem_of(name)
    assert grade(task(name, protocol).response(problem, completion), problem.answer).correct is correct


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name, count", [("sat", 32), ("gaokao_mathqa", 351), ("mmlu_stem", 3018)])
def test_published_options_are_found_again_by_their_letters_and_texts(dsm_data, name, count, protocol):
    """Each right letter, in a box, is right, and so is the text of an option that no other option equals."""
    folder = dsm_data / "benchmarks"
    stem = name if name.startswith("gaokao") else f"{name}_test"
    problems = read_benchmark(name, folder / f"{stem}.jsonl.gz")
    assert len(problems) == count
    one = task(name, protocol)
    for problem in problems[:100]:
        assert problem.question.rstrip("\\").strip()[:200] in one.prompt(problem)
        response = one.response(problem, f"\\boxed{{{problem.answer}}}")
        assert grade(response, problem.answer).correct
