"""How steps are labelled: the pool of solutions, the completions of each step, and what is made of them.

Left out on purpose: which models and which problems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dsm_jax.errors import UserError
from dsm_jax.rl.steps.segments import Splitting
from dsm_jax.sample.request import LEAST_TEMPERATURE

Estimate = Literal["hard", "soft"]
Search = Literal["every", "binary"]
LEAST = {
    "solutions": 1, "n": 1, "max_new_tokens": 2, "chunk": 1, "max_decoded": 0, "patience": 0, "rng_seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Shepherd:
    """Options of labelling, with Math-Shepherd's numbers (arXiv 2312.08935, section 4.1); temperatures are not published."""

    solutions: int = 15  # of each problem in the pool, before equal ones are counted once
    n: int = 8  # completions from each step
    # hard: 1 where a completion finds the right answer, else 0; soft: the share of those that do
    estimate: Estimate = "hard"
    # every: each step is completed; binary: the first bad step is searched for, and all from it on are bad
    search: Search = "every"
    splitting: Splitting = "lines"  # what a step is: lines, numbered ("Step 1: .."), sentences
    temperature: float = 0.7  # of the solutions
    completer_temperature: float = 0.7  # of the completions
    top_p: float = 1.0  # least mass of the most likely tokens that are kept, of both
    max_new_tokens: int = 512  # of a whole solution, and of a completion with what it completes
    keep_draws: bool = (
        False  # draws all n also where one hit decides, so that labels of fewer can be read off
    )
    chunk: int = 64  # problems that are worked on together; a killed run loses a part of one at most
    max_decoded: int = 0  # decoded tokens of completions after which no chunk is begun; 0: no limit
    patience: int = 200  # problems without any right completion after which the run ends; 0: it never does
    rng_seed: int = 0  # of all sampling

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"{_option(name)} is {getattr(self, name)}; it must be at least {least}")
        for name in ("temperature", "completer_temperature"):
            if not LEAST_TEMPERATURE <= getattr(self, name) < math.inf:
                raise UserError(
                    f"{_option(name)} is {getattr(self, name)}; it must be at least {LEAST_TEMPERATURE}"
                )
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p is {self.top_p}; it must be above 0 and at most 1 (1 keeps all)")
        if self.rng_seed >= 2**31:
            raise UserError(f"--rng-seed is {self.rng_seed}; it must be below {2**31}")
        if self.splitting not in get_args(Splitting):
            raise UserError(f"--splitting {self.splitting}: give {', '.join(get_args(Splitting))}")
        if self.search == "binary" and (self.estimate == "soft" or self.keep_draws):
            raise UserError(
                "--search binary leaves most steps without completions: give --estimate hard and no --keep-draws"
            )

    @property
    def stops_early(self) -> bool:
        """Whether a step's first hit ends its draws."""
        return self.estimate == "hard" and not self.keep_draws


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
