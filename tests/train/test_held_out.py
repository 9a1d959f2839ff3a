"""Held-out metrics against numbers by hand, on any mesh and any number of rows; the unigram model from its counts."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from dsm_jax.data.windows import pack_documents
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.decoder import bind
from dsm_jax.model.params import init_params
from dsm_jax.train.held_out import HeldOut, make_scorer, unigram

RNG = np.random.default_rng(0)
WINDOWS = list(
    pack_documents([RNG.integers(0, SMOKE.vocab_size, n).tolist() for n in (5, 40, 17, 9, 30)], 16)
)
TEXT = HeldOut(WINDOWS, 300)


def test_metrics_are_the_definition():
    params, mesh = init_params(SMOKE, 0, single_device_mesh()), single_device_mesh()
    nats = targets = 0.0
    for window in WINDOWS:
        with jax.set_mesh(mesh):
            decoder = bind(SMOKE, params)
            hidden = decoder.hidden(window["tokens"][None], window["segment_ids"][None])
            logits = np.float64(decoder.logits(hidden))[0]
        logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for t in range(1, 16):
            if window["loss_mask"][t]:
                nats -= logps[t - 1, window["tokens"][t]]
                targets += 1
    found = make_scorer(SMOKE, mesh, 3)(params, TEXT)
    assert found["perplexity"] == pytest.approx(math.exp(nats / targets), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 300, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_rows_and_mesh_change_nothing(rows):
    one, eight = single_device_mesh(), parse_mesh(("data=2,fsdp=2,tensor=2",))
    wanted = make_scorer(SMOKE, one, 4)(init_params(SMOKE, 0, one), TEXT)
    found = make_scorer(SMOKE, eight, rows)(init_params(SMOKE, 0, eight), TEXT)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_the_unigram_model():
    train = {"a": list(pack_documents([[1, 1, 1, 2]], 4)), "b": list(pack_documents([[3, 2]], 4))}
    held = {"a": HeldOut(list(pack_documents([[3, 1, 2, 0]], 4)), 4)}
    counts = {0: 1, 1: 4, 2: 3, 3: 2}  # one more than seen
    nats = -sum(math.log(counts[token] / 10) for token in (1, 2, 0))  # a document's first token is no target
    found = unigram(train, held, 4)["a"]
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 4)
    assert found["perplexity"] == pytest.approx(math.exp(nats / 3))


def test_no_text():
    with pytest.raises(UserError, match="held-out text is empty"):
        HeldOut([], 0)
