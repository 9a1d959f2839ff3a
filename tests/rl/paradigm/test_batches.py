"""Micro-batches of pairs, and arrays per token on their rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.rl.micro_batches import Group, micro_batches, of_completions
from dsm_jax.rl.paradigm.batches import pair_batches, with_columns
from dsm_jax.sample.request import Completion


def some(seed: int, count: int, each: int) -> list[Group]:
    rng = np.random.default_rng(seed)

    def completion(length: int) -> Completion:
        logps = -rng.random(length).astype(np.float32)
        tokens = rng.integers(4, 60, length).astype(np.int32)
        return Completion("x", tokens, logps, logps, rng.random(length) < 0.1, "stop")

    return [
        Group(
            [1, *range(4, 4 + int(rng.integers(1, 9)))],
            [completion(int(rng.integers(1, 30))) for _ in range(each)],
            np.zeros(each),
        )
        for _ in range(count)
    ]


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 12),
    tokens=st.sampled_from([16, 200, 4096]),
    shards=st.sampled_from([1, 4]),
)
def test_pairs_lie_side_by_side_each_once_and_on_one_shard(seed, count, tokens, shards):
    pairs = some(seed, count, 2)
    batches = pair_batches(pairs, tokens, shards=shards)
    seen = []
    for batch in batches:
        rows, width = batch["tokens"].shape
        assert rows % (2 * shards) == 0 and (rows * width <= tokens or rows == 2 * shards)
        numbers = batch["places"][:, 0]
        assert ((numbers[::2] % 2 == 0) | (numbers[::2] < 0)).all()
        assert (numbers[1::2] == np.where(numbers[::2] < 0, -1, numbers[::2] + 1)).all()
        for row, (number, start, end) in enumerate(batch["places"]):
            if number < 0:
                assert not batch["segment_ids"][row].any() and not batch["mask"][row].any()
                continue
            seen.append(int(number))
            group, one = pairs[number // 2], pairs[number // 2].completions[number % 2]
            assert batch["tokens"][row, :end].tolist() == [*group.prompt_ids, *one.tokens]
            assert batch["segment_ids"][row].sum() == end == start + len(one.tokens)
            assert batch["mask"][row, start:end].tolist() == (~one.inserted).tolist()
            assert batch["mask"][row].sum() == (~one.inserted).sum()
    assert sorted(seen) == list(range(2 * count))


@pytest.mark.parametrize("make", [micro_batches, pair_batches])
def test_columns_come_back_as_they_went_in(make):
    groups, rng = some(0, 7, 2), np.random.default_rng(1)
    lengths = [len(one.tokens) for group in groups for one in group.completions]
    columns = {name: [rng.random(t).astype(np.float32) for t in lengths] for name in ("a", "b")}
    batches = with_columns(make(groups, 300), columns)
    for name, wanted in columns.items():
        found = of_completions(batches, [batch[name] for batch in batches])
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        for batch in batches:
            assert not batch[name][batch["segment_ids"] == 0].any()
