"""A small model for the sampler's tests, a tokenizer of characters, and the trainer's log-probs of completions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.config import SMOKE, ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import init_params
from dsm_jax.sample import Completion, Request, Sampler
from dsm_jax.train.logps import token_logps

# Weights large enough that attention is far from uniform; two query heads share one of keys.
CONFIG = dataclasses.replace(SMOKE, n_kv_heads=2, init_std=0.15)
ONE_LAYER = dataclasses.replace(
    CONFIG, n_layers=1, d_model=32, d_ff=64, n_heads=2, n_kv_heads=1
)  # many steps
NEAR_TIE = 1e-5  # nats: rounding may turn such a draw


class Letters:
    """A tokenizer of characters; pad is eos, as in many released models."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 512, 1, 2, 2, "letters"

    def encode(self, text: str) -> list[int]:
        return [3 + ord(letter) % 400 for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(int(i) - 3) for i in ids if i > 2)


class Endless(Letters):
    """Has no end of sequence that a model could draw."""

    eos_id = -1


@lru_cache
def params_of(config: ModelConfig, mesh: Mesh) -> Params:
    return init_params(config, 0, mesh)


def sampler_of(
    config: ModelConfig = ONE_LAYER, mesh: Mesh | None = None, tokenizer: Any = None, **options: Any
) -> Sampler:
    mesh = mesh or single_device_mesh()
    sampler = Sampler(config, tokenizer or Letters(), mesh, **{"slots": 8, "chunk": 8} | options)
    sampler.load(params_of(config, mesh))
    return sampler


@partial(jax.jit, static_argnums=(0, 4))
def _logps(
    config: ModelConfig, params: Params, tokens: jax.Array, segments: jax.Array, temperature: float
) -> jax.Array:
    return token_logps(config, params, tokens, segments, temperature=temperature).logps


def trainer_logps(
    config: ModelConfig,
    prompt: Sequence[int],
    tokens: Sequence[int],
    temperature: float = 1.0,
    *,
    padding: int = 7,
) -> np.ndarray:
    """Of these tokens after the prompt, as training computes them, with padding that is a real token."""
    ids = [*prompt, *tokens]
    width = -(-len(ids) // 64) * 64
    padded = np.full((1, width), padding, np.int32)
    padded[0, : len(ids)] = ids
    mesh = single_device_mesh()
    with jax.set_mesh(mesh):
        found = _logps(
            config, params_of(config, mesh), padded, (np.arange(width) < len(ids))[None] * 1, temperature
        )
    return np.asarray(found)[0, len(prompt) : len(ids)]


def assert_trainers(
    config: ModelConfig, prompt: Sequence[int], request: Request, completion: Completion
) -> None:
    """The log-probs over the whole vocabulary are the trainer's, those of inserted tokens apart."""
    assert not completion.error
    expected = trainer_logps(config, prompt, completion.tokens.tolist(), request.temperature or 1.0)
    drawn = ~completion.inserted
    np.testing.assert_allclose(completion.full_logps[drawn], expected[drawn], atol=1e-5)
    assert not completion.full_logps[~drawn].any() and not completion.logps[~drawn].any()


def assert_same(ours: Completion, theirs: Completion) -> None:
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_array_equal(ours.inserted, theirs.inserted)
    np.testing.assert_allclose(ours.logps, theirs.logps, atol=1e-5)
    np.testing.assert_allclose(ours.full_logps, theirs.full_logps, atol=1e-5)
    assert (ours.text, ours.finish_reason, ours.error) == (theirs.text, theirs.finish_reason, theirs.error)


def assert_all_same(ours: Sequence[Sequence[Completion]], theirs: Sequence[Sequence[Completion]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
