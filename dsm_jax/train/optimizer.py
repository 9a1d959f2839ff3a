"""AdamW with the paper's settings: clip, moments, decay of matrices, learning-rate schedule, all of it optax.

Left out on purpose: presets (they stand beside the stage that they are for).
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dsm_jax.errors import UserError

Schedule = Literal["multi_step", "cosine", "constant"]
SLOWEST_IN_BF16 = 0.99  # decay of a moment; bf16 numbers lie 0.4 to 0.8% apart


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule. The defaults are those of DeepSeekMath 2.2.1; clipping is DeepSeek LLM's."""

    peak_lr: float  # learning rate after the warm-up
    warmup_steps: int = 0  # updates of linear warm-up; 0 starts at the peak
    schedule: Schedule = "multi_step"  # what follows the warm-up
    b1: float = 0.9  # decay of the first moment
    b2: float = 0.95  # decay of the second moment
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.1  # decoupled, of matrices only
    clip_norm: float = 1.0  # largest global norm of the gradient
    # what both are stored in; they are computed in float32
    moments: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("peak_lr", "eps", "clip_norm"):
            if not getattr(self, name) > 0:
                raise UserError(f"optimizer: {name} is {getattr(self, name)}; it must be above 0")
        for name in ("warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise UserError(f"optimizer: {name} is {getattr(self, name)}; it must not be negative")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer: {name} is {getattr(self, name)}; it must lie in [0, 1)")
            if self.moments == "bfloat16" and getattr(self, name) > SLOWEST_IN_BF16:
                raise UserError(
                    f"optimizer: {name} is {getattr(self, name)}, at which a moment in bfloat16 stands still (its steps are "
                    f"below a rounding): take at most {SLOWEST_IN_BF16}, or moments float32"
                )


def make_schedule(config: OptimizerConfig, total: int) -> optax.Schedule:
    """Learning rate of update 0, 1, .. of a run of `total` updates.

    Warm-up: update i has peak * (i + 1) / warmup_steps, so that no update is without effect. Then
    multi_step: the peak, 0.316 of it from 80% of the updates on, 0.10 from 90% on (DeepSeekMath 2.2.1);
    cosine: from the peak to 0.10 of it; constant: the peak.
    """
    peak, warmup = config.peak_lr, config.warmup_steps
    _check_warmup(config, total)
    if config.schedule == "multi_step":
        falls = {share_of(total, 8) - warmup: 0.316, share_of(total, 9) - warmup: 0.10 / 0.316}
        after = optax.piecewise_constant_schedule(peak, falls)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, total - warmup, alpha=0.10)
    else:
        after = optax.constant_schedule(peak)
    if warmup == 0:
        return after
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, after], [warmup])


def share_of(total: int, tenths: int) -> int:
    """The first step at which `tenths` tenths of `total` updates are done."""
    return -(-total * tenths // 10)


def _check_warmup(config: OptimizerConfig, total: int) -> None:
    fall = share_of(total, 8) if config.schedule == "multi_step" else total
    if config.warmup_steps >= fall and config.schedule != "constant":
        raise UserError(
            f"optimizer: {config.warmup_steps} warmup_steps do not end before {config.schedule} falls "
            f"(step {fall} of {total}): give fewer"
        )


def make_optimizer(
    config: OptimizerConfig, total: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Clipping by global norm, then AdamW, for a run of `total` updates; and its schedule, for the metrics."""
    schedule = make_schedule(config, total)
    adamw = optax.adamw(
        schedule, config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=decayed
    )
    if config.moments == "bfloat16":
        adamw = stored_in_bf16(adamw)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw), schedule


def stored_in_bf16(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation with its fp32 state kept in bf16 between updates (optax itself casts the first moment
    only)."""

    def cast(state: Any, old: Any, new: Any) -> Any:
        return jax.tree.map(
            lambda leaf: leaf.astype(new) if getattr(leaf, "dtype", None) == old else leaf, state
        )

    def init(params: Any) -> Any:
        return cast(inner.init(params), jnp.float32, jnp.bfloat16)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(gradients, cast(state, jnp.bfloat16, jnp.float32), params)
        return updates, cast(state, jnp.float32, jnp.bfloat16)

    return optax.GradientTransformation(init, update)


def decayed(params: Any) -> Any:
    """True for the parameters that weight decay shrinks: matrices, but no norms or biases.

    By name, because the norms of stacked layers have two axes too.
    """

    def is_matrix(path: tuple[Any, ...], leaf: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return leaf.ndim >= 2 and "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(is_matrix, params)
