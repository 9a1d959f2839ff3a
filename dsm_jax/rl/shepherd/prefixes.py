r"""The beginnings of a solution that end with a step, as the completer takes them.

A beginning ends with the token that completes its step, as the solution was sampled; where its tokens are not known, as it
is encoded behind the prompt in finetuning. So a separator that the tokenizer merges with a step's last character (".\n" in
many vocabularies) stays in the beginning, and any other is the completer's to write: at either place the completer sees a
text as it is used to, and may also go on in the same line.
Solutions of a problem that begin with the same tokens have the same beginnings: they are completed once.
Left out on purpose: a last step's beginning. It is the whole solution, which needs no completion: it is right or wrong.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from dsm_jax.rl.shepherd.pool import Pool, Solution
from dsm_jax.rl.steps.segments import Splitting, step_ends
from dsm_jax.rl.steps.token_ends import encoded_ends, token_ends
from dsm_jax.tokenizer import Tokenizer

Beginning = tuple[int, ...]  # tokens behind the prompt


@dataclass(frozen=True)
class Steps:
    """A solution of K steps."""

    solution: Solution
    ends: tuple[int, ...]  # [K] offsets in its completion
    beginnings: tuple[Beginning, ...]  # [K - 1], each begins the next one
    length: int  # tokens of the whole completion


def steps_in(pool: Pool, tokenizer: Tokenizer, splitting: Splitting) -> list[Steps]:
    """The steps of each of the pool's solutions."""
    return [
        _steps(one, pool.tokenizer == tokenizer.fingerprint, tokenizer, splitting) for one in pool.solutions
    ]


def _steps(solution: Solution, known: bool, tokenizer: Tokenizer, splitting: Splitting) -> Steps:
    """known: whether the solution's tokens are of this tokenizer."""
    text = solution.completion
    ends = step_ends(text, splitting)
    if known and tokenizer.decode(solution.tokens) == text:
        tokens, last = list(solution.tokens), token_ends(solution.tokens, ends[:-1], tokenizer)
    else:
        tokens, last = encoded_ends(text, ends[:-1], tokenizer)
    beginnings = tuple(tuple(tokens[: place + 1]) for place in last.tolist())
    return Steps(solution, ends, beginnings, len(tokens))


def name_of(prompt: list[int], beginning: Beginning) -> int:
    """A beginning's name for the random keys, 31 bits of a hash: the same whatever else is sampled."""
    data = np.array([*prompt, *beginning], np.int32).tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "little") & (2**31 - 1)
