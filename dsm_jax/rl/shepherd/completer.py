"""Draws completions of beginnings and says which of them find the right answer.

Sample i of a beginning is the same wherever, whenever and beside whatever it is drawn: its random keys are (seed, the
beginning's hash, i). The text of the beginning and what follows is graded as one, cut completions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.pool import graded
from dsm_jax.rl.shepherd.prefixes import Beginning, name_of
from dsm_jax.sample.request import Request, require_answers
from dsm_jax.sample.sampler import Sampler


class Ask(NamedTuple):
    """Samples first to first + n - 1 of a beginning."""

    prompt: list[int]
    beginning: Beginning
    answer: str  # the right one
    first: int
    n: int


class Drawn(NamedTuple):
    """What came of an Ask, [n] each."""

    hits: list[bool]
    lengths: list[int]  # tokens
    cut: int  # of them, those that never end


def draw(sampler: Sampler, asked: Sequence[Ask], config: Shepherd) -> list[Drawn]:
    """All in one call, so that beginnings of one solution lie on one prefill."""
    found = sampler.generate([_request(sampler, one, config) for one in asked])
    require_answers(found)
    decode = sampler.tokenizer.decode
    right = graded(
        [
            (decode([*one.beginning, *completion.tokens.tolist()]), one.answer)
            for one, row in zip(asked, found, strict=True)
            for completion in row
        ]
    )
    return [
        Drawn(
            [next(right) for _ in row],
            [len(completion.tokens) for completion in row],
            sum(not completion.finished for completion in row),
        )
        for row in found
    ]


def room(sampler: Sampler, prompt: Sequence[int], config: Shepherd) -> int:
    """The most tokens that a solution may have behind this prompt."""
    return min(config.max_new_tokens, sampler.config.max_seq_len - len(prompt))


def _request(sampler: Sampler, ask: Ask, config: Shepherd) -> Request:
    return Request(
        [*ask.prompt, *ask.beginning],
        n=ask.n,
        first_sample=ask.first,
        max_new_tokens=room(sampler, ask.prompt, config) - len(ask.beginning),
        temperature=config.completer_temperature,
        top_p=config.top_p,
        seed=config.rng_seed,
        prompt_id=name_of(ask.prompt, ask.beginning),
    )
