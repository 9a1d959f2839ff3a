"""Scores are the training program's logits at the places, whatever is beside a text, on any mesh; text and tokens agree."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.readout import Readout, step_scores
from dsm_jax.rl.reward_model.score import RewardModel, probability, same_ids
from tests.rl.reward_model.cases import CONFIG, MESH, PLUS_MINUS, TOKENIZER, Letters, solutions

ROWS = solutions(40)
PROMPTS = [row.prompt + "x" * (7 * i % 50) for i, row in enumerate(ROWS)]  # of many lengths
TEXTS = [row.completion for row in ROWS]
ENDS = [row.ends for row in ROWS]
FORM = Form(PLUS_MINUS)
ULP = 4e-6  # of scores of about 1: what another shape or mesh may round differently


@lru_cache
def model_of(form: Form = FORM, devices: int = 1) -> RewardModel:
    mesh = single_device_mesh() if devices == 1 else parse_mesh((MESH,))
    return RewardModel(Model(CONFIG, init_params(CONFIG, 0, mesh)), form, TOKENIZER)


def of_training(form: Form) -> list[np.ndarray]:
    """Each text alone, by the function that training reads scores with."""
    model, mesh = model_of(form), single_device_mesh()
    params = init_params(CONFIG, 0, mesh)
    run = jax.jit(lambda p, ids: step_scores(CONFIG, p, ids, ids * 0 + 1, form.readout))
    found = []
    with jax.set_mesh(mesh):
        for prompt, text, ends in zip(PROMPTS, TEXTS, ENDS, strict=True):
            ids, places = model.read(prompt, text, ends)
            padded = np.zeros((1, 128), np.int32)
            padded[0, : len(ids)] = ids
            found.append(np.asarray(run(params, padded))[0, places])
    return found


@pytest.mark.parametrize("readout", [PLUS_MINUS, Readout(100)], ids=["tokens", "scalar"])
@pytest.mark.parametrize("devices", [1, 8])
def test_scores_are_those_of_training_on_any_mesh(readout, devices):
    found = model_of(Form(readout), devices).score(PROMPTS, TEXTS, ENDS, scale="logit")
    for ours, theirs, ends in zip(found, of_training(Form(readout)), ENDS, strict=True):
        assert ours.dtype == np.float32 and ours.shape == (len(ends),)
        np.testing.assert_allclose(ours, theirs, atol=ULP)
    assert np.concatenate(found).std() > 0.1


def test_a_score_does_not_depend_on_the_texts_beside_it():
    model = model_of()
    together = model.score(PROMPTS, TEXTS, ENDS)
    for order in ([3], [5, 3], list(range(39, -1, -1))):
        some = model.score(*([every[i] for i in order] for every in (PROMPTS, TEXTS, ENDS)))
        for ours, at in zip(some, order, strict=True):
            np.testing.assert_allclose(ours, together[at], atol=ULP)


def test_a_probability_is_the_sigmoid_and_never_leaves_0_to_1():
    logits = model_of().score(PROMPTS, TEXTS, ENDS, scale="logit")
    for chance, logit in zip(model_of().score(PROMPTS, TEXTS, ENDS), logits, strict=True):
        np.testing.assert_allclose(chance, 1 / (1 + np.exp(-np.float64(logit))), rtol=1e-6)
    np.testing.assert_array_equal(probability(np.float32([-1e6, 0, 1e6])), np.float32([0, 0.5, 1]))
    by_itself = model_of(Form(PLUS_MINUS, scale="logit")).score(PROMPTS[:2], TEXTS[:2], ENDS[:2])
    np.testing.assert_allclose(by_itself[0], logits[0], atol=ULP)


def test_tokens_and_texts_and_own_splitting_agree():
    model = model_of()
    wanted = model.score(PROMPTS, TEXTS, ENDS)
    tokens = [[*TOKENIZER.encode(text), TOKENIZER.eos_id] for text in TEXTS]
    places = [[*(end - 1 for end in ends[:-1]), len(ids) - 1] for ends, ids in zip(ENDS, tokens, strict=True)]
    for other in (
        model.score(PROMPTS, TEXTS),
        model.score(PROMPTS, tokens, places),
        model.score(PROMPTS, [np.array(ids) for ids in tokens]),
    ):
        for ours, theirs in zip(other, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_outcome_has_one_score_and_nothing_has_none():
    outcome = model_of(Form(PLUS_MINUS, "outcome")).score(PROMPTS, TEXTS)
    last = model_of().score(PROMPTS, TEXTS)
    for one, steps in zip(outcome, last, strict=True):
        np.testing.assert_array_equal(one, steps[-1:])
    assert [len(one) for one in model_of().score(["a", "a"], ["", " b\nc"])] == [0, 2]
    assert model_of().score(["a"], [[2]])[0].shape == (0,)
    assert len(model_of(Form(PLUS_MINUS, "outcome")).score(["a"], [[2]])[0]) == 1
    assert model_of().score([], []) == []


def test_the_tag_form_is_the_plain_form_of_a_text_with_tags():
    tagged = model_of(Form(PLUS_MINUS, step_tag=" ##")).score(PROMPTS, TEXTS, ENDS)
    model = model_of()
    for prompt, text, ends, ours in zip(PROMPTS, TEXTS, ENDS, tagged, strict=True):
        written, places = "", []
        for start, end in zip((0, *ends), ends, strict=False):
            written += text[start:end] + " ##"
            places.append(len(written) - 1)
        tokens = TOKENIZER.encode(written)  # without an end: the last tag is the last token
        np.testing.assert_allclose(ours, model.score([prompt], [tokens], [places])[0], atol=ULP)


def test_what_only_tags_make_too_long_has_no_score():
    """A model reads 256 tokens: a run of GRPO cannot know how many tags a completion will have."""
    long = " a\n" * 70
    text, tagged = [long, " b"], model_of(Form(PLUS_MINUS, step_tag=" ##"))
    found = tagged.score(["p", "p"], text)
    assert np.isnan(found[0]).all() and len(found[0]) == 70
    np.testing.assert_array_equal(found[1], tagged.score(["p"], [" b"])[0])
    assert not np.isnan(model_of().score(["p"], [long])[0]).any()


def test_mistakes_are_one_line():
    model = model_of()
    with pytest.raises(UserError, match="2 prompts, 1 completions: give as many"):
        model.score(["a", "b"], ["c"])
    with pytest.raises(UserError, match="text 1 has 303 tokens"):
        model.score(["a", "b"], ["c", "c" * 300])
    other = type(
        "Other", (Letters,), {"fingerprint": "other", "spelled": lambda self, ids: [b"?"] * len(ids)}
    )()
    with pytest.raises(UserError, match="not the policy's"):
        model.require_policy(other, "lines")
    alike = type("Alike", (Letters,), {"fingerprint": "tokenizer.json"})()
    model.require_policy(alike, "lines")
    assert not same_ids(TOKENIZER, type("More", (Letters,), {"fingerprint": "x", "vocab_size": 101})())


def test_another_model_s_parameters():
    model = RewardModel(CONFIG, Form(PLUS_MINUS), TOKENIZER, single_device_mesh())
    model.load(init_params(CONFIG, 0, single_device_mesh()))
    first = model.score(PROMPTS[:3], TEXTS[:3])
    model.load(init_params(CONFIG, 1, single_device_mesh()))
    assert all((a != b).all() for a, b in zip(first, model.score(PROMPTS[:3], TEXTS[:3]), strict=True))
    model.unload()
    with pytest.raises(UserError, match="model config"):
        model.load(init_params(dataclasses.replace(CONFIG, n_layers=0), 1, single_device_mesh()))
