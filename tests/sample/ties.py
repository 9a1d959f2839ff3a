"""Comparing completions where rounding may turn a draw: a difference has to be shown to be such a near-tie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, bind
from dsm_jax.sample import Completion, Request
from dsm_jax.sample.sampling import row_key
from tests.sample.models import NEAR_TIE, assert_same, params_of


@partial(jax.jit, static_argnums=0)
def _rated(
    config: ModelConfig, params: Params, ids: jax.Array, last: jax.Array, name: jax.Array, temperature: float
) -> jax.Array:
    decoder = bind(config, params)
    logits = decoder.logits(decoder.hidden(ids, jnp.zeros_like(ids)))[0, last]
    key = jax.random.fold_in(jax.random.wrap_key_data(row_key(name)), last + 1)
    return logits / temperature + jax.random.gumbel(key, logits.shape)


def margin(
    config: ModelConfig,
    prompt: Sequence[int],
    request: Request,
    sample: int,
    before: Sequence[int],
    params: Params | None = None,
) -> tuple[float, set[int]]:
    """How far the largest of logits / T + Gumbel stands above the second after these tokens, and which two they are.

    params: on one device; None: params_of's.
    """
    ids = [*prompt, *before]
    padded = np.zeros((1, -(-len(ids) // 64) * 64), np.int32)
    padded[0, : len(ids)] = ids
    name = np.array([request.seed, request.prompt_id or 0, sample], np.int32)
    mesh = single_device_mesh()
    with jax.set_mesh(mesh):
        params = params_of(config, mesh) if params is None else params
        rated = np.asarray(_rated(config, params, padded, len(ids) - 1, name, request.temperature))
    second, first = np.argsort(rated)[-2:]
    return float(rated[first] - rated[second]), {int(first), int(second)}


def assert_same_or_near_tie(
    config: ModelConfig,
    request: Request,
    ours: Completion,
    theirs: Completion,
    sample: int = 0,
    params: Params | None = None,
) -> bool:
    """Whether two draws of a request (of token ids, named by prompt_id) differ at a near-tie; else they have to be the same.

    Up to a near-tie, which is printed, they are the same too.
    """
    both = min(len(ours.tokens), len(theirs.tokens))
    differ = np.flatnonzero(ours.tokens[:both] != theirs.tokens[:both])
    if not differ.size:
        assert_same(ours, theirs)
        return False
    first, prompt = int(differ[0]), [int(token) for token in request.prompt]
    gap, two = margin(config, prompt, request, sample, ours.tokens[:first].tolist(), params)
    drawn = {int(ours.tokens[first]), int(theirs.tokens[first])}
    print(f"request {request.prompt_id}, token {first}: {drawn} are {gap:.1e} nats apart")
    assert gap < NEAR_TIE and drawn == two
    np.testing.assert_allclose(ours.logps[:first], theirs.logps[:first], atol=1e-5)
    return True
