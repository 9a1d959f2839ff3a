"""The ledger of a training run: numbers by hand, arrays that were made, and what XLA says of a compiled step."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, parse_mesh, single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, SMOKE, LoRA, ModelConfig
from dsm_jax.train import memory, pretrain
from dsm_jax.train.lm import LMTraining
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.memory import bytes_of, require_memory, training_memory
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import abstract_state, make_train_step

MODEL = ModelConfig(4096, 256, 4, 4, 4, 64, 688)
TRAINING = LMTraining(LoopConfig(1), OptimizerConfig(1e-3, schedule="constant"), batch_size=8, window=256)


def test_7b_by_hand():
    """6.91e9 parameters; on one device, with the moments in bf16 as 139 GiB need it."""
    config = replace(pretrain.DEEPSEEK_MATH_7B, batch_size=1, micro_batch_rows=1)
    config = replace(config, optimizer=replace(config.optimizer, moments="bfloat16"))
    needed = training_memory(config, replace(DEEPSEEK_MATH_7B, dtype="bfloat16"), single_device_mesh())
    assert needed.master / 1e9 == pytest.approx(27.64, abs=0.01)
    assert needed.moments / 1e9 == pytest.approx(27.64, abs=0.01)
    assert needed.gradients / 1e9 == pytest.approx(27.64, abs=0.01)
    assert training_memory(replace(config, batch_size=2), DEEPSEEK_MATH_7B, single_device_mesh()).gradients == 2 * needed.gradients  # fmt: skip


@pytest.mark.parametrize("rank", [0, 4])
def test_lora_trains_little_and_holds_the_base(rank):
    mesh = parse_mesh("data=2,fsdp=2,tensor=2")
    needed = training_memory(replace(TRAINING, lora=LoRA(rank=rank)), SMOKE, mesh)
    whole = training_memory(TRAINING, SMOKE, mesh)
    assert needed.base == needed.merged == (whole.master if rank else 0)
    assert (needed.master < whole.master / 2) == bool(rank)


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
@pytest.mark.parametrize("rows", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_a_step_takes_about_what_is_estimated(remat, rows, monkeypatch):
    """XLA's temporary memory holds gradients and activations."""
    config, mesh = replace(TRAINING, remat=remat, micro_batch_rows=rows), single_device_mesh()
    optimizer, _ = make_optimizer(config.optimizer, 1)
    state = abstract_state(MODEL, optimizer, mesh)
    batch = {
        name: jax.ShapeDtypeStruct((8, 256), dtype, sharding=batch_sharding(mesh))
        for name, dtype in (("tokens", jnp.int32), ("segment_ids", jnp.int32), ("loss_mask", jnp.float32))
    }
    programs, jit = [], jax.jit
    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", lambda f, **options: programs.append(jit(f, **options)) or programs[-1])
        make_train_step(MODEL, optimizer, mesh, remat, micro_batches=8 // rows)
    with jax.set_mesh(mesh):
        compiled = programs[0].lower(state, batch, None).compile()
    found, needed = compiled.memory_analysis(), training_memory(config, MODEL, mesh)
    assert found.argument_size_in_bytes == pytest.approx(bytes_of((state, batch)), rel=0.01)
    assert 0.8 < (needed.gradients + needed.activations) / found.temp_size_in_bytes < 1.5


def test_what_fits_is_told_and_what_does_not_is_refused(monkeypatch, capsys):
    mesh = single_device_mesh()
    needed = require_memory(TRAINING, SMOKE, mesh)
    assert f"needs {needed.total / 1e9:.3g} GB on each of 1 devices (master " in capsys.readouterr().err
    monkeypatch.setattr(memory, "available_memory", lambda mesh: needed.total - 1)
    with pytest.raises(UserError, match="activations .* and there are 0.1: give more devices"):
        require_memory(TRAINING, SMOKE, mesh)
    monkeypatch.setattr(memory, "available_memory", lambda mesh: None)
    require_memory(TRAINING, SMOKE, mesh)
    assert "how many there are, they do not say" in capsys.readouterr().err
