"""Prompts from informal to formal: the released shape, and the set by the statement."""

import re

import pytest

from dsm_jax.data.benchmarks import Problem, read_benchmarks
from dsm_jax.errors import UserError
from dsm_jax.evaluate.prompts.formal import STOP, formal_prompt, read_formal_exemplars


def problem(name: str) -> Problem:
    statement = f'theorem {name}:\n  "1 + 1 = (2::nat)"'
    return Problem(
        "minif2f", "0", " What is $1+1$? ", "", "It is 2.\n", extra={"formal_statement": statement}
    )


def test_the_shape_is_the_released_one():
    assert formal_prompt(problem("algebra_1"), shots=0) == (
        "Informal:\n(*### Problem\n\nWhat is $1+1$?\n\n### Solution\n\nIt is 2.*)\n\n"
        'Formal:\ntheorem algebra_1:\n  "1 + 1 = (2::nat)"'
    )


@pytest.mark.parametrize(
    ("name", "set"),
    [("mathd_numbertheory_1", "numbertheory"), ("mathd_algebra_1", "other"), ("numbertheory_x", "numbertheory")],
)  # fmt: skip
def test_the_set_goes_by_the_statement(name, set):
    exemplars = read_formal_exemplars(set)
    prompt = formal_prompt(problem(name))
    parts = prompt.split("\n\n\n\n")
    assert len(parts) == len(exemplars) + 1 and prompt.endswith(parts[-1])
    for part, exemplar in zip(parts, exemplars, strict=False):
        assert part.endswith(f"{exemplar.statement}\n{exemplar.proof}")
        assert part.startswith(f"Informal:\n(*### Problem\n\n{exemplar.question}\n\n### Solution\n\n")
    assert prompt.count(STOP[0]) == len(exemplars)
    assert formal_prompt(problem(name), shots=1).count("Informal:") == 2


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 10]) for at in range(len(words) - 9)}


def test_our_exemplars_stand_in_no_benchmark(dsm_data):
    """Neither their statement nor ten words of their question."""
    known = read_benchmarks([dsm_data / "benchmarks", dsm_data / "gsm8k"])
    taken = set().union(*(grams(one.question) for one in known))
    statements = {"".join(one.extra.get("formal_statement", "").partition(":")[2].split()) for one in known}
    assert len(taken) > 100_000 and len(statements) > 400
    for exemplar in (*read_formal_exemplars("numbertheory"), *read_formal_exemplars("other")):
        assert not grams(exemplar.question) & taken
        assert "".join(exemplar.statement.partition(":")[2].split()) not in statements


def test_a_problem_without_a_statement_is_one_line():
    with pytest.raises(UserError, match="gsm8k 7: no formal_statement"):
        formal_prompt(Problem("gsm8k", "7", "?", "1"))
