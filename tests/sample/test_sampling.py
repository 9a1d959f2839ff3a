"""Draws follow the truncated softmax, whatever the neighbours ask for; the reference sorts, in float64 numpy."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.mesh import BATCH, batch_sharding, parse_mesh
from dsm_jax.sample.sampling import Drawn, Sampling, draw, token_key, truncate

TRUNCATE = jax.jit(truncate)
INF = np.inf
# Of chi-square at 1 - 1e-4, by degrees of freedom.
QUANTILES = [0.0, 15.1, 18.4, 21.1, 23.5, 25.7, 27.9, 29.9, 31.8, 33.7, 35.6, 37.4]


@jax.jit
def draw_at(logits: jax.Array, keys: jax.Array, positions: jax.Array, sampling: Sampling) -> Drawn:
    """Each row's token at its position."""
    return draw(logits, jax.vmap(token_key)(keys, positions), sampling)


class Ask(NamedTuple):
    """One row's settings."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


MIXED = [
    Ask(),
    Ask(temperature=0.7),
    Ask(temperature=0.0),
    Ask(top_p=0.8),
    Ask(top_k=5),
    Ask(min_p=0.1),
    Ask(temperature=1.3, top_p=0.9, top_k=40, min_p=0.02),
    Ask(temperature=0.0, top_p=0.5),
]


def sampling(asks: list[Ask]) -> Sampling:
    dtypes = Sampling(np.float32, np.float32, np.int32, np.float32)
    return Sampling(*(np.array(c, d) for c, d in zip(zip(*asks, strict=True), dtypes, strict=True)))


def keys(rows: int) -> np.ndarray:
    return np.random.default_rng(1).integers(2**32, size=(rows, 2), dtype=np.uint32)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 1.5).astype(np.float32)


def drawn(logits: np.ndarray, asks: list[Ask]) -> Drawn:
    rows = len(asks)
    return jax.device_get(draw_at(logits, keys(rows), np.arange(rows) + 17, sampling(asks)))


def probabilities(scaled: np.ndarray) -> np.ndarray:
    weights = np.exp(scaled.astype(np.float64) - scaled.max())
    return weights / weights.sum()


def scale(logits: np.ndarray, ask: Ask) -> np.ndarray:
    return logits / np.float32(ask.temperature or 1)


def kept(logits: np.ndarray, ask: Ask) -> tuple[np.ndarray, float]:
    """Which tokens [V] stay, and how near some mass came to the border of top-p."""
    scaled = scale(logits, ask)
    stay = np.ones(len(scaled), bool)
    if 0 < ask.top_k < len(scaled):
        stay = scaled >= np.sort(scaled)[::-1][ask.top_k - 1]
    near = INF
    if np.float32(ask.top_p) < 1:
        p = probabilities(np.where(stay, scaled, -INF))
        order = np.argsort(-scaled, kind="stable")
        more_likely = np.cumsum(p[order]) - p[order]
        near = np.abs(more_likely[1:] - ask.top_p).min(initial=INF)
        last = order[more_likely < ask.top_p][-1]
        stay &= scaled >= scaled[last]
    p = probabilities(scaled)
    return stay & (p >= np.float32(ask.min_p) * p.max() * (1 - 1e-6)), float(near)


def distribution(logits: np.ndarray, ask: Ask) -> np.ndarray:
    p = probabilities(scale(logits, ask)) * kept(logits, ask)[0]
    return p / p.sum()


def deviation(tokens: np.ndarray, p: np.ndarray) -> float:
    """Chi-square statistic over its quantile: under 1 but for a chance of 1e-4, where tokens were drawn from p."""
    counts, expected = np.bincount(tokens, minlength=len(p))[p > 0], len(tokens) * p[p > 0]
    return float(((counts - expected) ** 2 / expected).sum() / QUANTILES[len(expected) - 1])


@pytest.mark.parametrize(
    "ask",
    [
        Ask(),
        Ask(temperature=0.7),
        Ask(top_p=0.8),
        Ask(top_k=4),
        Ask(min_p=0.1),
        Ask(temperature=1.4, top_p=0.9, top_k=9, min_p=0.08),
    ],
)
def test_draws_follow_the_truncated_softmax(ask: Ask) -> None:
    logits, rows = gaussian(12), 100_000
    tokens, logps, full_logps = drawn(np.tile(logits, (rows, 1)), [ask] * rows)
    p = distribution(logits, ask)
    assert (p > 0).sum() >= 4 and (ask[1:] == Ask()[1:]) == (p > 0).all()
    assert (p[tokens] > 0).all()
    off = Ask(ask.temperature * 1.1)
    wrong = probabilities(scale(logits, off)) * (p > 0)
    assert deviation(tokens, p) < 1 < deviation(tokens, wrong / wrong.sum())
    np.testing.assert_allclose(logps, np.log(p[tokens]), atol=1e-5)
    np.testing.assert_allclose(full_logps, np.log(probabilities(scale(logits, ask))[tokens]), atol=1e-5)


def test_settings_act_in_order() -> None:
    """Top-p counts the mass that top-k left; min-p looks at the temperature's probabilities."""
    logits = np.log(np.array([0.4, 0.2, 0.2 - 1e-3, 0.1, 0.1 + 1e-3], np.float32))
    ask = Ask(top_k=2, top_p=0.65)  # 0.4 of 0.6 is more than 0.65
    assert (drawn(np.tile(logits, (200, 1)), [ask] * 200).tokens == 0).all()
    ask = Ask(temperature=0.5, min_p=0.3)  # 0.2 of 0.4, squared: 0.25
    assert (drawn(np.tile(logits, (200, 1)), [ask] * 200).tokens == 0).all()
    ask = Ask(min_p=0.3)
    assert set(drawn(np.tile(logits, (200, 1)), [ask] * 200).tokens) == {0, 1, 2}


