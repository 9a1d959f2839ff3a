"""Calls of rewards that several test files make; at the top of a module, so that other processes can import them."""

from __future__ import annotations

import re

from dsm_jax.rl.rewards import RewardOptions, Rewards

PROMPTS = ["p0", "p1", "p2"]
COMPLETIONS = ["a", "bb", "ccc"]
ZERO = RewardOptions(on_error="zero")


def score(reward, options=RewardOptions(), completions=COMPLETIONS, **columns):  # noqa: B008
    return Rewards(reward, options)(PROMPTS, completions, columns)


def said(capsys) -> str:
    """On stderr, without the lines that raised."""
    return re.sub(r" \(\w+\.py:\d+\)", "", capsys.readouterr().err)


def impatient(prompts, completions):
    raise TimeoutError("the server")


class Particular(Exception):
    """One that cannot be read from what is sent between processes."""

    def __init__(self, what, where):
        super().__init__(f"{what} {where}")


def particular(prompts, completions):
    raise Particular("not", "here")


def leaves(prompts, completions):
    raise SystemExit(3)


OWN = {  # errors of the reward's own: no hang of the call, no end of the program, no broken pool
    impatient: "reward impatient, row 0: TimeoutError: the server",
    particular: "reward particular, row 0: Particular: not here",
    leaves: "reward leaves, row 0: SystemExit: 3",
}
