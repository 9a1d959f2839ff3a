"""The sampler: its log-probs are the trainer's, and a completion depends on (seed, prompt, sample) alone."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.decoder import bind
from dsm_jax.model.params import init_params
from dsm_jax.sample.sampler import Completion, Sampler, draw
from dsm_jax.train.logps import token_logps

CONFIG = dataclasses.replace(SMOKE, n_kv_heads=2, init_std=0.15)
PROMPTS = ["one", "two plus two is more", "one", "x" * 40] + [f"question {i}" * (1 + i % 3) for i in range(8)]


class Letters:
    """A tokenizer of characters; pad is eos, as in many released models."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 512, 1, 2, 2, "letters"

    def encode(self, text: str) -> list[int]:
        return [3 + ord(letter) % 400 for letter in text]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def sample(mesh: jax.sharding.Mesh | None = None, slots: int = 8, prompts: list[str] = PROMPTS, **options):
    mesh = mesh or single_device_mesh()
    sampler = Sampler(CONFIG, Letters(), mesh, slots=slots, chunk=options.pop("chunk", 8))
    sampler.load(init_params(CONFIG, 0, mesh))
    return sampler.generate(
        prompts, **{"n": 3, "max_new_tokens": 40, "temperature": 1.3, "seed": 5} | options
    )


def same(left: list[list[Completion]], right: list[list[Completion]]) -> None:
    for a, b in zip(itertools.chain(*left), itertools.chain(*right), strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.logps, b.logps, atol=1e-5)
        assert a.finish_reason == b.finish_reason


def test_logps_are_the_trainers_end_of_sequence_included() -> None:
    completions = sample(temperature=0.8)
    params = init_params(CONFIG, 0, single_device_mesh())
    ended = 0
    for prompt, row in zip(PROMPTS, completions, strict=True):
        for completion in row:
            ids = [1, *Letters().encode(prompt), *completion.tokens.tolist()]
            tokens = np.full((1, 96), 7, np.int32)  # padding that is a real token
            tokens[0, : len(ids)] = ids
            segments = (np.arange(96) < len(ids)).astype(np.int32)[None]
            with jax.set_mesh(single_device_mesh()):
                logps = _trainer(params, tokens, segments)
            np.testing.assert_allclose(
                logps[0, len(ids) - len(completion.tokens) : len(ids)], completion.logps, atol=1e-5
            )
            ended += completion.finished
            assert completion.finished == (completion.tokens[-1] == 2)
            assert 2 not in completion.tokens[:-1]
    assert 0 < ended < len(PROMPTS) * 3


@jax.jit
def _trainer(params: dict, tokens: jax.Array, segments: jax.Array) -> jax.Array:
    return token_logps(CONFIG, params, tokens, segments, temperature=0.8).logps


def test_slots_chunks_and_order_change_nothing() -> None:
    completions = sample()
    same(completions, sample(slots=48, chunk=5))
    one_by_one = [sample(prompts=[PROMPTS[i]], slots=1)[0] for i in (1, 3)]
    same([completions[1], completions[3]], one_by_one)
    backwards = sample(prompts=PROMPTS[3:][::-1])[::-1]
    same(completions[3:], backwards)


def test_a_prompt_that_stands_twice_gets_other_completions() -> None:
    completions = sample()
    assert PROMPTS[0] == PROMPTS[2]
    assert not np.array_equal(completions[0][0].tokens, completions[2][0].tokens)
    assert len({tuple(c.tokens) for c in completions[1]}) == 3
    same(
        sample(prompts=["one", "one"], prompt_ids=[4, 4])[:1],
        sample(prompts=["one", "one"], prompt_ids=[4, 4])[1:],
    )


def test_eight_devices_give_the_same_completions() -> None:
    same(sample(), sample(mesh=parse_mesh(("data=2,fsdp=2,tensor=2",))))


def test_greedy_takes_the_most_likely_token() -> None:
    greedy = sample(temperature=0.0, n=1, prompts=["what is this"])[0][0]
    mesh = single_device_mesh()
    params = init_params(CONFIG, 0, mesh)
    ids = np.array([[1, *Letters().encode("what is this"), *greedy.tokens.tolist()]], np.int32)
    with jax.set_mesh(mesh):

        def run(params: dict, ids: jax.Array) -> jax.Array:
            decoder = bind(CONFIG, params)
            return decoder.logits(decoder.hidden(ids, ids * 0))

        best = np.asarray(jax.jit(run)(params, ids)).argmax(-1)
    np.testing.assert_array_equal(best[0, -len(greedy.tokens) - 1 : -1], greedy.tokens)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_follow_the_softmax(temperature: float) -> None:
    """Chi-square over 100,000 draws from 8 tokens; the 1e-4 quantile with 7 degrees of freedom is 29.9."""
    logits = np.random.default_rng(0).normal(size=8) * 1.5
    rows = 100_000
    keys = jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(jax.random.key(0), i)))(jnp.arange(rows))
    tiled = jnp.tile(jnp.asarray(logits, jnp.float32), (rows, 1))
    tokens, logps = draw(tiled, keys, jnp.full(rows, 17), temperature)

    def statistic(at: float) -> float:
        p = np.exp(logits / at) / np.exp(logits / at).sum()
        counts = np.bincount(np.asarray(tokens), minlength=8)
        return float(((counts - rows * p) ** 2 / (rows * p)).sum())

    assert statistic(temperature) < 29.9 < statistic(temperature * 1.1)
    expected = logits / temperature - np.log(np.exp(logits / temperature).sum())
    np.testing.assert_allclose(logps, expected[np.asarray(tokens)], atol=1e-5)


def test_bad_requests_are_one_line() -> None:
    with pytest.raises(UserError, match="prompt 1 is empty"):
        sample(prompts=["a", ""])
    with pytest.raises(UserError, match="prompt 0 has 501 tokens"):
        sample(prompts=["a" * 500])
    with pytest.raises(UserError, match="must be at least 1"):
        sample(prompts=["a"], n=0)
