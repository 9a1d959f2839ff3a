"""Scores of sampled answers in files: those of the reward model, once for each file."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.evaluate.samples import Sample, chunk_file, write_samples
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.reward_model.scored_samples import read_scores, score_samples
from dsm_jax.rl.steps.segments import step_ends
from tests.rl.reward_model.cases import CONFIG, PLUS_MINUS, TOKENIZER

TEXTS = (" 3+4=7\nThe answer is \\boxed{7}.", "", " 5", " 1\n" * 400)
PROMPTS = {"a": "User: What is 3+4?\n\nAssistant:", "b": "User: 5?\n\nAssistant:"}


def reward_model(kind: str) -> RewardModel:
    model = Model(CONFIG, init_params(CONFIG, 0, single_device_mesh()))
    return RewardModel(model, Form(PLUS_MINUS, kind), TOKENIZER)


def sample(name: str, number: int, text: str, finish: str = "stop") -> Sample:
    return Sample(
        "questions", "zero_shot_cot", name, "", "", "en", "7", number, "", text, finish, 1, "", None,
        {"strict": False}, "", None,
    )  # fmt: skip


@pytest.fixture
def samples(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for place, name in enumerate(PROMPTS):
        rows = [sample(name, number, text) for number, text in enumerate(TEXTS)]
        write_samples(chunk_file(folder, place), rows)
    return folder


@pytest.mark.parametrize("kind", ["process", "outcome"])
def test_scores_are_the_models(samples, tmp_path, kind):
    model = reward_model(kind)
    score_samples(model, samples, tmp_path / "scores", PROMPTS)
    found = read_scores(tmp_path / "scores")
    assert set(found) == {(name, number) for name in PROMPTS for number in range(len(TEXTS))}
    for (name, number), one in found.items():
        text = TEXTS[number]
        if number in (1, 3):  # no text; longer than the model reads
            assert one.ends == () and not len(one.scores)
            continue
        assert one.ends == (step_ends(text) if kind == "process" else (len(text),))
        (wanted,) = model.score([PROMPTS[name]], [text], scale="probability")
        np.testing.assert_allclose(one.scores, wanted, rtol=1e-4)


@pytest.mark.parametrize("kind", ["process", "outcome"])
def test_a_text_that_was_cut_is_scored_without_an_end(tmp_path, kind):
    """As its tokens are in training with rewards."""
    folder = tmp_path / "samples"
    folder.mkdir()
    write_samples(
        chunk_file(folder, 0), [sample("a", i, TEXTS[0], how) for i, how in enumerate(("length", "stop"))]
    )
    model = reward_model(kind)
    score_samples(model, folder, tmp_path / "scores", PROMPTS)
    found, tokens = read_scores(tmp_path / "scores"), TOKENIZER.encode(TEXTS[0])
    for number, own in enumerate((tokens, [*tokens, TOKENIZER.eos_id])):
        (wanted,) = model.score([PROMPTS["a"]], [own], scale="probability")
        np.testing.assert_allclose(found["a", number].scores, wanted, rtol=1e-4)
    assert found["a", 0].scores[-1] != found["a", 1].scores[-1]


def test_what_is_there_is_not_scored_again(samples, tmp_path):
    model, folder = reward_model("process"), tmp_path / "scores"
    score_samples(model, samples, folder, PROMPTS)
    files = sorted(folder.iterdir())
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    model.unload()
    with pytest.raises(RuntimeError, match="load parameters first"):  # there is something to score
        score_samples(model, samples, folder, PROMPTS)
    score_samples(reward_model("process"), samples, folder, PROMPTS)
    assert [file.read_bytes() for file in files] == before
    score_samples(model, samples, folder, PROMPTS)  # nothing is
