"""GRPO's memory against PPO's with a critic as large as the policy (DeepSeekMath, section 4.1.1): measured and computed.

Measured: the buffers that XLA gives the compiled programs of an update, on top of the state that is alive while they run.
Computed: rl/memory.py's formulas, for models that are not here. Left out on purpose of the measured part: the rollout, which
is the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.mesh import batch_sharding
from dsm_jax.model.config import ModelConfig
from dsm_jax.rl.memory import Memory, grpo_memory
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.loop import Paradigm
from dsm_jax.rl.update import Learner, Whole, gradient_program
from dsm_jax.train.memory import bytes_of

COLUMNS = ("mask", "advantages", "sampler_logps", "returns", "values")  # fp32 [rows, T]


@dataclass(frozen=True)
class ProgramMemory:
    """Bytes that a compiled program has on the first device (compiled.memory_analysis())."""

    name: str
    arguments: int
    temporaries: int
    outputs: int
    aliased: int  # outputs that lie where arguments lay
    state: int  # of the arguments, what is alive anyway

    @property
    def beyond(self) -> int:
        """What it needs besides the state."""
        return self.arguments + self.temporaries + self.outputs - self.aliased - self.state


def ppo_memory(config: ParadigmTraining, model: ModelConfig, mesh: Mesh) -> Memory:
    """What PPO needs on each device: GRPO's, and the critic's parameters and moments all the time.

    Gradients and activations are of one of the two models at a time.
    """
    grpo = grpo_memory(config.training, model, mesh)
    critic = grpo_memory(replace(config.training, optimizer=config.critic), model, mesh)
    return replace(
        grpo, parameters=grpo.parameters + critic.parameters, moments=grpo.moments + critic.moments
    )


def held_bytes(paradigm: Paradigm) -> dict[str, int]:
    """Of the state that is alive all the time, on the first device."""
    state = paradigm.target()
    found = {
        "policy": bytes_of(state.train.params),
        "its moments": bytes_of(state.train.opt_state),
        "reference": bytes_of(state.reference),
    }
    if state.critic:
        found |= {
            "critic": bytes_of(state.critic.params),
            "the critic's moments": bytes_of(state.critic.opt_state),
        }
    return found


def measured_programs(paradigm: Paradigm, rows: int, width: int) -> list[ProgramMemory]:
    """The programs of an update whose micro-batches have so many rows and columns, compiled from shapes alone."""
    state, batch = paradigm.target(), _abstract_batch(paradigm.mesh, rows, width)
    in_loss = state.reference if paradigm.method.reference_in_loss else None
    found = _of_learner("policy", paradigm, paradigm.learner, state.train, in_loss, batch)
    critic = paradigm.critic
    if critic and state.critic:
        found += _of_learner("critic", paradigm, critic.learner, state.critic, None, batch)
        for name, program, params in (
            ("policy's log-probabilities", critic.logps, state.train.params),
            ("reference's log-probabilities", critic.logps, state.reference),
            ("values", critic.values, state.critic.params),
        ):
            found.append(_measure(name, paradigm.mesh, program, (params, batch), state=(params,)))
    return found


def _of_learner(
    name: str, paradigm: Paradigm, learner: Learner, train: Any, reference: Any, batch: dict
) -> list[ProgramMemory]:
    mesh, params = paradigm.mesh, train.params
    gradients = gradient_program(learner.config, paradigm.model, mesh, learner.objective, learner.forward)
    whole = Whole(batch["tokens"].shape[0], batch["tokens"].shape[0] * batch["tokens"].shape[1])
    arguments = params, params, reference, batch, whole
    return [
        _measure(f"{name}'s gradients", mesh, gradients, arguments, state=(params, reference)),
        _measure(f"{name}'s optimiser", mesh, learner.apply, (train, params), state=(train,)),
    ]


def _measure(name: str, mesh: Mesh, program: Any, arguments: tuple, *, state: tuple) -> ProgramMemory:
    with jax.set_mesh(mesh):
        sizes = program.lower(*arguments).compile().memory_analysis()
    return ProgramMemory(
        name,
        sizes.argument_size_in_bytes,
        sizes.temp_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.alias_size_in_bytes,
        bytes_of(state),
    )


def _abstract_batch(mesh: Mesh, rows: int, width: int) -> dict[str, jax.ShapeDtypeStruct]:
    ids, numbers = dict.fromkeys(("tokens", "segment_ids"), np.int32), dict.fromkeys(COLUMNS, np.float32)
    return {
        name: jax.ShapeDtypeStruct((rows, width), dtype, sharding=batch_sharding(mesh))
        for name, dtype in (ids | numbers).items()
    }
