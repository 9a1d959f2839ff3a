"""The plan of slots, places and seats: plain Python, no arrays."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.sample.seating import (
    Seating,
    Shape,
    choose_shape,
    fitting_slots,
    in_parts,
    shared_prefixes,
    smaller,
)


@dataclass(eq=False)
class Asked:
    """A row of the plan: only its prompt counts."""

    prompt: Sequence[int]


def prefixes_of(*prompts: str) -> list[str]:
    """Of prompts in letters, whose last one is in no prefix."""
    rows = [Asked([ord(letter) for letter in prompt]) for prompt in prompts]
    found = shared_prefixes(rows)
    assert [row for prefix in found for row in prefix.queue if row not in rows] == []
    assert sum(len(prefix.queue) for prefix in found) == len(rows)
    return ["".join(map(chr, prefix.tokens)) for prefix in found]


def test_a_chain_is_one_prefix() -> None:
    assert prefixes_of("abX", "abcX", "aX", "abcdX") == ["abcd"]


def test_branches_are_prefixes_of_their_own_and_the_stem_lies_on_one() -> None:
    assert prefixes_of("abX", "acX", "aX", "abX") == ["ab", "ac"]
    assert sorted(prefixes_of("aX", "baX", "bX", "babX", "bbX")) == ["a", "bab", "bb"]


def test_equal_prompts_share_and_the_last_token_does_not_count() -> None:
    assert prefixes_of("abX", "abY", "abZ") == ["ab"]


def test_prompts_of_one_token_share_whatever_there_is() -> None:
    assert prefixes_of("X", "Y") == [""]
    assert prefixes_of("X", "abX") == ["ab"]


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=40)


@given(PROMPTS)
def test_no_fewer_prefixes_would_do(prompts: list[list[int]]) -> None:
    """As many as there are beginnings that begin no other one."""
    found = shared_prefixes([Asked(prompt) for prompt in prompts])
    begun = {tuple(prompt[:-1]) for prompt in prompts}
    leaves = {one for one in begun if not any(one != other and other[: len(one)] == one for other in begun)}
    assert {tuple(prefix.tokens) for prefix in found} == leaves and len(found) == len(leaves)
    for prefix in found:
        for row in prefix.queue:
            assert tuple(row.prompt[:-1]) == prefix.tokens[: len(row.prompt) - 1]


def check(seating: Seating[Asked]) -> None:
    """What always holds."""
    shape, held = seating.shape, seating.held()
    assert len(seating.rows) == seating.shards * shape.slots
    taken = [seat for seat in seating.seat_of if seat is not None]
    assert len(taken) == len(set(taken)) == len(held) == sum(slot is not None for slot in seating.slot_of)
    for slot, row in held:
        seat = seating.seat_of[slot]
        assert seat is not None and seating.slot_of[seat] == slot
        assert seat // (shape.places * shape.seats) == slot // shape.slots  # one device
        prefix = seating.prefixes[seat // shape.seats]
        assert prefix is not None and tuple(row.prompt[:-1]) == tuple(prefix.tokens[: len(row.prompt) - 1])


def idle_in_vain(seating: Seating[Asked]) -> bool:
    """Whether a slot is free though a row waits that could sit on its device."""
    shape = seating.shape
    for slot, row in enumerate(seating.rows):
        shard = slot // shape.slots
        for place in range(shard * shape.places, (shard + 1) * shape.places):
            seats = seating.slot_of[place * shape.seats : (place + 1) * shape.seats]
            prefix = seating.prefixes[place]
            empty = all(one is None for one in seats) and seating.queued
            if row is None and (empty or (prefix and prefix.queue and None in seats)):
                return True
    return False


@settings(max_examples=150)
@given(
    PROMPTS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32)
)
def test_all_rows_come_through(
    prompts: list[list[int]], slots: int, places: int, seats: int, shards: int, seed: int
) -> None:
    """Rows end at random: every one sat once, on a prefix that begins its prompt, and no slot waited in vain."""
    rows, chance = [Asked(prompt) for prompt in prompts], random.Random(seed)
    shape = Shape(slots, min(places, slots), min(seats, slots))
    seating = Seating(shared_prefixes(rows), shape, shards)
    seen: set[int] = set()
    while seating.queued or seating.held():
        before = {id(row): seating.seat_of[slot] for slot, row in seating.held()}
        prefixes = {place: prefix for place, prefix in enumerate(seating.prefixes) if prefix}
        fresh = seating.fill()
        check(seating)
        assert not idle_in_vain(seating)
        for slot, row in seating.held():  # who sat stays, and nothing is prefilled under a row that sits
            assert before.get(id(row), seating.seat_of[slot]) == seating.seat_of[slot]
        assert all(seating.prefixes[place] is prefixes[place] for place in prefixes if place not in fresh)
        assert all(seat is None or seat // shape.seats not in fresh for seat in before.values())
        seen |= {id(row) for _, row in seating.held()}
        held = [slot for slot, _ in seating.held()]
        for slot in chance.sample(held, chance.randint(1, len(held))):
            seating.leave(slot)
    assert seen == {id(row) for row in rows}


@settings(max_examples=150)
@given(PROMPTS, st.integers(4, 20), st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32))
def test_shrinking_keeps_rows_and_says_where_they_were(
    prompts: list[list[int]], slots: int, seats: int, shards: int, seed: int
) -> None:
    """The maps name each row's old slot, and its prefix's old place, on the same device."""
    rows, chance = [Asked(prompt) for prompt in prompts[: slots * shards]], random.Random(seed)
    seating = Seating(shared_prefixes(rows), Shape(slots, slots, min(seats, slots)), shards)
    seating.fill()
    while seating.held() and (less := smaller(seating.shape)):
        old, old_rows, old_prefixes = seating.shape, list(seating.rows), list(seating.prefixes)
        by_shard = [sum(slot // old.slots == shard for slot, _ in seating.held()) for shard in range(shards)]
        kept = seating.shrink(less)
        assert (kept is not None) == (not seating.queued and max(by_shard) <= less.slots)
        if kept is None:
            assert seating.shape == old and seating.rows == old_rows
            seating.leave(chance.choice(seating.held())[0])
            seating.fill()
            continue
        check(seating)
        slots_map, places_map = kept
        assert (len(slots_map), len(places_map)) == (shards * less.slots, shards * less.places)
        assert {row for _, row in seating.held()} == {row for row in old_rows if row}
        for slot, row in seating.held():
            shard = slot // less.slots
            assert old_rows[shard * old.slots + slots_map[slot]] is row
        for place, prefix in enumerate(seating.prefixes):
            if prefix:
                assert old_prefixes[place // less.places * old.places + places_map[place]] is prefix


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ((1, 1, 256), (1, 1, 1)),
        ((200, 200, 16), (16, 16, 1)),  # rows that share nothing: as many places as slots
        ((64, 1, 64), (64, 1, 64)),  # one group: one place
        ((5, 5, 256), (8, 6, 1)),
        ((1024, 16, 256), (256, 16, 64)),
        ((10**6, 10**6, 1), (1, 1, 1)),
        ((512, 64, 64, 8), (64, 24, 8)),  # eight devices: a group of eight sits on one of them
        ((64, 1, 64, 8), (8, 1, 8)),  # and one of 64 on all
    ],
)
def test_shapes(asked: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    assert choose_shape(*asked) == shape


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 64), st.integers(0, 2**32))
def test_a_prefix_is_held_once_whatever_the_groups(sizes: list[int], slots: int, seed: int) -> None:
    """Groups of any sizes: no row is lost, no prefix comes to a second place of the device, few seats are for nobody."""
    chance = random.Random(seed)
    rows = [Asked([number, 0]) for number, size in enumerate(sizes) for _ in range(size)]
    parts = in_parts(rows)
    assert sorted(map(id, rows)) == sorted(id(row) for part in parts for row in part)
    for part in parts:
        prefixes = shared_prefixes(part)
        largest = max(len(prefix.queue) for prefix in prefixes)
        assert len(parts) > 1 or largest * len(prefixes) <= 4 * len(part)
        assert len(parts) == 1 or 4 * min(len(prefix.queue) for prefix in prefixes) >= largest
        seating = Seating(prefixes, choose_shape(len(part), len(prefixes), slots, largest=largest), 1)
        placed = 0
        while seating.queued or seating.held():
            placed += len(seating.fill())
            for slot, _ in seating.held():
                if chance.random() < 0.3:
                    seating.leave(slot)
        assert placed == len(prefixes)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 300))
def test_a_shape_is_within_its_bounds(rows: int, prefixes: int, slots: int) -> None:
    """Seats for a mean group, no more places than prefixes (rounded up), no slot too many; shrinking ends."""
    prefixes = min(rows, prefixes)
    shape = choose_shape(rows, prefixes, slots)
    assert 1 <= shape.slots == fitting_slots(rows, slots) <= slots and shape.slots >= min(rows, slots) / 2
    assert 1 <= shape.seats <= shape.slots and shape.seats >= min(shape.slots, round(rows / prefixes))
    assert 1 <= shape.places <= 3 / 2 * min(prefixes, shape.slots) + 1
    count = 0
    less = shape
    while smaller(less):
        less, count = smaller(less), count + 1
        assert less.slots >= max(less.places, less.seats)
    assert count <= 5
