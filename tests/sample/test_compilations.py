"""Compilations are counted and bounded: what XLA really compiles, hits of the persistent cache too."""

import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

from dsm_jax.sample import Request
from tests.sample.models import ONE_LAYER, Letters, sampler_of

pytestmark = pytest.mark.slow  # compiles much

COMPILED = (
    "/jax/core/compile/backend_compile_duration"  # also where the program comes out of the persistent cache
)


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the programs that are compiled."""
    found: list[str] = []

    def count(event: str, seconds: float, **kinds: str | int) -> None:
        if event == COMPILED:
            found.append(str(kinds.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def mix(chance: random.Random) -> list[Request]:
    """Requests of one call, of any kind."""
    longest, most = chance.choice([1, 20, 150, 300]), chance.choice([1, 10, 100, 200])
    return [
        Request(
            [chance.randrange(3, 500) for _ in range(chance.randint(1, longest))],
            n=chance.choice([1, 1, 2, 5]),
            max_new_tokens=chance.randint(1, most),
            temperature=chance.choice([0.0, 0.7, 1.0]),
            top_p=chance.choice([1.0, 0.9]),
            top_k=chance.choice([0, 5]),
            min_p=chance.choice([0.0, 0.1]),
            stop=chance.choice([(), ("ab", "c")]),
            stop_token_ids=[3 + i for i in range(chance.choice([0, 0, 2, 9]))],
            seed=chance.randrange(9),
        )
        for _ in range(chance.choice([1, 3, 20]))
    ]


@pytest.mark.parametrize("mixes", [12, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_compilations_stay_within_the_bound(mixes: int) -> None:
    config = dataclasses.replace(ONE_LAYER, head_dim=10 + 2 * (mixes > 12))  # of no other test
    sampler = sampler_of(config, tokenizer=Letters(), slots=8)
    calls = [mix(random.Random(seed)) for seed in range(mixes)]
    with compilations() as compiled:
        for requests in calls:
            sampler.generate(requests)
        usage = sampler.usage
        print(f"{len(compiled)} compiled, {usage.compilations} programs, bound {usage.max_compilations}")
        assert usage.programs <= usage.possible
        assert 0 < len(compiled) <= usage.compilations <= usage.max_compilations, sorted(compiled)
        compiled.clear()
        sampler.generate(calls[-1])
        assert not compiled  # the same again needs nothing new


def test_hits_of_the_persistent_cache_are_counted() -> None:
    """The count is of programs that a process needs, whether or not they were compiled before."""
    jax.jit(lambda x: x * 3 + 11)(jax.numpy.arange(23))  # fills the cache
    with compilations() as compiled:
        jax.jit(lambda x: x * 3 + 11)(jax.numpy.arange(23))
    assert "jit(<lambda>)" in compiled
