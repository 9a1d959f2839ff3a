"""Training learns a toy task, by tokens and by a scalar head, with LoRA too; it resumes, and any mesh gives the same."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import LoRA
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.examples import make_examples
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.loss import MASK
from dsm_jax.rl.reward_model.readout import Readout, start_params
from dsm_jax.rl.reward_model.train import held_out_metrics, make_scorer, of_epochs, train_reward_model
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.segments import step_ends
from dsm_jax.run import read_metrics
from dsm_jax.train.lm import LMTraining
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig
from tests.rl.reward_model.cases import CONFIG, MESH, PLUS_MINUS, TOKENIZER

MODEL = dataclasses.replace(CONFIG, n_layers=1, init_std=0.06)
TRAINING = LMTraining(
    LoopConfig(steps=40, log_every=10, checkpoint_every=20, stop_every=20),
    OptimizerConfig(peak_lr=1e-2, schedule="constant"),
    batch_size=8,
    window=64,
)


def toy(count: int = 800) -> list[Labelled]:
    """Steps of a letter: from the first x on, all are wrong."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        letters = rng.choice(list("abcx"), rng.integers(2, 6), p=(0.25, 0.25, 0.2, 0.3))
        text = " " + "\n".join(letters)
        labels = np.cumsum(letters == "x") == 0
        rows.append(Labelled("q", text, step_ends(text), tuple(map(float, labels)), question=str(number)))
    return rows


EXAMPLES = make_examples(toy(), Form(PLUS_MINUS), TOKENIZER, 64, held_out=2_000)


def train(folder, training=TRAINING, readout=PLUS_MINUS, mesh=None, look=None):
    mesh = mesh or single_device_mesh()
    return train_reward_model(
        training, MODEL, mesh, readout, EXAMPLES.train, folder=folder, look=look,
        start=lambda: start_params(MODEL, init_params(MODEL, 0, mesh), readout, mesh),
    )  # fmt: skip


def held_out(params, readout, mesh=None) -> dict[str, float]:
    return held_out_metrics(
        *make_scorer(MODEL, mesh or single_device_mesh(), readout, 8)(params, EXAMPLES.held_out_windows)
    )


CASES = {
    "tokens": (TRAINING, PLUS_MINUS),
    "scalar": (TRAINING, Readout(100)),
    "lora": (dataclasses.replace(TRAINING, lora=LoRA(rank=8), micro_batch_rows=4, remat="full"), PLUS_MINUS),
}


@pytest.mark.parametrize("case", CASES)
def test_a_toy_task_is_learned(case, tmp_path):
    training, readout = CASES[case]
    mesh = single_device_mesh()
    scorer = make_scorer(MODEL, mesh, readout, 8)
    params = train(
        tmp_path, training, readout, look=lambda p: held_out_metrics(*scorer(p, EXAMPLES.held_out_windows))
    )
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "auc" in row] == [20, 40]
    assert all(row["num_steps"] > 8 for row in rows if "loss" in row)
    found = held_out(params, readout)
    assert found["auc"] > 0.95 and found["bce"] < 0.35
    assert {name: rows[-1][name] for name in found} == pytest.approx(found, rel=1e-5)
    begun = held_out(start_params(MODEL, init_params(MODEL, 0, mesh), readout, mesh), readout)
    assert begun["bce"] > 0.6 and begun["auc"] < 0.8


def test_a_run_that_was_cut_short_ends_in_the_same_parameters(tmp_path):
    whole = train(tmp_path / "whole")
    half = dataclasses.replace(TRAINING, loop=dataclasses.replace(TRAINING.loop, steps=20))
    train(tmp_path / "cut", half)
    (tmp_path / "cut/done.json").unlink()
    jax.tree.map(np.testing.assert_array_equal, train(tmp_path / "cut"), whole)


def test_eight_devices_train_as_one_does(tmp_path):
    short = dataclasses.replace(
        TRAINING,
        loop=dataclasses.replace(TRAINING.loop, steps=4),
        optimizer=OptimizerConfig(peak_lr=1e-2, schedule="constant", eps=1e-4),
    )
    one = train(tmp_path / "one", short)
    eight = train(tmp_path / "eight", short, mesh=parse_mesh((MESH,)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, eight)


def test_epochs_give_the_number_of_updates_and_each_has_every_window(monkeypatch, tmp_path):
    assert of_epochs(TRAINING, 100, 3.0).loop.steps == 38  # of 8 windows
    assert of_epochs(TRAINING, 1, 0.1).loop.steps == 1
    taken = {}
    monkeypatch.setattr(
        "dsm_jax.rl.reward_model.train.train_lm", lambda *args, batch, **options: taken.update(batch=batch)
    )
    train(tmp_path)
    count = len(EXAMPLES.train)
    rows = np.concatenate([taken["batch"](step, range(8))["tokens"] for step in range(count // 4 + 1)])
    every = sorted(window["tokens"].tobytes() for window in EXAMPLES.train)
    for epoch in (rows[:count], rows[count : 2 * count]):
        assert sorted(row.tobytes() for row in epoch) == every
    assert (rows[:count] != rows[count : 2 * count]).any()


def test_held_out_windows_of_any_number_and_mesh_give_the_same():
    mesh = parse_mesh((MESH,))
    params = init_params(MODEL, 0, single_device_mesh()), init_params(MODEL, 0, mesh)
    ours = make_scorer(MODEL, single_device_mesh(), PLUS_MINUS, 3)(params[0], EXAMPLES.held_out_windows[:5])
    theirs = make_scorer(MODEL, mesh, PLUS_MINUS, 8)(params[1], EXAMPLES.held_out_windows[:5])
    assert len(ours[0]) == len(ours[1]) == sum(window[MASK].sum() for window in EXAMPLES.held_out_windows[:5])
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_what_a_reward_model_cannot_take_is_refused(tmp_path):
    with pytest.raises(UserError, match="z-loss is 0.1; a reward model has no such term"):
        train(tmp_path, dataclasses.replace(TRAINING, z_loss=0.1))
    with pytest.raises(UserError, match="LoRA trains no output column"):
        train(tmp_path, CASES["lora"][0], Readout(100))
