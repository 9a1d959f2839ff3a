"""From responses to numbers: the grader, the sandbox, scores with intervals. Reports, prompts and benchmarks have modules of their own."""

from dsm_jax.evaluate.at_k import best_of_k, majority_at_k, pass_at_k, weighted_majority_at_k
from dsm_jax.evaluate.grader import Verdict, answer_key, cluster, extract, grade, grade_many, is_boxed
from dsm_jax.evaluate.sandbox import ExecutionResult, run_many, run_python
from dsm_jax.evaluate.scores import Interval, paired_difference, paired_test, share

__all__ = [
    "ExecutionResult",
    "Interval",
    "Verdict",
    "answer_key",
    "best_of_k",
    "cluster",
    "extract",
    "grade",
    "grade_many",
    "is_boxed",
    "majority_at_k",
    "paired_difference",
    "paired_test",
    "pass_at_k",
    "run_many",
    "run_python",
    "share",
    "weighted_majority_at_k",
]
