"""The sampler's tool that runs a transcript's Python in the sandbox: tool-integrated reasoning.

Left out on purpose: how a transcript is read and shown its output (prompts/tool.py); the sampler's side (sample/tools.py).
"""

from dsm_jax.data.prompts import TOOL_STOP, tool_text
from dsm_jax.evaluate.prompts import PAPER, tool_output, tool_program
from dsm_jax.evaluate.sandbox import ExecutionResult, run_python
from dsm_jax.sample.request import Tool
from dsm_jax.tokenizer import Tokenizer

# Seconds that a completion may wait for a free server and its program; the sandbox ends programs itself.
WAIT_S = 24 * 3600.0


def require_sandbox() -> None:
    """UserError, before any model is read, where this machine cannot isolate programs."""
    run_python("")


def python_tool(tokenizer: Tokenizer, executions: int = PAPER.executions) -> Tool:
    """Runs the ```python blocks so far. executions: of one completion; where it asks once more, it ends."""

    def call(text: str) -> str:
        result = run_python(tool_program(text), timeout_s=PAPER.program_s)
        return tool_text(tool_output(result.stdout, _error(result), tokenizer))

    return Tool(call, TOOL_STOP, max_rounds=executions, timeout_s=WAIT_S)


def _error(result: ExecutionResult) -> str:
    """What the model is told of a program that failed; "" of one that did not."""
    if result.status == "ok":
        return ""
    return (
        "Timeout Error"
        if result.status == "timeout"
        else result.stderr or f"the program ended: {result.status}"
    )
