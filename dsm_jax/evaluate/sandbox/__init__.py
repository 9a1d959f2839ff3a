"""Runs Python programs that a model wrote, so that whatever they do stays in them. docs/sandbox.md."""

from dsm_jax.evaluate.sandbox.client import Sandbox, run_many, run_python
from dsm_jax.evaluate.sandbox.limits import Limits
from dsm_jax.evaluate.sandbox.probe import SandboxReport, probe
from dsm_jax.evaluate.sandbox.result import ExecutionResult

__all__ = ["ExecutionResult", "Limits", "Sandbox", "SandboxReport", "probe", "run_many", "run_python"]
