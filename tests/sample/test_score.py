"""Whole texts through the sampler's prefill: what a reward model says at each token, and the tokens' log-probabilities."""

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model
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


@pytest.mark.parametrize("mesh", ["fsdp=1", "data=2,fsdp=2,tensor=2"])
@pytest.mark.parametrize("scored", [1024, 3])
def test_logps_are_those_of_the_logits(monkeypatch: pytest.MonkeyPatch, mesh: str, scored: int) -> None:
    monkeypatch.setattr("dsm_jax.sample.decode.SCORED", scored)
    jax.clear_caches()
    devices = jax.devices()[: 1 if mesh == "fsdp=1" else 8]
    sampler = sampler_of(CONFIG, parse_mesh((mesh,), devices))
    texts = [text for text in TEXTS if len(text) > 1]
    greedy = sampler.generate([[5, 6]], max_new_tokens=20, temperature=0.0)[0][0].tokens.tolist()
    texts += [[5, 6, *greedy], RNG.integers(3, 512, CONFIG.max_seq_len + 1).tolist()]
    done: list[int] = []
    scores = sampler.logps(texts, on_finish=lambda: done.append(1))
    assert len(done) == len(texts)
    assert 0 < sampler.usage.compilations <= sampler.usage.max_compilations
    model = Model(CONFIG, params_of(CONFIG, single_device_mesh()))
    for text, found in zip(texts, scores, strict=True):
        logits = np.asarray(model.logits(np.array([text[:-1]])))[0].astype(np.float64)
        expected = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        np.testing.assert_allclose(found.logps, expected[np.arange(len(text) - 1), text[1:]], atol=1e-4)
        np.testing.assert_array_equal(found.greedy, logits.argmax(-1) == text[1:])
    assert scores[-2].greedy[1:].all() and not scores[-1].greedy.all()


def test_of_equal_logits_only_the_first_is_greedy() -> None:
    sampler = sampler_of(CONFIG)
    sampler.load(jax.tree.map(np.zeros_like, params_of(CONFIG, single_device_mesh())))
    (scores,) = sampler.logps([[5, 0, 1, 0]])
    assert scores.greedy.tolist() == [True, False, True]
    np.testing.assert_allclose(scores.logps, -np.log(CONFIG.vocab_size), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "line"), [([5], " has 1 tokens"), ([5, 600], ": token id 600"), ([5] * 514, " has 514 tokens")]
)
def test_a_text_without_logps_is_one_line(text: list[int], line: str) -> None:
    with pytest.raises(UserError, match=f"logps: text 1{line}"):
        sampler_of(CONFIG).logps([[5, 6], text])


@pytest.mark.parametrize(
    ("text", "line"), [([], " has 0 tokens"), ([600], ": token id 600"), ([5] * 513, " has 513 tokens")]
)
def test_a_bad_text_is_one_line(text: list[int], line: str) -> None:
    with pytest.raises(UserError, match=f"score: text 1{line}"):
        sampler_of(CONFIG).score([[5], text], HEAD)
