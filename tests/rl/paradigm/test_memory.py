"""GRPO's memory and PPO's: what is held is what the arrays take, and the programs that are measured are the loop's."""

import dataclasses

import jax
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B
from dsm_jax.model.params import init_params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.memory import grpo_memory
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.memory import held_bytes, measured_programs, ppo_memory
from tests.rl.paradigm.setting import CONFIG, make
from tests.rl.small import MODEL


@pytest.mark.parametrize("method", ["sft", "dpo", "ppo", "grpo"])
def test_what_is_held_is_what_the_arrays_take(method):
    mesh = parse_mesh(("data=2,fsdp=2,tensor=2",))
    paradigm = make(method, mesh=mesh)
    state = paradigm.start(init_params(MODEL, 0, mesh))
    first = mesh.devices.flat[0]
    there = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state._replace(train=state.train._replace(step=())))
        for shard in leaf.addressable_shards
        if shard.device == first
    )
    steps = 4 * (method == "ppo")  # the critic's counter of updates
    assert sum(held_bytes(paradigm).values()) == there - steps


def test_formulas_and_arrays_agree():
    mesh = single_device_mesh()
    grpo, ppo = grpo_memory(CONFIG.training, MODEL, mesh), ppo_memory(CONFIG, MODEL, mesh)
    assert grpo.held == sum(held_bytes(make("grpo")).values())
    assert ppo.held == sum(held_bytes(make("ppo")).values())


def test_a_critic_costs_the_7b_its_parameters_and_their_moments():
    mesh, training = single_device_mesh(), GRPOTraining()
    grpo = grpo_memory(training, DEEPSEEK_MATH_7B, mesh)
    ppo = ppo_memory(ParadigmTraining(training), DEEPSEEK_MATH_7B, mesh)
    assert ppo.peak - grpo.peak == grpo.parameters + grpo.moments
    assert 1.8 < ppo.held / grpo.held < 1.9


@pytest.mark.slow
def test_the_programs_of_an_update_are_measured():
    found = {
        method: {one.name: one for one in measured_programs(make(method), 8, 32)}
        for method in ("grpo", "ppo")
    }
    assert len(found["grpo"]) == 2 and len(found["ppo"]) == 7
    policy = make("grpo").target().train.params
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(policy))
    for programs in found.values():
        for name, one in programs.items():
            if "gradients" in name:  # the sum so far lies in place; one more gradient and the activations
                assert one.aliased >= size and one.temporaries > size
            if "optimiser" in name:  # the state lies in place
                assert one.aliased > 3 * size and one.beyond < 3 * size
    longer = measured_programs(make("grpo"), 32, 32)
    assert longer[0].temporaries > found["grpo"]["policy's gradients"].temporaries
    assert dataclasses.replace(longer[1], name="") == dataclasses.replace(
        found["grpo"]["policy's optimiser"], name=""
    )
