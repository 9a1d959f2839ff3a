"""Slots are refilled: few steps of few slots are lost, and a completion is what it is alone."""

import dataclasses
import random

import pytest

from dsm_jax.sample import Request
from tests.sample.models import ONE_LAYER, Endless, sampler_of
from tests.sample.ties import assert_same_or_near_tie, margin

ENDS = list(range(40, 48))  # stop tokens: of 512 about one in 64 is such a one


def requests_of(count: int, longest: int) -> list[Request]:
    chance = random.Random(5)
    return [
        Request(
            [1, *(chance.randrange(3, 512) for _ in range(chance.randint(0, 20)))],
            max_new_tokens=chance.randint(1, longest),
            temperature=chance.choice([0.7, 1.0, 2.0]),
            seed=i % 3,
            prompt_id=i,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "longest"), [(60, 64), pytest.param(200, 256, marks=pytest.mark.slow)], ids=["small", "whole"]
)
def test_sixteen_slots_are_seldom_idle_and_change_nothing(count: int, longest: int) -> None:
    """Random lengths through 16 slots, against one by one."""
    sampler = sampler_of(tokenizer=Endless(), slots=16)
    requests = requests_of(count, longest)
    together = sampler.generate(requests)
    idle = sampler.usage.idle_share
    print(f"idle: {idle:.3f} of {sampler.usage.slot_steps} slot steps")
    assert idle < 0.10
    tied = 0
    for request, (completion,) in zip(requests, together, strict=True):
        assert len(completion.tokens) == request.max_new_tokens
        tied += assert_same_or_near_tie(ONE_LAYER, request, completion, sampler.generate([request])[0][0])
    assert tied <= 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 8])
def test_rows_that_end_by_themselves_leave_few_slots_idle(n: int) -> None:
    """Lengths that nobody knows before, about 64 tokens in the mean; groups wait for a place too."""
    sampler = sampler_of(tokenizer=Endless(), slots=16)
    requests = [
        dataclasses.replace(request, n=n, max_new_tokens=256, stop_token_ids=ENDS, temperature=2.0)
        for request in requests_of(200 // n, 1)
    ]
    completions = [row for rows in sampler.generate(requests) for row in rows]
    mean = sum(len(row.tokens) for row in completions) / len(completions)
    print(f"n {n}: {mean:.0f} tokens in the mean, idle {sampler.usage.idle_share:.3f}")
    assert sum(row.finished for row in completions) > 0.8 * len(completions)
    assert sampler.usage.idle_share < 0.10


def test_another_draw_is_no_near_tie() -> None:
    """The comparison of these tests fails where tokens differ for any other reason than rounding."""
    sampler = sampler_of(tokenizer=Endless(), slots=16)
    request = Request([1, 50, 60], max_new_tokens=30, seed=1, prompt_id=4)
    (ours,), (theirs,) = (sampler.generate([dataclasses.replace(request, seed=seed)])[0] for seed in (1, 2))
    with pytest.raises(AssertionError):
        assert_same_or_near_tie(ONE_LAYER, request, ours, theirs)
    for place, token in enumerate(ours.tokens.tolist()):  # and it knows the draw
        gap, two = margin(ONE_LAYER, [1, 50, 60], request, 0, ours.tokens[:place].tolist())
        assert token in two and gap > 0
