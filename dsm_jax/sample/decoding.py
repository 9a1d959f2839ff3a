"""One call of the sampler: rows through the slots, from their prompts to their completions.

Rows decode in chunks of steps. Between chunks the host, which alone knows what a row is, takes out the rows that ended,
answers tools, and fills free slots from the queue, so that a long row never holds the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import numpy as np

from dsm_jax.mesh import batch_shards
from dsm_jax.model.attention import Seats
from dsm_jax.model.decoder import Params
from dsm_jax.model.layer import LayerCache
from dsm_jax.sample.decode import Rows
from dsm_jax.sample.memory import Lengths, prefill_sizes, round_up
from dsm_jax.sample.programs import Program, own_lengths
from dsm_jax.sample.request import Completion, FinishReason, Tool
from dsm_jax.sample.row import Row
from dsm_jax.sample.sampling import Sampling
from dsm_jax.sample.seating import Seating, Shape, shared_prefixes, smaller
from dsm_jax.sample.tools import ToolCalls
from dsm_jax.tokenizer import Tokenizer

if TYPE_CHECKING:
    from dsm_jax.sample.sampler import Sampler

STOP_STEPS = 8  # of a chunk where a stop string may end a row: what is drawn behind it is lost
IDLE_PART = 16  # a chunk ends where one in so many slots has become idle, and rows wait

OnText = Callable[[int, int, str], None]


class Finished(NamedTuple):
    """A completion: the number of its request in the call, of its sample (from first_sample on), and what it came to."""

    request: int
    sample: int
    completion: Completion


class Decoding:
    """The rows of one call, the slots that they decode in, and the caches on the devices."""

    def __init__(
        self,
        sampler: Sampler,
        params: Params,
        rows: Sequence[Row],
        shape: Shape,
        lengths: Lengths,
        stops: int,
        tool: Tool | None,
        on_text: OnText | None,
    ):
        self.sampler, self.lengths, self.stops, self.on_text = sampler, lengths, stops, on_text
        self.rows = {row.index: row for row in rows}  # not all of a call's, where they go in parts
        self.params = params  # the sampler's when the call began: `load` may replace them meanwhile
        self.calls = ToolCalls(tool, of_several=sampler.mesh.is_multi_process) if tool else None
        prefixes = shared_prefixes(sorted(rows, key=lambda row: -row.left))
        # Long rows and large groups first: what begins last is not left alone at the end.
        prefixes.sort(key=lambda prefix: (-prefix.queue[0].left, -len(prefix.queue)))
        self.seating = Seating(prefixes, shape, batch_shards(sampler.mesh))
        self.length = own_lengths(lengths)[0]
        self.own = self._empty(shape.slots, self.length)
        self.shared = self._empty(shape.places, lengths.prefix)

    def run(self) -> Iterator[Finished]:
        """The completions as they come."""
        while self.seating.queued or self.seating.held():
            self._prefill(self.seating.fill())
            yield from self._insert_answers()
            if self._active():
                self._shrink()
                yield from self._decode()

    def _active(self) -> list[tuple[int, Row]]:
        """(slot, row) of those that decode."""
        paused = self.calls.waiting if self.calls else ()
        return [(slot, row) for slot, row in self.seating.held() if row.index not in paused]

    # Prefixes

    def _prefill(self, places: Sequence[int]) -> None:
        """Prefills what has come to these places, prefixes of like lengths together."""
        shape = self.seating.shape
        by_length: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place in places:
            if tokens := self._tokens(place):
                by_length[round_up(len(tokens))][place // shape.places].append(place)
        for length, devices in sorted(by_length.items()):
            while most := max(map(len, devices.values())):
                count = max(size for size in prefill_sizes(length, shape) if size <= most)
                self._prefill_batch(length, count, {device: own[:count] for device, own in devices.items()})
                devices = {device: own[count:] for device, own in devices.items()}

    def _prefill_batch(self, length: int, count: int, devices: Mapping[int, Sequence[int]]) -> None:
        """Prefills at most `count` prefixes on each device."""
        rows, shape = self.seating.shards * count, self.seating.shape
        ids = np.zeros((rows, length), np.int32)
        places, counts = np.zeros(rows, np.int32), np.zeros(self.seating.shards, np.int32)
        for device, own in devices.items():
            counts[device] = len(own)
            for row, place in enumerate(own, start=device * count):
                tokens = self._tokens(place)
                ids[row, : len(tokens)] = tokens
                places[row] = place % shape.places
                self.sampler.usage.prefill_tokens += len(tokens)
        sampler = self.sampler
        fresh = sampler.call(
            Program("prefill", (count, length)), sampler.config, self.params, sampler.put(ids)
        )
        program = Program("place", (count, length, shape.places, self.lengths.prefix))
        self.shared = sampler.call(program, self.shared, fresh, *sampler.put((places, counts)))

    def _tokens(self, place: int) -> Sequence[int]:
        prefix = self.seating.prefixes[place]
        return prefix.tokens if prefix else ()

    # Tools

    def _insert_answers(self) -> Iterator[Finished]:
        """Gives rows the answers that have come; waits for one where no row can go on without."""
        if not (self.calls and self.calls.waiting):
            return
        for index, answer in self.calls.answers(wait=not self._active()).items():
            row = self.rows[index]
            ids = _ids_behind(self.sampler.tokenizer, row.text.with_stop if row.text else "", answer.text)
            if answer.error:
                yield self._finish(row, "error", f"request {row.number}: the tool {answer.error}")
            elif len(ids) >= row.left:
                yield self._finish(row, "length")
            else:
                row.insert(ids)

    def _stopped(self, row: Row) -> Literal["", "stop", "length"]:
        """How the stop string that the row has met ended it: "" where it is the tool's, whose call is then under way."""
        if not self.calls or row.text is None or row.text.stopped != self.calls.tool.stop:
            return "stop"
        if row.rounds == self.calls.tool.max_rounds:
            return "stop"
        if not row.left:
            return "length"  # as where an answer does not fit
        row.rounds += 1
        self.calls.start(row.index, row.text.with_stop)
        return ""

    # Caches

    def _empty(self, rows: int, length: int) -> list[LayerCache]:
        """Caches with so many rows on each device."""
        sampler, program = self.sampler, Program("empty", (rows, length))
        return sampler.call(program, sampler.config, self.seating.shards * rows, length)

    def _shrink(self) -> None:
        """The last rows go on in fewer slots."""
        while shape := smaller(self.seating.shape):
            old, kept = self.seating.shape, self.seating.shrink(shape)
            if not kept:
                return
            slots, places = self.sampler.put(tuple(np.array(numbers, np.int32) for numbers in kept))
            for caches, rows, program in (
                (self.own, slots, Program("take", (old.slots, shape.slots, self.length))),
                (self.shared, places, Program("take", (old.places, shape.places, self.lengths.prefix))),
            ):
                for layer, cache in enumerate(caches):
                    caches[layer] = self.sampler.call(program, cache, rows)

    def _grow(self, needed: int) -> None:
        """Makes room for so many tokens of each row's own, layer by layer."""
        for length in own_lengths(self.lengths):
            if self.length < length and self.length < needed:
                program = Program("grow", (self.seating.shape.slots, self.length, length))
                for layer, cache in enumerate(self.own):
                    self.own[layer] = self.sampler.call(program, cache, length=length)
                self.length = length

    # Steps

    def _decode(self) -> Iterator[Finished]:
        """A chunk of steps, and the rows that it ended."""
        active, sampler = self._active(), self.sampler
        steps = min(sampler.chunk, max(row.left for _, row in active))
        if any(row.text for _, row in active):
            steps = min(steps, STOP_STEPS)
        self._grow(max(len(row.tokens) + min(steps, row.left) for _, row in self.seating.held()))
        self.own, chunk = sampler.call(
            Program("decode", (*self.seating.shape, self.lengths.prefix, self.length, self.stops)),
            sampler.config, self.params, self.own, self.shared, sampler.put(self._rows(active)), steps, self._most_idle(len(active)),
        )  # fmt: skip
        sampler.on_chunk()
        tokens, logps, full_logps = jax.device_get(chunk)
        counts = (tokens >= 0).sum(axis=1)
        sampler.usage.steps += int(counts.max())
        sampler.usage.slot_steps += int(counts.max()) * len(self.seating.rows)
        for slot, row in active:
            before, drawn = len(row.tokens), slice(counts[slot])
            ended = row.take(
                tokens[slot, drawn].tolist(), logps[slot, drawn].tolist(), full_logps[slot, drawn].tolist()
            )
            sampler.usage.tokens += len(row.tokens) - before
            if row.text and self.on_text and (text := row.text.take()):
                self.on_text(row.number, row.sample, text)
            if np.isnan(full_logps[slot, drawn]).any():
                yield self._spoiled(slot, row)
                continue
            if ended == "stop string":
                ended = self._stopped(row)
            if ended:
                yield self._finish(row, ended)

    def _spoiled(self, slot: int, row: Row) -> Finished:
        """Ends a row of which the model makes no numbers; its slot's next row must not meet them, not even masked."""
        sampler, shape = self.sampler, self.seating.shape
        slots = np.arange(len(self.seating.rows)) == slot
        self.own = sampler.call(Program("clear", (shape.slots, self.length)), self.own, sampler.put(slots))
        error = f"request {row.number}: the model's log-probabilities are not finite; are its parameters?"
        return self._finish(row, "error", error)

    def _finish(self, row: Row, reason: FinishReason, error: str = "") -> Finished:
        self.seating.leave(self.seating.rows.index(row))
        if row.text and (text := row.text.finish()) and self.on_text:
            self.on_text(row.number, row.sample, text)
        return Finished(row.number, row.sample, row.completion(self.sampler.tokenizer, reason, error))

    def _most_idle(self, active: int) -> int:
        """Slots that may idle before the host looks again: until rows that wait can have some, or few enough are left."""
        slots, shape = len(self.seating.rows), self.seating.shape
        if self.seating.queued:
            return slots - active + max(1, slots // IDLE_PART) - 1
        less = smaller(shape)
        few = less.slots * self.seating.shards if less else 0
        return slots - few - 1 if active > few else slots

    def _rows(self, active: Sequence[tuple[int, Row]]) -> Rows:
        """What a chunk is told of the slots, host arrays."""
        host: Any = np  # the programs' types speak of arrays on devices
        slots, shape, chunk = len(self.seating.rows), self.seating.shape, self.sampler.chunk
        tokens, left, top_k, prefixes, own, of_row = (host.zeros(slots, np.int32) for _ in range(6))
        temperature, top_p = host.ones(slots, np.float32), host.ones(slots, np.float32)
        min_p = host.zeros(slots, np.float32)
        names = host.zeros((slots, 3), np.int32)
        stop_ids, inserted = (host.full((slots, width), -1, np.int32) for width in (self.stops, chunk))
        for slot, row in self.seating.held():
            asked, pending = row.request, row.pending[:chunk]
            tokens[slot] = row.tokens[-1] if row.tokens else row.prompt[-1]
            prefixes[slot], own[slot] = len(row.prompt) - 1, len(row.tokens)
            of_row[slot] = (self.seating.seat_of[slot] or 0) % (shape.places * shape.seats)
            names[slot] = asked.seed, row.name, row.sample
            temperature[slot], top_p[slot], min_p[slot] = asked.temperature, asked.top_p, asked.min_p
            top_k[slot] = asked.top_k
            stop_ids[slot, : len(row.stop_ids)] = row.stop_ids
            inserted[slot, : len(pending)] = pending
        for slot, row in active:
            left[slot] = row.left
        on_seats = host.array([(slot or 0) % shape.slots for slot in self.seating.slot_of], np.int32)
        seats = Seats(on_seats.reshape(-1, shape.seats), of_row, prefixes, own)
        return Rows(
            tokens, left, names, Sampling(temperature, top_p, top_k, min_p), stop_ids, inserted, seats
        )


def _ids_behind(tokenizer: Tokenizer, text: str, new: str) -> list[int]:
    """Ids of what is inserted behind a text, as they stand where both are encoded together; alone where that would change
    the text's own. (Some tokenizers begin every text with a space.)"""
    before, both = tokenizer.encode(text), tokenizer.encode(text + new)
    return both[len(before) :] if both[: len(before)] == before else tokenizer.encode(new)
