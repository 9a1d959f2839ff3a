"""Names and layouts of the tensors in a Hugging Face folder, against our parameter tree.

A linear map is stored [outputs, inputs] there, [*inputs, *outputs] here, with heads as axes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from dsm_jax.model.config import ModelConfig

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """One of our parameters (of one layer) in the folder."""

    tensor: str  # its name there, after "model.layers.N." where it is a layer's
    outputs: Axes  # our axes that the tensor's first axis joins
    inputs: Axes = ()  # our axes that its second axis joins

    @property
    def axes(self) -> Axes:
        """Our axes in the tensor's order."""
        return self.outputs + self.inputs

    def split(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Our shape -> the tensor's, each of our axes still one of its own."""
        return tuple(shape[axis] for axis in self.axes)

    def stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Our shape -> the tensor's as it is stored."""
        parts = [prod(shape[axis] for axis in axes) for axes in (self.outputs, self.inputs) if axes]
        return tuple(parts)

    @property
    def ours(self) -> Axes:
        """The permutation that brings the split tensor's axes into our order."""
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))


LAYER = {
    "attention_norm": Layout("input_layernorm.weight", (0,)),
    "q": Layout("self_attn.q_proj.weight", (1, 2, 3), (0,)),
    "k": Layout("self_attn.k_proj.weight", (1, 2), (0,)),
    "v": Layout("self_attn.v_proj.weight", (1, 2), (0,)),
    "o": Layout("self_attn.o_proj.weight", (3,), (0, 1, 2)),
    "q_bias": Layout("self_attn.q_proj.bias", (0, 1, 2)),
    "k_bias": Layout("self_attn.k_proj.bias", (0, 1)),
    "v_bias": Layout("self_attn.v_proj.bias", (0, 1)),
    "q_norm": Layout("self_attn.q_norm.weight", (0,)),
    "k_norm": Layout("self_attn.k_norm.weight", (0,)),
    "mlp_norm": Layout("post_attention_layernorm.weight", (0,)),
    "gate": Layout("mlp.gate_proj.weight", (1,), (0,)),
    "up": Layout("mlp.up_proj.weight", (1,), (0,)),
    "down": Layout("mlp.down_proj.weight", (1,), (0,)),
}
OTHER = {
    "embed": Layout("model.embed_tokens.weight", (0,), (1,)),
    "final_norm": Layout("model.norm.weight", (0,)),
    "head": Layout("lm_head.weight", (1,), (0,)),
}


def leaf_name(path: tuple) -> str:
    """Our name of a parameter from its path in the tree."""
    return path[-1].key


def layout_of(name: str) -> Layout:
    return LAYER[name] if name in LAYER else OTHER[name]


def tensor_names(config: ModelConfig, name: str) -> list[str]:
    """The tensors of our parameter `name`: one, or one for each layer."""
    if name in OTHER:
        return [OTHER[name].tensor]
    return [f"model.layers.{layer}.{LAYER[name].tensor}" for layer in range(config.n_layers)]
