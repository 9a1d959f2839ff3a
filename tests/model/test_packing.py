"""Where a document stands, beside which others, and what fills the rest, changes none of its logits (hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.attention import BLOCK
from dsm_jax.model.config import SMOKE, RopeScaling
from dsm_jax.model.decoder import bind
from dsm_jax.model.params import init_params

# Weights large enough that attention is far from uniform and logits have a spread above 1.
LLAMA3 = RopeScaling("llama3", factor=8.0, original_max_seq_len=32)
CONFIG = replace(SMOKE, n_kv_heads=2, init_std=0.15, rope_theta=500.0, rope_scaling=LLAMA3, qk_norm=True)
SHORT, LONG = (3, 40), (1, BLOCK + 40)  # one block of queries; two
rooms = st.sampled_from([SHORT, LONG])
seeds = st.integers(0, 2**32 - 1)


@lru_cache
def model() -> tuple:
    mesh = single_device_mesh()

    def logits(params: dict, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        decoder = bind(CONFIG, params)
        return decoder.logits(decoder.hidden(tokens, segments))

    return jax.jit(logits), init_params(CONFIG, 0, mesh), mesh


def logits_of(tokens: np.ndarray, segments: np.ndarray) -> np.ndarray:
    run, params, mesh = model()
    with jax.set_mesh(mesh):
        return np.asarray(run(params, tokens, segments))


def fill(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of random documents from end to end, of lengths from 1 on; the last may be padding (segment 0)."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CONFIG.vocab_size, shape, dtype=np.int32)
    starts = rng.random(shape) < rng.choice([0.02, 0.2, 0.9])
    segments = 1 + np.cumsum(starts, axis=1, dtype=np.int32)
    padded = rng.random(shape[0]) < 0.5
    segments[padded] *= segments[padded] < segments[padded].max(1, keepdims=True)
    return tokens, segments


@st.composite
def placements(draw: st.DrawFn) -> tuple[tuple[int, int], int, slice]:
    """A shape, a row and a span of it for a document."""
    shape = draw(rooms)
    row = draw(st.integers(0, shape[0] - 1))
    length = draw(st.integers(1, 40))
    start = draw(st.integers(0, shape[1] - length))
    return shape, row, slice(start, start + length)


def put(document: np.ndarray, seed: int, shape: tuple[int, int], row: int, span: slice) -> np.ndarray:
    """Logits of a document among random others."""
    tokens, segments = fill(seed, shape)
    tokens[row, span] = document
    segments[row, span] = shape[1] + 2  # no other's
    segments[row, span.stop :] += shape[1] + 3  # what the document cut in two is two
    return logits_of(tokens, segments)[row, span]


def a_document(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, length, dtype=np.int32)


@settings(max_examples=60, deadline=None)
@given(placements(), seeds, seeds, seeds)
def test_others_change_not_one_bit(placement: tuple, document: int, others: int, more: int) -> None:
    shape, row, span = placement
    words = a_document(document, span.stop - span.start)
    before, after = (put(words, seed, shape, row, span) for seed in (others, more))
    np.testing.assert_array_equal(before, after)


@settings(max_examples=60, deadline=None)
@given(placements(), seeds, seeds)
def test_a_place_in_any_batch_equals_being_alone(placement: tuple, document: int, others: int) -> None:
    """Within 1e-5: other shapes and rows are rounded differently."""
    shape, row, span = placement
    words = a_document(document, span.stop - span.start)
    alone = np.zeros((1, 40), np.int32), np.zeros((1, 40), np.int32)
    alone[0][0, : len(words)] = words  # left-aligned, followed by padding of the same segment, as prompts are
    expected = logits_of(*alone)[0, : len(words)]
    np.testing.assert_allclose(put(words, others, shape, row, span), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_the_logits_tell_one_document_from_another(shape: tuple[int, int]) -> None:
    """What makes the properties above worth having: a token's change is seen, and by its own document only."""
    tokens, segments = fill(0, shape)
    segments[0, :20], segments[0, 20:] = 1, 2
    before = logits_of(tokens, segments)
    tokens[0, 3] = (tokens[0, 3] + 1) % CONFIG.vocab_size
    after = logits_of(tokens, segments)
    moved = np.abs(after - before).max(-1) > 0
    assert moved[0, 3:20].all() and not moved[0, :3].any() and not moved[0, 20:].any() and not moved[1:].any()
    assert before.std() > 1
