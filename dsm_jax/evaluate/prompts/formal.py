"""miniF2F from informal to formal: a problem, its informal proof, the statement in Isabelle; the model writes the proof.

The shape is that of the repository deepseek-ai/DeepSeek-Math, evaluation/few_shot_prompts (after Jiang et al., 2023), as is
the choice between two sets of exemplars. The exemplars are our own: sketches whose steps are left to `sledgehammer`.
Left out on purpose: what becomes of a proof (dsm_jax.evaluate.proofs).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from dsm_jax.data.benchmarks import Problem
from dsm_jax.errors import UserError

STOP = ("\nInformal:",)
GAP = "\n\n\n\n"  # between exemplars
MOST_SHOTS = 3  # exemplars of each set


@dataclass(frozen=True)
class FormalExemplar:
    """A problem with its informal proof, the formal statement, and a sketch of its proof."""

    question: str
    solution: str
    statement: str
    proof: str


def formal_prompt(problem: Problem, shots: int | None = None) -> str:
    """All of the text before the proof, which begins on a line of its own. shots: exemplars; None: all of the set.

    Raises UserError where the problem has no formal statement.
    """
    statement = problem.extra.get("formal_statement", "").strip()
    if not statement:
        raise UserError(
            f"{problem.benchmark} {problem.id}: no formal_statement, and a formal proof is asked for"
        )
    name = "numbertheory" if "numbertheory" in statement else "other"
    exemplars = read_formal_exemplars(name)[:shots]
    worked = [f"{_asked(one.question, one.solution, one.statement)}\n{one.proof}" for one in exemplars]
    return GAP.join([*worked, _asked(problem.question, problem.solution, statement)])


def _asked(question: str, solution: str, statement: str) -> str:
    return (
        f"Informal:\n(*### Problem\n\n{question.strip()}\n\n### Solution\n\n{solution.strip()}*)\n\n"
        f"Formal:\n{statement}"
    )


@cache
def read_formal_exemplars(name: str) -> tuple[FormalExemplar, ...]:
    """The set of that name, in the order of its file."""
    text = (files("dsm_jax.evaluate.prompts") / "sketches" / f"{name}.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["exemplars"]
    return tuple(FormalExemplar(**{key: value.strip("\n") for key, value in row.items()}) for row in rows)
