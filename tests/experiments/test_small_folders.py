"""The small models in a cache: made once, by one process, the completer from the policy."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.model import load_hf
from dsm_jax.train.loop import LoopConfig
from tests.experiments.scripts import EXPERIMENTS, load_script

HOLDER = """
import sys, time
from pathlib import Path
from small_folders import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def small_folders():
    return load_script("small_folders")


@pytest.fixture(scope="module")
def small_model():
    return load_script("small_model")


def test_two_processes_do_not_make_the_small_model_at_once(small_folders, small_model, tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, cwd=EXPERIMENTS, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"process {holder.pid} is making this model"):
                small_folders.make_policy(small_model.SMOKE_MODEL, tmp_path)
        finally:
            holder.kill()
    with small_folders.locked(tmp_path):  # a killed holder's lock is free, its file stays
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_folder_names_the_whole_recipe(small_folders, small_model, tmp_path):
    small, further = small_model.SMOKE_MODEL, small_model.SMOKE_MODEL.sft
    policy = small_folders.policy_folder(tmp_path, "smoke", small)
    assert policy != small_folders.policy_folder(tmp_path, "smoke", replace(small, sft_problems=301))
    completer = small_folders.completer_folder(tmp_path, "smoke", small, further)
    others = {
        small_folders.completer_folder(tmp_path, "smoke", replace(small, sft_problems=301), further),
        small_folders.completer_folder(tmp_path, "smoke", small, replace(further, batch_size=4)),
    }
    assert completer not in {policy, *others} and len(others) == 2


def test_the_two_models_of_process_supervision_have_folders_of_their_own(small_folders, tmp_path):
    folders = [
        folder for preset in small_folders.STEPS for folder in small_folders.steps_folders(tmp_path, preset)
    ]
    assert len(set(folders)) == 4 and {folder.parent for folder in folders} == {tmp_path}


@pytest.mark.slow
def test_the_completer_goes_on_from_the_policy_and_both_are_made_once(
    small_folders, small_model, tmp_path, monkeypatch
):
    short = replace(small_model.SMOKE_MODEL.sft, loop=LoopConfig(steps=12, stop_every=6))
    small = replace(small_model.STEPS_SMOKE_MODEL, sft=short, sft_stop=0, sft_stop_family=0, sft_stop_boxed=0)
    small = replace(small, pretrain=replace(small.pretrain, loop=LoopConfig(steps=10)))
    further = replace(short, optimizer=replace(short.optimizer, peak_lr=1e-6, warmup_steps=0))
    monkeypatch.setitem(small_folders.STEPS, "smoke", (small, further))
    folders = small_folders.make_steps_models(tmp_path, "smoke")
    made = [(folder / "model.safetensors").stat() for folder in folders]
    assert small_folders.make_steps_models(tmp_path, "smoke") == folders
    assert [(folder / "model.safetensors").stat() for folder in folders] == made
    first, second = (jax.tree.leaves(load_hf(folder).params) for folder in folders)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))
    # Adam moves a number by about its learning rate an update: nothing learned would be 0, another start about 0.1.
    assert 1e-6 < moved < 1e-4
