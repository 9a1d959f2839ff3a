"""decode_attention: two partial softmaxes, merged, are one softmax over all keys."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import attention
from dsm_jax.model.attention import Seats, decode_attention

ROWS, PLACES, ROOM, HEADS, GROUP, WIDTH, PREFIX, OWN = 12, 5, 4, 2, 3, 16, 64, 32
UNIT = 2.0**-8  # of bf16: half the distance between neighbours, as a share
# What rounding explains, beside the inputs, which the reference has rounded too: each weight and the result, one UNIT each
# at most. Each is a share of a weighted mean of |v|.
BF16 = 2.01 * UNIT


@lru_cache
def case(dtype: str) -> tuple:
    """Random lengths; rows on different places and seats, some places full and some empty; some prefixes empty."""
    rng = np.random.default_rng(3)

    def normal(*shape: int, scale: float = 1.0) -> jax.Array:
        return jnp.asarray(scale * rng.standard_normal(shape), dtype)

    q = normal(ROWS, HEADS, GROUP, WIDTH, scale=8.0 if dtype == "bfloat16" else 3.0)
    own = normal(ROWS, HEADS, WIDTH, OWN), normal(ROWS, HEADS, OWN, WIDTH)
    shared = normal(PLACES, HEADS, WIDTH, PREFIX), normal(PLACES, HEADS, PREFIX, WIDTH)
    of_row = np.concatenate(
        [np.arange(4), rng.permutation(np.arange(4, 4 * ROOM))[: ROWS - 4]]
    )  # place 4: nobody
    on_seats = np.zeros(PLACES * ROOM, np.int32)
    on_seats[of_row] = np.arange(ROWS)
    prefixes = np.where(np.arange(ROWS) % 4 == 1, 0, rng.integers(1, PREFIX + 1, ROWS))
    prefixes[0] = PREFIX
    lengths = rng.integers(0, OWN, ROWS)
    lengths[:2] = 0, OWN - 1
    numbers = (on_seats.reshape(PLACES, ROOM), of_row, prefixes, lengths)
    return q, own, shared, Seats(*(jnp.asarray(number, jnp.int32) for number in numbers))


def reference(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """One softmax in fp64 over all keys of each row, and the weighted mean of the values' sizes."""
    q, own, shared, seats = jax.tree.map(lambda a: np.asarray(a, np.float64), case(dtype))
    means = []
    for row in range(ROWS):
        place, prefix, length = (
            int(seats.of_row[row]) // ROOM, int(seats.prefixes[row]), int(seats.own[row]) + 1,
        )  # fmt: skip
        k = np.concatenate([shared[0][place, :, :, :prefix], own[0][row, :, :, :length]], axis=2)
        v = np.concatenate([shared[1][place, :, :prefix], own[1][row, :, :length]], axis=1)
        scores = q[row] @ k / WIDTH**0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        means.append((weights @ v, weights @ np.abs(v)))
    exact, sizes = zip(*means, strict=True)
    return np.stack(exact), np.stack(sizes)


def ours(dtype: str) -> np.ndarray:
    with jax.set_mesh(single_device_mesh()):
        return np.asarray(jax.jit(lambda *args: decode_attention(*args))(*case(dtype)), np.float64)


def test_in_fp32_it_is_one_softmax() -> None:
    np.testing.assert_allclose(ours("float32"), reference("float32")[0], atol=1e-6, rtol=0)


def test_in_bf16_it_errs_by_rounding_only() -> None:
    exact, sizes = reference("bfloat16")
    share = np.abs(ours("bfloat16") - exact) / sizes
    print(f"largest error: {share.max() / UNIT:.2f} units of bf16")
    assert share.max() <= BF16


def test_a_merge_in_bf16_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails where the partial softmaxes' logarithms are rounded to bf16."""

    def log_sum_exp(part: tuple) -> jax.Array:
        return (part[2] + jnp.log(part[1])).astype(jnp.bfloat16).astype(jnp.float32)

    def merged(first: tuple, second: tuple) -> jax.Array:
        parts = [(part[0] / part[1], jnp.ones_like(part[1]), log_sum_exp(part)) for part in (first, second)]
        return right(*parts)

    right = attention._merged
    monkeypatch.setattr(attention, "_merged", merged)
    exact, sizes = reference("bfloat16")
    assert (np.abs(ours("bfloat16") - exact) / sizes).max() > 2 * BF16
