"""A reward model's folder: out and in again, refused where something is missing or wrong; a released one described."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dsm_jax.data.problems import ProblemSet
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.hf_folder import HUB_FILES
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.folder import (
    describe_reward_model,
    load_reward_model,
    read_form,
    save_reward_model,
)
from dsm_jax.rl.reward_model.form import FILE, Form
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece
from tests.rl.reward_model.cases import CONFIG, MESH, solutions

MODEL = dataclasses.replace(CONFIG, vocab_size=384)
ROWS = solutions(6)
TEXTS = [row.prompt for row in ROWS], [row.completion for row in ROWS]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [row.prompt + row.completion for row in solutions(200)]
    texts += [ProblemSet("train")[i].question for i in range(200)]
    train_sentencepiece(texts, path, vocab_size=300, symbols=("+", "-", "ки"))
    return path


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "rm"
    save_reward_model(
        Model(MODEL, init_params(MODEL, 0, single_device_mesh())), Form(Readout(301)), out, tokenizer
    )
    return out


@pytest.mark.parametrize("devices", [1, 8])
def test_a_round_trip_keeps_every_score(folder, tokenizer, devices):
    mesh = single_device_mesh() if devices == 1 else parse_mesh((MESH,))
    before = RewardModel(
        Model(MODEL, init_params(MODEL, 0, mesh)), Form(Readout(301)), load_tokenizer(tokenizer)
    )
    after = load_reward_model(folder, mesh)
    assert after.form == before.form
    for ours, theirs in zip(after.score(*TEXTS), before.score(*TEXTS), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    after.require_policy(load_tokenizer(tokenizer), "lines")  # tokenizer.json of the same pieces


def test_a_download_from_the_hub_brings_the_form():
    assert FILE in HUB_FILES


def test_every_entry_comes_back(folder, tokenizer, tmp_path):
    form = Form(Readout(5, 6), "outcome", "sentences", " ки", "logit")
    save_reward_model(Model(MODEL, init_params(MODEL, 0, single_device_mesh())), form, tmp_path, tokenizer)
    assert read_form(tmp_path) == form
    written = json.loads((tmp_path / "reward_model.json").read_text())
    assert written.pop("tokenizer") == load_tokenizer(tmp_path).fingerprint
    assert written == {
        "plus": 5, "minus": 6, "kind": "outcome", "splitting": "sentences", "step_tag": " ки", "scale": "logit",
    }  # fmt: skip


def test_a_model_that_writes_plus_or_minus_at_a_tag(tokenizer, tmp_path):
    save_hf(Model(MODEL, init_params(MODEL, 0, single_device_mesh())), tmp_path, tokenizer)
    with pytest.raises(UserError, match=r"has no reward_model.json: train one .*describe_reward_model"):
        load_reward_model(tmp_path)
    describe_reward_model(tmp_path, step_tag=" ки")
    model, own = load_reward_model(tmp_path), load_tokenizer(tmp_path)
    assert [own.decode([token]) for token in model.form.readout.ids] == ["+", "-"]
    # As the released reference reads it: a softmax of two logits at each tag of the text.
    text = ROWS[0].prompt + "".join(
        ROWS[0].completion[start:end] + " ки"
        for start, end in zip((0, *ROWS[0].ends), ROWS[0].ends, strict=False)
    )
    ids = np.array([own.bos_id, *own.encode(text)])
    logits = np.float64(Model(MODEL, init_params(MODEL, 0, single_device_mesh())).logits(ids[None]))[0]
    pairs = np.exp(logits[ids == own.encode("ки")[0]][:, list(model.form.readout.ids)])
    assert len(pairs) == len(ROWS[0].ends)
    found = model.score(TEXTS[0][:1], TEXTS[1][:1])[0]
    np.testing.assert_allclose(found, pairs[:, 0] / pairs.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"plus": 384}, "plus is 384; it must be a token's id below 384"),
        ({"minus": "-"}, "minus is '-'"),
        ({"minus": 301}, "plus and minus are both token 301"),
        ({"kind": "both"}, "kind is 'both'; it must be one of process, outcome"),
        ({"step_tag": 7}, "step_tag is 7"),
        ({"step_tag": " "}, "step_tag is empty"),
        ({"extra": 1}, "its entries must be kind, minus, plus"),
        ({"tokenizer": "another"}, "not the one that the model was trained with"),
    ],
)
def test_a_wrong_entry_is_one_line(folder, change, line):
    file = folder / "reward_model.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(UserError, match=line):
            read_form(folder)
    finally:
        file.write_text(before)


def test_transformers_reads_the_same_probabilities(folder):
    """The exported folder by transformers: its ids, and the sigmoid of its logit at the last token of each step."""
    torch = pytest.importorskip("torch", reason="no torch here: pip install -e .[torch]")
    transformers = pytest.importorskip("transformers", reason="no transformers here: pip install -e .[torch]")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_reward_model(folder)
    for prompt, completion, found in zip(*TEXTS, ours.score(*TEXTS), strict=True):
        ids, places = ours.read(prompt, completion)
        own = tokenizer.encode(completion, add_special_tokens=False)
        assert [*tokenizer.encode(prompt), *own, tokenizer.eos_token_id] == ids
        with torch.no_grad():
            logits = theirs(torch.tensor([ids])).logits[0, places, 301].numpy()
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.float64(logits))), atol=1e-5)
