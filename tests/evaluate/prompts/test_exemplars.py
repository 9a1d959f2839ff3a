"""Every exemplar is right, in words and as a program, and none is a problem of a benchmark."""

import re
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from dsm_jax.data.benchmarks import Problem, read_benchmark, read_benchmarks
from dsm_jax.evaluate import grade
from dsm_jax.evaluate.prompts import program_with_tests, read_exemplars, task
from dsm_jax.evaluate.prompts.shapes import COT, POT

SETS = sorted(
    file.name.removesuffix(".toml") for file in files("dsm_jax.evaluate.prompts").joinpath("sets").iterdir()
)
COUNTS = {
    "arithmetic": 8, "math": 4, "choice": 4, "ocw": 4, "cmath": 6, "gaokao_cloze": 5, "gaokao_choice": 5, "mmlu": 5,
    "bbh": 7, "mbpp": 3,
}  # fmt: skip
TIMEOUT_S = 60
N_GRAM = 10


def problem_of(name, exemplar):
    extra = {"test": "\n".join(exemplar.tests)} if exemplar.tests else {}
    return Problem(name, "0", exemplar.question, exemplar.answer, options=exemplar.options, extra=extra)


def run(program):
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program], check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_sets_are_shipped_and_whole():
    assert {name: len(read_exemplars(name)) for name in SETS} == COUNTS
    assert "sets/*.toml" in (Path(__file__).parents[3] / "setup.py").read_text()


@pytest.mark.parametrize("name", [name for name in COT if name not in ("humaneval", "mbpp")])
def test_the_words_of_every_exemplar_end_in_its_answer(name):
    """Read as a model's completion that goes on with another question."""
    one, shape = task(name, "few_shot_cot"), COT[name].shape
    for exemplar in COT[name].exemplars:
        problem = problem_of(name, exemplar)
        completion = shape.completion(exemplar) + shape.stop[0] + " The answer is \\boxed{-77}."
        verdict = grade(one.response(problem, completion), exemplar.answer)
        assert verdict.correct, (exemplar.question, verdict)


@pytest.mark.parametrize("name", [name for name in POT if name not in ("humaneval", "mbpp")])
def test_the_program_of_every_exemplar_prints_its_answer(name):
    one, shape = task(name, "few_shot_pot"), POT[name].shape
    programs = {}
    for exemplar in POT[name].exemplars:
        program = one.program(shape.completion(exemplar) + shape.stop[0] + " and so on")
        assert program, exemplar.question
        programs[exemplar] = program
    apart = "\nprint('next')\n"
    printed = run(apart.join(programs.values())).split("next\n")
    for exemplar, stdout in zip(programs, printed, strict=True):
        verdict = grade(one.printed(problem_of(name, exemplar), stdout), exemplar.answer)
        assert verdict.correct, (exemplar.question, verdict)


def test_the_functions_of_mbpp_pass_their_tests():
    for exemplar in read_exemplars("mbpp"):
        completion = POT["mbpp"].shape.completion(exemplar)
        assert completion.endswith("\n[DONE]")
        assert run(program_with_tests(problem_of("mbpp", exemplar), completion, "well")) == "well\n"


@pytest.mark.parametrize("name", SETS)
def test_exemplars_differ_and_their_answers_are_not_all_alike(name):
    exemplars = read_exemplars(name)
    assert len({exemplar.question for exemplar in exemplars}) == len(exemplars)
    if exemplars[0].options:
        answers = [exemplar.answer for exemplar in exemplars]
        assert set(answers) == set("ABCD") and all(len(exemplar.options) == 4 for exemplar in exemplars)
        assert all(one != other for one, other in pairwise(answers))


def grams(text):
    tokens = re.findall(r"[\u4e00-\u9fff]|\w+", text.lower())
    return {tuple(tokens[i : i + N_GRAM]) for i in range(len(tokens) - N_GRAM + 1)}


def test_no_exemplar_shares_ten_tokens_with_a_benchmark(dsm_data):
    """Nor with GSM8K's training set."""
    [train] = (dsm_data / "gsm8k").glob("*train*")
    problems = read_benchmarks([dsm_data / "benchmarks", dsm_data / "gsm8k"]) + read_benchmark("gsm8k", train)
    names = {problem.benchmark for problem in problems}
    assert names >= {"gsm8k", "sat", "ocw", "mmlu_stem", "cmath", "mgsm_zh", "gaokao_mathcloze", "svamp"}
    taken = set().union(*(grams(problem.question) for problem in problems))
    assert len(taken) > 400_000
    exemplars = [exemplar for name in SETS for exemplar in read_exemplars(name)]
    assert not [exemplar.question for exemplar in exemplars if grams(exemplar.question) & taken]
