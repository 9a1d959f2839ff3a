"""Grades a response against a gold answer. grade.py has the modes, docs/grader.md the rules."""

from dsm_jax.evaluate.grader.grade import Verdict, extract, grade, grade_many, is_boxed
from dsm_jax.evaluate.grader.votes import answer_key, cluster

__all__ = ["Verdict", "answer_key", "cluster", "extract", "grade", "grade_many", "is_boxed"]
