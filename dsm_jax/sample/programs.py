"""Which programs a call may compile: the shapes that its slots, prefixes and caches can take.

Everything else (temperatures, lengths, seeds, where a row sits) is an argument. Fewer shapes mean wider ones: a slot that
idles, a place that is masked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from dsm_jax.sample.memory import Lengths, prefill_sizes, round_up
from dsm_jax.sample.seating import Shape, smaller

GROWS_FROM = 64  # tokens of a row's own cache: shorter ones have their whole length at once
DOUBLES_TO = 256  # and from there on grow by less: they are what a step reads


class Program(NamedTuple):
    """A compiled program of a Sampler: its name, and the sizes that it is compiled for."""

    name: str
    sizes: tuple[int, ...]


def own_lengths(lengths: Lengths) -> list[int]:
    """Places of the rows' own caches, as they grow."""
    sizes = [min(lengths.own, GROWS_FROM)]
    while (size := sizes[-1]) < lengths.own:
        sizes.append(min(2 * size if size < DOUBLES_TO else round_up(size + 1), lengths.own))
    return sizes


def possible_programs(shape: Shape, lengths: Lengths, stops: int) -> set[Program]:
    """Every program that a call of this shape may come to."""
    found: set[Program] = set()
    length = round_up(1)
    while length <= lengths.prefix:
        for count in prefill_sizes(length, shape):
            found.add(Program("prefill", (count, length)))
            found.add(Program("place", (count, length, shape.places, lengths.prefix)))
        length = round_up(length + 1)
    sizes, now = own_lengths(lengths), shape
    found |= {Program("empty", (shape.slots, sizes[0])), Program("empty", (shape.places, lengths.prefix))}
    while True:
        found |= {Program("decode", (*now, lengths.prefix, own, stops)) for own in sizes}
        found |= {Program("clear", (now.slots, own)) for own in sizes}
        found |= {Program("grow", (now.slots, *pair)) for pair in pairwise(sizes)}
        less = smaller(now)
        if not less:
            return found
        found |= {Program("take", (now.slots, less.slots, own)) for own in sizes}
        found.add(Program("take", (now.places, less.places, lengths.prefix)))
        now = less
