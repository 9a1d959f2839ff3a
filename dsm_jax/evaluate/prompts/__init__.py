"""How a benchmark's problem is put to a model, and how its completion is read. Pure text: nothing is run here."""

from dsm_jax.evaluate.prompts.exemplars import Exemplar, read_exemplars
from dsm_jax.evaluate.prompts.paper import PAPER, Paper
from dsm_jax.evaluate.prompts.programs import program_of, program_with_tests
from dsm_jax.evaluate.prompts.reading import answer_text, choose, cut
from dsm_jax.evaluate.prompts.tasks import PROTOCOLS, Kind, Task, protocols_of, task
from dsm_jax.evaluate.prompts.tool import tool_output, tool_program, tool_status

__all__ = [
    "PAPER",
    "PROTOCOLS",
    "Exemplar",
    "Kind",
    "Paper",
    "Task",
    "answer_text",
    "choose",
    "cut",
    "program_of",
    "program_with_tests",
    "protocols_of",
    "read_exemplars",
    "task",
    "tool_output",
    "tool_program",
    "tool_status",
]
