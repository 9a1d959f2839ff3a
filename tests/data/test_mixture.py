"""Batches are a pure function of (seed, step), in the weights' shares, each source shuffled and whole."""

from collections import Counter

import numpy as np
import pytest

from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.data.windows import pack_documents
from dsm_jax.errors import UserError


def windows(first, count, length=4):
    return list(pack_documents([[first + i] * length for i in range(count)], length))


def mixture(seed=3):
    return Mixture({"a": Source(windows(100, 6), 1.0), "b": Source(windows(200, 10), 3.0)}, 4, seed)


def drawn(batches):
    return [int(row[0]) for batch in batches for row in batch["tokens"]]


def test_batch_form():
    batch = mixture().batch(0)
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "tokens": ((4, 4), np.int32), "segment_ids": ((4, 4), np.int32), "loss_mask": ((4, 4), np.float32)
    }  # fmt: skip


@pytest.mark.parametrize("step", [0, 7, 10**7])
def test_rows_are_those_of_the_batch_whoever_asks(step):
    whole = mixture().batch(step)
    for rows in ([0], [1, 3], [2, 3, 0]):
        part = mixture().batch(step, rows)
        assert all(np.array_equal(part[name], whole[name][rows]) for name in whole)


def test_shares_and_epochs():
    steps = 60
    counts = Counter(drawn(mixture().batch(step) for step in range(steps)))
    assert sum(n for token, n in counts.items() if token < 200) == steps * 4 // 4
    assert {n for token, n in counts.items() if token < 200} == {10}
    assert {n for token, n in counts.items() if token >= 200} == {18}
    assert mixture().epochs(steps) == {"a": 10.0, "b": 18.0}


def test_each_epoch_has_another_order_and_seeds_differ():
    def source_a(seed):
        return [t for t in drawn(mixture(seed).batch(step) for step in range(12)) if t < 200]

    first, second = source_a(3)[:6], source_a(3)[6:]
    assert sorted(first) == sorted(second) == list(range(100, 106))
    assert len({tuple(first), tuple(second), tuple(source_a(4)[:6])}) == 3


def test_source_of_weight_zero_is_left_out():
    unused = Mixture({"a": Source(windows(100, 6), 1.0), "empty": Source([], 0.0)}, 2, 0)
    assert unused.epochs(3) == {"a": 1.0}
    assert all(100 <= token < 106 for token in drawn([unused.batch(0)]))


@pytest.mark.parametrize(
    "sources, message",
    [
        ({}, "weight 0"),
        ({"a": Source(windows(0, 3), 0.0)}, "every source has weight 0 .a."),
        ({"a": Source([], 1.0)}, "'a' is empty"),
        ({"a": Source(windows(0, 3), -1.0)}, "'a' has weight -1"),
        ({"a": Source(windows(0, 3), float("nan"))}, "'a' has weight nan"),
        ({"a": Source(windows(0, 3), 1.0), "b": Source(windows(0, 3, 8), 1.0)}, "a 4, b 8"),
    ],
)
def test_bad_sources(sources, message):
    with pytest.raises(UserError, match=message):
        Mixture(sources, 2, 0)
