"""Which completion decodes in which slot, and over which prefix: the host's plan, plain Python.

Prompts that begin alike share a prefix: of the sorted prompts each one whose tokens, all but the last, begin the next
one lies on that one's keys and values (the steps of a solution, for labelling, are one chain). A device holds a few
prefixes, each at a place; the rows of a prefix sit on the seats of its place, and decode in any slot.
Left out on purpose: prompts of which each shares a part of the other only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar


class Prompted(Protocol):
    """A row: the tokens it goes on from."""

    @property
    def prompt(self) -> Sequence[int]: ...


Row = TypeVar("Row", bound=Prompted)

SPARSEST = 4  # seats for each row that sits


class Shape(NamedTuple):
    """Of one device's part of a decode step."""

    slots: int  # rows decoded at once
    places: int  # prefixes
    seats: int  # rows of one prefix at once


@dataclass(eq=False)
class Prefix(Generic[Row]):
    """Tokens whose keys and values several rows look at, and the rows that wait for a seat."""

    tokens: Sequence[int]
    queue: deque[Row] = field(default_factory=deque)


def shared_prefixes(rows: Iterable[Row]) -> list[Prefix[Row]]:
    """The prefixes of these rows, in the order of their first rows. A row's last token is decoded, and in no prefix."""
    rows = list(rows)
    carriers: dict[tuple[int, ...], Prefix[Row]] = {}
    longest: Prefix[Row] | None = None
    for tokens in sorted(
        {tuple(row.prompt[:-1]) for row in rows}, reverse=True
    ):  # longer ones before what they begin with
        if longest is None or longest.tokens[: len(tokens)] != tokens:
            longest = Prefix(tokens)
        carriers[tokens] = longest
    found = [carriers[tuple(row.prompt[:-1])] for row in rows]
    for prefix, row in zip(found, rows, strict=True):
        prefix.queue.append(row)
    return list(dict.fromkeys(found))