@jax.jit
def by_gumbel_max(logits: jax.Array, keys: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    """The formula without truncation, in jax's own words, at position 17 and those after it."""

    def noise(key: jax.Array, position: jax.Array) -> jax.Array:
        return jax.random.gumbel(
            jax.random.fold_in(jax.random.wrap_key_data(key), position), logits.shape[1:]
        )

    rows = jnp.arange(len(logits))
    scaled = logits / temperature
    token = jnp.argmax(scaled + jax.vmap(noise)(keys, rows + 17), axis=-1)
    return token, scaled[rows, token] - jax.nn.logsumexp(scaled, axis=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_without_truncation_the_bits_are_those_of_gumbel_max(temperature: float) -> None:
    """At temperature 1; at others XLA joins the division to the sum after it in one program and not in the other."""
    logits = gaussian(8, 300)
    tokens, logps = by_gumbel_max(logits, keys(8), temperature)
    nothing = [Ask(temperature)] * 8
    everything = [Ask(temperature, top_k=300)] * 7 + [Ask(temperature, top_p=0.1, top_k=3)]
    for asks in (nothing, everything):
        got = drawn(logits, asks)
        np.testing.assert_array_equal(got.tokens[:7], tokens[:7])
        np.testing.assert_array_equal(got.logps[:7], got.full_logps[:7])
        np.testing.assert_allclose(got.logps[:7], logps[:7], rtol=0, atol=0 if temperature == 1 else 2e-6)


def test_neighbours_change_nothing() -> None:
    logits = gaussian(len(MIXED), 300)
    together = drawn(logits, MIXED)
    assert len(set(together.tokens)) > 4
    for i, ask in enumerate(MIXED):
        alone = draw_at(logits[i : i + 1], keys(len(MIXED))[i : i + 1], np.array([i + 17]), sampling([ask]))
        assert alone.tokens[0] == together.tokens[i]
        np.testing.assert_allclose([a[0] for a in alone[1:]], [t[i] for t in together[1:]], atol=1e-6)


def test_eight_devices_draw_the_same() -> None:
    mesh = parse_mesh("data=2,fsdp=2,tensor=2")
    logits, asks = gaussian(8, 300), sampling(MIXED)

    @jax.jit
    def steps(logits: jax.Array, keys: jax.Array, positions: jax.Array, asks: Sampling) -> Drawn:
        """The third of three steps, in a loop as the sampler has it."""

        def step(carry: tuple[int, Drawn]) -> tuple[int, Drawn]:
            return carry[0] + 1, draw_at(logits, keys, positions + carry[0], asks)

        nothing = Drawn(positions, asks.temperature, asks.temperature)
        return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, nothing))[1]

    def place(a: np.ndarray) -> jax.Array:
        return jax.device_put(a, NamedSharding(mesh, P(BATCH, None) if a.ndim == 2 else P(BATCH)))

    expected = drawn(logits, MIXED)
    with jax.set_mesh(mesh):
        got = steps(*jax.tree.map(place, (logits, keys(8), np.arange(8, dtype=np.int32) + 15, asks)))
    assert got.tokens.sharding.is_equivalent_to(batch_sharding(mesh), 1)
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_allclose(got.logps, expected.logps, atol=1e-6)
    np.testing.assert_allclose(got.full_logps, expected.full_logps, atol=1e-6)
    assert not np.array_equal(got.logps, got.full_logps)


ASKS = st.builds(
    Ask,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_p=st.one_of(st.just(1.0), st.floats(2.0**-20, 1, width=32)),
    top_k=st.sampled_from([0, 1, 2, 6, 23, 24, 25, 10**9]),
    min_p=st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1, width=32)),
)


@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1e-3, 1.0, 30.0]),
    asks=st.lists(ASKS, min_size=8, max_size=8),
)
def test_the_kept_are_those_that_sorting_keeps(seed: int, spread: float, asks: list[Ask]) -> None:
    """Ties, zeros of both signs and -inf among them; rows where rounding may move a border are left out."""
    rng = np.random.default_rng(seed)
    logits = (gaussian(8, 24, seed=seed) * spread).astype(np.float32)
    logits[:, :4] = rng.choice(
        np.array([0.0, -0.0, -INF, 1e30], np.float32), (8, 4), p=[0.4, 0.3, 0.25, 0.05]
    )
    logits[rng.random((8, 24)) < 0.1] = logits[0, 8]
    scaled = np.stack([scale(row, ask) for row, ask in zip(logits, asks, strict=True)])
    floor, total = (np.asarray(a) for a in TRUNCATE(scaled, sampling(asks)))
    for i, ask in enumerate(asks):
        stay, near = kept(logits[i], ask)
        p = probabilities(scaled[i])
        clear = ask.min_p in (0, 1) or (np.abs(p / p.max() - ask.min_p) > 1e-5 * ask.min_p).all()
        if near > 1e-5 and clear:
            np.testing.assert_array_equal(scaled[i] >= floor[i], stay)
            shift = scaled[i].max()
            expected = shift + np.log(np.exp(scaled[i][stay] - np.float64(shift)).sum())
            np.testing.assert_allclose(total[i], expected, rtol=1e-5, atol=1e-5)


