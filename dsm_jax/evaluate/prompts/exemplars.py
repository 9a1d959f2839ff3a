"""The worked examples of few-shot prompts, our own, a TOML file a set in sets/.

Left out on purpose: published exemplars, which differ from these in every question; how they are written behind one
another (shapes.py).
"""

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SETS = files("dsm_jax.evaluate.prompts") / "sets"
RESULT = "result"  # the variable that a program of a function assigns


@dataclass(frozen=True)
class Exemplar:
    """A question, its reasoning without the final sentence, its final answer, and the same as a program."""

    question: str
    solution: str = ""
    answer: str = ""
    """As a text or as LaTeX without dollars; a letter where there are options."""
    options: tuple[str, ...] = ()
    program: str = ""
    """Statements that end by assigning `result` or `answer`; MBPP's define a function. "" in a set without programs."""
    imports: str = ""
    tests: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """The program behind its imports."""
        return f"{self.imports}\n{self.program}" if self.imports else self.program

    @property
    def function(self) -> str:
        """The program as `solution()`, in the shape of PAL (Gao et al., 2023)."""
        body = textwrap.indent(self.script, "    ")
        return f'def solution():\n    """{self.question}"""\n{body}\n    return {RESULT}'


@cache
def read_exemplars(name: str) -> tuple[Exemplar, ...]:
    """The set of that name, in the order of its file."""
    rows = tomllib.loads((SETS / f"{name}.toml").read_text(encoding="utf-8"))["exemplars"]
    return tuple(_exemplar(row) for row in rows)


def _exemplar(row: Mapping[str, str | list[str]]) -> Exemplar:
    fields = {name: value.strip() if isinstance(value, str) else tuple(value) for name, value in row.items()}
    return Exemplar(**fields)  # type: ignore[arg-type]
