"""The score at a token is a difference of the decoder's own logits, on any mesh; which ids are read."""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import LoRA
from dsm_jax.model.decoder import bind
from dsm_jax.model.params import init_params, param_shardings
from dsm_jax.rl.reward_model.readout import Readout, scalar_head, start_params, step_scores, two_tokens
from tests.rl.reward_model.cases import CONFIG, MESH, PLUS_MINUS, TOKENIZER

IDS = np.random.default_rng(0).integers(0, 100, (8, 24)).astype(np.int32)
SEGMENTS = np.repeat([[1] * 10 + [2] * 10 + [0] * 4], 8, axis=0).astype(np.int32)
SCORES = jax.jit(step_scores, static_argnums=(0, 4))
CONFIGS = {
    "untied": CONFIG,
    "tied": dataclasses.replace(CONFIG, tie_embeddings=True),
    "lora": dataclasses.replace(CONFIG, lora=LoRA(rank=4)),
}


def params_of(config, mesh, seed=0):
    """None of them zero, LoRA's second matrices neither."""
    shapes = jax.eval_shape(lambda: init_params(config, 0, single_device_mesh()))
    rng = np.random.default_rng(seed)
    made = jax.tree.map(lambda one: rng.normal(size=one.shape).astype(np.float32) * 0.15, shapes)
    return jax.device_put(made, param_shardings(config, mesh))


@lru_cache
def logits_of(config) -> np.ndarray:
    """[B, T, V] of the whole vocabulary on one device."""
    mesh = single_device_mesh()
    with jax.set_mesh(mesh):
        return np.float64(jax.jit(partial(_logits, config))(params_of(config, mesh)))


def _logits(config, params):
    decoder = bind(config, params)
    return decoder.logits(decoder.hidden(IDS, SEGMENTS))


@pytest.mark.parametrize("mesh", [single_device_mesh, lambda: parse_mesh((MESH,))], ids=["1", "8"])
@pytest.mark.parametrize("readout", [PLUS_MINUS, Readout(127, 3), Readout(100)], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_the_logits_of_the_ids(name, readout, mesh):
    config, here = CONFIGS[name], mesh()
    with jax.set_mesh(here):
        found = np.asarray(SCORES(config, params_of(config, here), IDS, SEGMENTS, readout))
    logits = logits_of(config)
    expected = logits[..., readout.plus] - (0 if readout.minus is None else logits[..., readout.minus])
    assert found.dtype == np.float32 and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_softmax_of_two_tokens_is_the_sigmoid_of_the_score():
    logits = logits_of(CONFIG)[..., list(PLUS_MINUS.ids)]
    softmax = np.exp(logits[..., 0]) / np.exp(logits).sum(-1)
    with jax.set_mesh(single_device_mesh()):
        scores = SCORES(CONFIG, params_of(CONFIG, single_device_mesh()), IDS, SEGMENTS, PLUS_MINUS)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.float64(scores))), softmax, atol=1e-5)


@pytest.mark.parametrize("name", ["untied", "tied"])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_scalar_head_begins_at_zero_and_nothing_else_changes(name, devices):
    config, mesh = CONFIGS[name], single_device_mesh() if devices == 1 else parse_mesh((MESH,))
    params, readout = params_of(config, mesh), scalar_head(TOKENIZER, config)
    assert readout == Readout(100)  # the first row beyond the tokenizer
    begun = start_params(config, params, readout, mesh)
    with jax.set_mesh(mesh):
        assert not np.asarray(SCORES(config, begun, IDS, SEGMENTS, readout)).any()
    where = "embed" if name == "tied" else "head"
    expected = np.array(params[where])
    expected[(100,) if name == "tied" else (slice(None), 100)] = 0
    np.testing.assert_array_equal(begun[where], expected)
    for a, b in zip(jax.tree.leaves(begun), jax.tree.leaves(params | {where: begun[where]}), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.sharding == b.sharding
    assert start_params(config, params, PLUS_MINUS, mesh) is params
    assert start_params(config, params, readout, mesh, learned=readout) is params
    other = start_params(config, params, readout, mesh, learned=PLUS_MINUS)
    np.testing.assert_array_equal(other[where], begun[where])


def test_a_free_id_is_padding_or_there_is_none():
    full = dataclasses.replace(CONFIG, vocab_size=100)
    assert scalar_head(TOKENIZER, full) == Readout(TOKENIZER.pad_id)

    class NoPadding(type(TOKENIZER)):
        pad_id = 2

    with pytest.raises(UserError, match="no row beyond the tokenizer.*take --head tokens"):
        scalar_head(NoPadding(), full)


def test_the_two_tokens_are_searched():
    class Words(type(TOKENIZER)):
        """Has a word as one token behind a space only."""

        def encode(self, text: str) -> list[int]:
            return [101] if text == " good" else super().encode(text)

    assert two_tokens(TOKENIZER) == PLUS_MINUS and TOKENIZER.decode(PLUS_MINUS.ids) == "+-"
    assert two_tokens(Words(), plus="good") == Readout(101, PLUS_MINUS.minus)
    with pytest.raises(UserError, match="--minus bad: the tokenizer has no single token for it"):
        two_tokens(Words(), minus="bad")
    with pytest.raises(UserError, match="--plus : the tokenizer has no"):
        two_tokens(TOKENIZER, plus="")
    with pytest.raises(UserError, match="both token"):
        two_tokens(TOKENIZER, "+", "+")