def in_parts(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in parts that follow each other: one part, unless a few large groups beside many small ones would leave
    three of four seats empty, which cost as much as taken ones."""
    prefixes = sorted(shared_prefixes(rows), key=lambda prefix: -len(prefix.queue))
    largest = len(prefixes[0].queue)
    if largest * len(prefixes) <= SPARSEST * len(rows):
        return [list(rows)]
    parts: list[list[Row]] = [[]]
    for prefix in prefixes:
        if SPARSEST * len(prefix.queue) < largest:
            parts.append([])
            largest = len(prefix.queue)
        parts[-1] += prefix.queue
    return parts


def choose_shape(rows: int, prefixes: int, slots: int, shards: int = 1, largest: int = 0) -> Shape:
    """The shape for so many rows on so many prefixes, on `shards` devices of at most `slots` slots each.

    largest: rows of the prefix that has most; 0: all have the same number. A place has seats for all of them, so that no
    device holds a prefix twice. A prefix keeps its place until its longest row ends. Of R exponential lengths the longest
    is 1 + 1/2 + .. + 1/R times the mean, so that with that many times the places that full seats need, few slots wait.
    """
    slots = fitting_slots(-(-rows // shards), slots)
    each = min(rows / prefixes, slots)
    seats = 1 << (min(largest or math.ceil(each), slots) - 1).bit_length()
    needed = slots / each * sum(1 / i for i in range(1, seats + 1)) if seats > 1 else slots
    return Shape(slots, _round_up(min(needed, prefixes, slots)), min(seats, slots))


def fitting_slots(rows: int, most: int) -> int:
    """`most` halved for as long as the rows still fit."""
    while most > 1 and rows <= most // 2:
        most //= 2
    return most


def smaller(shape: Shape) -> Shape | None:
    """What a call's last rows go on in: a quarter of the slots. None where there are too few to part."""
    slots = shape.slots // 4
    return Shape(slots, min(shape.places, slots), min(shape.seats, slots)) if slots else None


def _round_up(count: float) -> int:
    """To 1, 2, 3, 4, 6, 8, 12, 16, ...: few shapes, so that few programs are compiled."""
    sizes = (base << power for power in range(31) for base in (2, 3))
    return 1 if count <= 1 else next(size for size in sizes if size >= count)


class Seating(Generic[Row]):
    """The slots, places and seats of all devices, `shards` times a shape, and the rows that wait."""

    def __init__(self, prefixes: Iterable[Prefix[Row]], shape: Shape, shards: int):
        self.waiting = deque(prefixes)
        self.shards = shards
        self._reshape(shape)

    def _reshape(self, shape: Shape) -> None:
        self.shape = shape
        self.rows: list[Row | None] = [None] * (self.shards * shape.slots)
        self.seat_of: list[int | None] = [None] * len(self.rows)  # of a slot
        self.prefixes: list[Prefix[Row] | None] = [None] * (self.shards * shape.places)
        self.slot_of: list[int | None] = [None] * (len(self.prefixes) * shape.seats)  # of a seat

    def held(self) -> list[tuple[int, Row]]:
        """(slot, row) of the rows under way."""
        return [(slot, row) for slot, row in enumerate(self.rows) if row is not None]

    @property
    def queued(self) -> bool:
        """Whether rows wait for a slot."""
        return any(prefix.queue for prefix in self.waiting)

    def fill(self) -> list[int]:
        """Gives free slots to waiting rows, the first prefixes first; the places that have got another prefix."""
        while self.waiting and not self.waiting[0].queue:
            self.waiting.popleft()
        fresh: list[int] = []
        for slot, row in enumerate(self.rows):
            if row is None and self.queued:
                self._seat_next(slot, fresh)
        return fresh

    def leave(self, slot: int) -> None:
        """The slot's row has ended."""
        seat = self.seat_of[slot]
        assert seat is not None
        self.rows[slot] = self.seat_of[slot] = self.slot_of[seat] = None

    def shrink(self, shape: Shape) -> tuple[list[int], list[int]] | None:
        """Moves the last rows into a smaller shape: for each slot and place of it the old one, counted on its device.

        None where rows wait, or a device's rows do not fit.
        """
        old, held = self.shape, [(slot, row, self.seat_of[slot]) for slot, row in self.held()]
        counts = [sum(slot // old.slots == shard for slot, *_ in held) for shard in range(self.shards)]
        if self.queued or max(counts) > shape.slots:
            return None
        prefixes = self.prefixes
        self._reshape(shape)
        slots, places = [0] * len(self.rows), [0] * len(self.prefixes)
        moved: dict[int, int] = {}  # place -> its new one
        for slot, row, seat in held:
            shard, place = slot // old.slots, (seat or 0) // old.seats
            if place not in moved:
                moved[place] = next(one for one in self._places(shard) if self.prefixes[one] is None)
                self.prefixes[moved[place]] = prefixes[place]
                places[moved[place]] = place % old.places
            new = self.rows.index(None, shard * shape.slots)
            self._sit(new, moved[place], row)
            slots[new] = slot % old.slots
        return slots, places

    def _seat_next(self, slot: int, fresh: list[int]) -> None:
        """Seats the next row for which this slot's device has a seat: on one of its prefixes, or on a new one."""
        places = self._places(slot // self.shape.slots)
        for place in places:
            prefix = self.prefixes[place]
            if prefix and prefix.queue and None in self._seats(place):
                return self._sit(slot, place, prefix.queue.popleft())
        for place in places:
            if not any(taken is not None for taken in self._seats(place)):
                prefix = self.prefixes[place] = next(one for one in self.waiting if one.queue)
                fresh.append(place)
                return self._sit(slot, place, prefix.queue.popleft())

    def _sit(self, slot: int, place: int, row: Row) -> None:
        seat = place * self.shape.seats + self._seats(place).index(None)
        self.rows[slot], self.seat_of[slot], self.slot_of[seat] = row, seat, slot

    def _places(self, shard: int) -> range:
        return range(shard * self.shape.places, (shard + 1) * self.shape.places)

    def _seats(self, place: int) -> list[int | None]:
        return self.slot_of[place * self.shape.seats : (place + 1) * self.shape.seats]
