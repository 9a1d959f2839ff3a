"""Does a GRPO run fit? The memory that grpo.py needs on each device, from shapes alone, against what is there.

Held all the time: the fp32 master, its two AdamW moments, and with a KL the reference policy in the compute dtype (each
split over fsdp x tensor), and the trained models that give rewards (each as a decode copy). On top of that, by phase,
- the rollout: the decode copy in the compute dtype (split over tensor only), and what sample/memory.py says of the sampler's
  caches and steps;
- the update, before which those are freed (but with `overlap`): two fp32 gradients (the sum so far and a micro-batch's own)
  and the activations of a micro-batch.

The state is counted exactly. The rest is an estimate: prompts are taken to have PROMPT_TOKENS tokens, and
activations are counted as XLA was seen to keep them. Left out on purpose: the host's memory on GPU and TPU, and
other processes' devices: of several hosts each looks at its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import jax
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.memory import available_memory
from dsm_jax.mesh import Rules, batch_shards
from dsm_jax.model.config import ModelConfig, param_count
from dsm_jax.model.params import check_mesh, param_shapes, param_specs
from dsm_jax.processes import is_first_process
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.micro_batches import padded, rows_of
from dsm_jax.rl.reference import reference_target
from dsm_jax.sample.memory import groups_bytes
from dsm_jax.train.memory import activation_bytes, bytes_of
from dsm_jax.train.optimizer import make_optimizer
from dsm_jax.train.step import abstract_state

PROMPT_TOKENS = 256  # a word problem and the instruction, with room
GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    parameters: int  # fp32 master
    moments: int  # of AdamW
    reference: int
    judges: int  # decode copies of reward models
    decode_copy: int
    gradients: int
    activations: int  # of the update
    sampling: int  # caches, and arrays of a decode step or a prefill
    overlap: bool = False  # rollout and update at once

    @property
    def held(self) -> int:
        return self.parameters + self.moments + self.reference + self.judges

    @property
    def rollout(self) -> int:
        return self.held + self.decode_copy + self.sampling

    @property
    def update(self) -> int:
        return self.held + self.gradients + self.activations

    @property
    def peak(self) -> int:
        both = self.rollout + self.update - self.held
        return both if self.overlap else max(self.rollout, self.update)

    def __str__(self) -> str:
        held = _told(parameters=self.parameters, moments=self.moments, reference=self.reference)
        held += f", {_told(reward_models=self.judges)}" if self.judges else ""
        rollout = _told(decode_copy=self.decode_copy, caches_and_steps=self.sampling)
        update = _told(gradients=self.gradients, activations=self.activations)
        return f"{held}; rollout {self.rollout / GB:.3g} with {rollout}; update {self.update / GB:.3g} with {update}"


def _told(**parts: int) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {size / GB:.3g}" for name, size in parts.items())


def require_memory(
    config: GRPOTraining,
    model: ModelConfig,
    mesh: Mesh,
    *,
    remedy: str,
    judges: Sequence[ModelConfig] = (),
    available: int | None = None,
) -> Memory:
    """The run's memory, which stderr gets too; UserError where it does not fit, or the mesh does not divide the model.

    judges: the models that give rewards. remedy: what the error tells the user to do. available: bytes on a device, measured
    where it is None; where the backend does not say, nothing is refused.
    """
    check_mesh(model, mesh)
    needed = grpo_memory(config, model, mesh, judges)
    here = available_memory(mesh) if available is None else available
    platform = mesh.devices.flat[0].platform
    place = f"on each of {mesh.size} {platform} devices" if mesh.size > 1 else f"on the {platform}"
    needs = f"GRPO of {param_count(model) / GB:.3g}B parameters needs {needed.peak / GB:.3g} GB {place} ({needed})"
    if here is not None and needed.peak > here:
        raise UserError(f"{needs}, but there are {here / GB:.3g} GB; {remedy}")
    if is_first_process():
        there = (
            f"how much there is, the {platform} does not say" if here is None else f"of {here / GB:.3g} GB"
        )
        print(f"{needs}, {there}", file=sys.stderr)
    return needed


def grpo_memory(
    config: GRPOTraining, model: ModelConfig, mesh: Mesh, judges: Sequence[ModelConfig] = ()
) -> Memory:
    """What a run needs on each device of the mesh."""
    optimizer, _ = make_optimizer(config.optimizer, config.loop.steps)
    state = abstract_state(replace(model, lora=config.lora), optimizer, mesh)
    width = padded(sequence_length(config, model))
    parameters = bytes_of(state.params)
    moments = bytes_of(state.opt_state)
    reference = reference_target(replace(model, lora=config.lora), mesh) if config.holds_reference else None
    return Memory(
        parameters=parameters,
        moments=moments,
        reference=bytes_of(reference),
        judges=sum(_decode_copy(judge, mesh) for judge in judges),
        decode_copy=_decode_copy(model, mesh),
        gradients=2 * parameters,
        activations=activation_bytes(
            model,
            mesh,
            rows_of(width, config.micro_batch_tokens, batch_shards(mesh)) // batch_shards(mesh),
            width,
            config.remat,
        ),
        sampling=groups_bytes(
            model,
            mesh,
            prompts=config.prompts_per_rollout,
            n=config.num_generations,
            prompt_tokens=min(PROMPT_TOKENS, model.max_seq_len),
            new_tokens=config.max_completion_length,
            slots=config.slots,
        ),
        overlap=config.overlap,
    )


def sequence_length(config: GRPOTraining, model: ModelConfig) -> int:
    """Longest prompt and completion that the estimate counts on, in tokens."""
    return min(PROMPT_TOKENS + config.max_completion_length, model.max_seq_len)


def _itemsize(model: ModelConfig) -> int:
    return jax.numpy.dtype(model.dtype).itemsize


def _bytes(leaf: jax.ShapeDtypeStruct, spec: jax.sharding.PartitionSpec, mesh: Mesh) -> int:
    """Bytes of one device's part."""
    axes = [axis for entry in spec if entry for axis in ((entry,) if isinstance(entry, str) else entry)]
    return prod(leaf.shape) * leaf.dtype.itemsize // prod(mesh.shape[axis] for axis in axes)


def _decode_copy(model: ModelConfig, mesh: Mesh) -> int:
    """The parameters in the compute dtype, whole along fsdp."""
    specs = param_specs(model, rules=Rules(embed=None))
    fp32 = sum(
        jax.tree.leaves(jax.tree.map(lambda leaf, spec: _bytes(leaf, spec, mesh), param_shapes(model), specs))
    )
    return fp32 * _itemsize(model) // 4