def test_neighbouring_floats_are_told_apart() -> None:
    bases = np.array([3e38, 7.0, 1.0, 1e-30, -1e-30, -1.0, -7.0, -3e38], np.float32)
    places = bases.view(np.int32)[:, None] + np.random.default_rng(0).permuted(
        np.tile(np.arange(24), (8, 1)), axis=1
    )
    logits = places.astype(np.int32).view(np.float32)
    for top_k in range(1, 24):
        floor = np.asarray(TRUNCATE(logits, sampling([Ask(top_k=top_k)] * 8))[0])
        np.testing.assert_array_equal(floor, np.sort(logits)[:, -top_k])


def test_a_large_vocabulary_loses_nothing_to_rounding() -> None:
    """Next to a row that is truncated, so that the rows that keep everything go the same way."""
    logits = gaussian(4, 102_400)
    logits[1] *= 100  # most tokens have no mass in fp32
    logits[2] *= 1e-4  # a mass of one part in 102,400 each
    asks = [Ask(top_k=102_400), Ask(top_k=200_000), Ask(top_p=0.999), Ask(top_p=0.999, top_k=100_000)]
    floor = np.asarray(TRUNCATE(logits, sampling(asks))[0])
    assert (logits[:2] >= floor[:2, None]).all()
    for row in (2, 3):
        stay, _ = kept(logits[row], asks[row])
        assert 0 < (~stay).sum() and np.sum(stay != (logits[row] >= floor[row])) <= 2


@pytest.mark.parametrize(
    "ask", [Ask(top_k=1), Ask(top_p=1e-9), Ask(min_p=1.0), Ask(temperature=0.0, top_k=1)]
)
def test_the_smallest_set_is_the_most_likely_token(ask: Ask) -> None:
    logits = gaussian(8, 300)
    got = drawn(logits, [ask] * 8)
    np.testing.assert_array_equal(got.tokens, logits.argmax(-1))
    np.testing.assert_allclose(got.logps, 0, atol=1e-6)
    np.testing.assert_allclose(
        got.full_logps, [np.log(probabilities(row).max()) for row in logits], atol=1e-5
    )


def test_temperature_zero_takes_the_first_of_the_most_likely() -> None:
    logits = np.tile(np.array([1, 3, 3, 0, 2], np.float32), (200, 1))
    tokens, logps, full_logps = drawn(logits, [Ask(0.0)] * 100 + [Ask(0.0, top_k=2)] * 100)
    assert (tokens == 1).all()
    np.testing.assert_allclose(full_logps, np.log(probabilities(logits[0])[1]), atol=1e-6)
    np.testing.assert_allclose(logps, [full_logps[0]] * 100 + [np.log(0.5)] * 100, atol=1e-6)


@pytest.mark.parametrize("ask", [Ask(top_k=2), Ask(top_k=1), Ask(top_p=0.2), Ask(min_p=1.0)])
def test_equals_at_the_border_all_stay(ask: Ask) -> None:
    logits = np.tile(np.array([0.0, -1.0, -0.0, 0.0, -INF], np.float32), (200, 1))
    got = drawn(logits, [ask] * 200)
    assert set(got.tokens) == {0, 2, 3}
    np.testing.assert_allclose(got.logps, np.log(1 / 3), atol=1e-6)


def test_one_token() -> None:
    got = drawn(gaussian(len(MIXED), 1), MIXED)
    assert not got.tokens.any()
    np.testing.assert_allclose([got.logps, got.full_logps], 0, atol=1e-6)


def test_infinite_and_missing_logits() -> None:
    """-inf is never drawn; a row that is no distribution shows it, and leaves the others alone."""
    logits = np.tile(np.array([-INF, 1, -INF, 0.5, -80], np.float32), (200, 1))
    for ask in (Ask(), Ask(top_k=4), Ask(top_p=0.9999)):
        got = drawn(logits, [ask] * 200)
        assert set(got.tokens) == {1, 3}
        assert np.isfinite(got.logps).all()
    for ask in MIXED:
        logits[1, 2], logits[2], logits[3, 0] = np.nan, -INF, INF
        got = drawn(logits, [ask] * 200)
        fine = np.isin(np.arange(200), (1, 2, 3), invert=True)
        for logps in got[1:]:
            np.testing.assert_array_equal(np.isfinite(logps), fine)
            np.testing.assert_array_equal(np.isnan(logps), ~fine)
