"""The preflight of a GRPO run: numbers by hand, arrays that were made, and what XLA says of a compiled update."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.memory import available_memory
from dsm_jax.mesh import batch_sharding, parse_mesh, single_device_mesh
from dsm_jax.model import lora
from dsm_jax.model.config import DEEPSEEK_MATH_7B, SMOKE, LoRA, ModelConfig
from dsm_jax.model.params import init_params
from dsm_jax.rl import memory
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.memory import grpo_memory, require_memory
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.train.optimizer import make_optimizer
from dsm_jax.train.step import abstract_state, start_state

SMALL = GRPOTraining(max_completion_length=64, micro_batch_tokens=8 * 320, slots=8)


def gigabytes(size: int) -> float:
    return size / 1e9


def test_7b_on_one_device_by_hand():
    config = replace(GRPOTraining(), slots=64, max_completion_length=1024 - memory.PROMPT_TOKENS)
    needed = grpo_memory(config, DEEPSEEK_MATH_7B, single_device_mesh())
    # 6.91e9 parameters in fp32, two moments, the reference and the decode copy in bf16
    assert gigabytes(needed.parameters) == pytest.approx(27.64, abs=0.01)
    assert gigabytes(needed.moments) == pytest.approx(55.28, abs=0.02)
    assert gigabytes(needed.reference) == pytest.approx(13.82, abs=0.01)
    assert gigabytes(needed.gradients) == pytest.approx(55.28, abs=0.02)
    assert gigabytes(needed.decode_copy) == pytest.approx(13.82, abs=0.01)
    # 64 rows of 768 places and 6 prompts of 256, a cache that grows (one layer of it twice), 4 x 64 x 102,400 logits
    assert gigabytes(needed.sampling) == pytest.approx(24.16 + 0.75 + 0.81 + 0.10, rel=0.1)
    assert needed.rollout == needed.held + needed.decode_copy + needed.sampling
    assert needed.peak == needed.update > needed.held + needed.gradients  # the decode copy is freed before it


@pytest.mark.parametrize("rank", [0, 4])
def test_state_is_what_the_arrays_take_on_each_device(rank):
    """With LoRA what is trained is small, and the reference is the base."""
    mesh = parse_mesh(("data=2,fsdp=2,tensor=2",))
    config = replace(SMALL, lora=LoRA(rank=rank))
    model = replace(SMOKE, lora=config.lora)
    optimizer, _ = make_optimizer(config.optimizer, config.loop.steps)
    base = init_params(SMOKE, 0, mesh)
    state = start_state(model, optimizer, mesh, lora.start(model, base, 0, mesh))
    first = mesh.devices.flat[0]

    def bytes_on_first(tree) -> int:
        shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == first)

    needed = grpo_memory(config, SMOKE, mesh)
    assert needed.parameters == bytes_on_first(state.params)
    assert needed.moments == bytes_on_first(state.opt_state)
    assert needed.reference == bytes_on_first(base)
    assert (needed.parameters < needed.reference / 2) == bool(rank)
    without = grpo_memory(replace(config, loss=GRPOConfig(beta=0.0)), SMOKE, mesh)
    assert without == replace(needed, reference=needed.reference if rank else 0)


def test_decode_copy_and_cache_on_a_mesh():
    one = grpo_memory(SMALL, SMOKE, single_device_mesh())
    eight = grpo_memory(SMALL, SMOKE, parse_mesh(("fsdp=4,tensor=2",)))
    assert eight.sampling < one.sampling / 2  # each device has the logits of its rows whole
    assert 0.5 <= eight.decode_copy / one.decode_copy < 0.51  # whole along fsdp
    assert 0.125 <= eight.parameters / one.parameters < 0.13  # norms are on every device


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_the_update_takes_about_what_is_estimated(remat, monkeypatch):
    """XLA's temporary memory holds the activations and one gradient."""
    monkeypatch.setattr(memory, "PROMPT_TOKENS", 0)
    model = ModelConfig(4096, 256, 4, 4, 4, 64, 688)
    config = replace(SMALL, remat=remat, max_completion_length=256, micro_batch_tokens=8 * 256)
    mesh = single_device_mesh()
    params = abstract_state(model, make_optimizer(config.optimizer, 1)[0], mesh).params
    shapes = {name: (8, 256) for name in ("tokens", "segment_ids", "mask", "sampler_logps", "advantages")}
    batch = {
        name: jax.ShapeDtypeStruct(
            shape,
            np.int32 if name in ("tokens", "segment_ids") else np.float32,
            sharding=batch_sharding(mesh),
        )
        for name, shape in shapes.items()
    }
    programs, jit = [], jax.jit
    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", lambda f, **options: programs.append(jit(f, **options)) or programs[-1])
        make_gradients(config, model, mesh)
    with jax.set_mesh(mesh):
        update = programs[0].lower(params, params, params, batch, Whole(8, 8 * 256)).compile()
    needed = grpo_memory(config, model, mesh)
    estimate = needed.activations + needed.gradients // 2
    assert 0.85 < estimate / update.memory_analysis().temp_size_in_bytes < 1.5


def test_what_fits_passes_and_what_does_not_is_one_line():
    mesh = single_device_mesh()
    needed = require_memory(SMALL, SMOKE, mesh, remedy="", available=10**9)
    assert needed.peak < 10**9 < available_memory(mesh)
    with pytest.raises(UserError) as error:
        require_memory(SMALL, SMOKE, mesh, remedy="buy more", available=needed.peak - 1)
    assert "parameters 0.000" in str(error.value) and str(error.value).endswith("buy more")
    assert available_memory(parse_mesh()) < available_memory(mesh) / 7  # 8 fake devices share it


@pytest.mark.parametrize(
    ("mesh", "config", "part"),
    [
        ("tensor=8", SMALL, "n_kv_heads 4"),
    ],
)
def test_a_mesh_that_does_not_divide(mesh, config, part):
    with pytest.raises(UserError, match=part):
        require_memory(config, SMOKE, parse_mesh((mesh,)), remedy="")


def test_unknown_memory_refuses_nothing_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(memory, "available_memory", lambda mesh: None)
    require_memory(SMALL, SMOKE, single_device_mesh(), remedy="")
    err = capsys.readouterr().err
    assert "needs" in err and "the cpu does not say" in err and err.count("\n") == 1
