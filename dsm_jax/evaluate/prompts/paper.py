"""The numbers of the published protocol, in one place.

Left out on purpose: the stop words, which belong to a prompt's shape (shapes.py); scores.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """How DeepSeekMath was sampled. Source: the repository deepseek-ai/DeepSeek-Math, evaluation/infer."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 1024  # of one generation
    tool_generations: int = 2  # so one program's output is seen
    output_characters: int = 50  # kept at each end of a program's output that is longer than both
    error_tokens: int = 50  # kept at each end of a traceback that is longer than both
    program_s: float = 10.0  # a program's time limit

    @property
    def executions(self) -> int:
        """Programs whose output the model still answers to."""
        return self.tool_generations - 1


PAPER = Paper()
