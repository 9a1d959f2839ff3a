"""A head over the sampler's prefill: what a reward model says at each token."""

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.decoder import bind
from tests.sample.models import CONFIG, params_of, sampler_of

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(3, 512, length).tolist() for length in (5, 40, 33, 1, 100, 32, 17)]
HEAD = RNG.normal(size=(CONFIG.d_model, 2)).astype(np.float32)


@pytest.mark.parametrize("mesh", ["fsdp=1", "data=2,fsdp=2,tensor=2"])
def test_scores_are_the_trainers_hidden_states_times_the_head(mesh: str) -> None:
    devices = jax.devices()[: 1 if mesh == "fsdp=1" else 8]
    sampler = sampler_of(CONFIG, parse_mesh((mesh,), devices))
    scores = sampler.score(TEXTS, HEAD)
    assert 0 < sampler.usage.compilations <= sampler.usage.max_compilations

    @jax.jit
    def run(params: dict, ids: jax.Array) -> jax.Array:
        return bind(CONFIG, params).hidden(ids, ids * 0) @ HEAD

    here = single_device_mesh()
    with jax.set_mesh(here):
        for text, found in zip(TEXTS, scores, strict=True):
            expected = run(params_of(CONFIG, here), np.array([text], np.int32))[0]
            np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "line"), [([], " has 0 tokens"), ([600], ": token id 600"), ([5] * 513, " has 513 tokens")]
)
def test_a_bad_text_is_one_line(text: list[int], line: str) -> None:
    with pytest.raises(UserError, match=f"score: text 1{line}"):
        sampler_of(CONFIG).score([[5], text], HEAD)
