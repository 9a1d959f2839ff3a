"""From responses to numbers: the grader, scores with intervals, and report.html (imported from its own module)."""

from dsm_jax.evaluate.grader import Verdict, answer_key, extract, grade, is_boxed
from dsm_jax.evaluate.scores import Interval, majority_at_k, paired_difference, pass_at_k, share

__all__ = [
    "Interval",
    "Verdict",
    "answer_key",
    "extract",
    "grade",
    "is_boxed",
    "majority_at_k",
    "paired_difference",
    "pass_at_k",
    "share",
]
