"""The in-process sampler: completions with the log-probabilities they were drawn at, from the trainer's own parameters.

A completion depends on its prompt, its request's options and the random keys of (seed, prompt, sample, position) alone:
not on its slot, its neighbours, their order, the batch size, the mesh, or how often the caches grew. Requests with a
mistake end with an error of their own; the others go on. Of several processes every one makes the same call.
Left out on purpose: speculative decoding, quantised caches, a cache that outlives a call.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, batch_shards, single_device_mesh
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, empty_caches
from dsm_jax.model.hf import Model
from dsm_jax.model.params import decode_shardings, param_shapes
from dsm_jax.sample.decode import (
    TokenScores,
    clear,
    decode_chunk,
    decode_params,
    logps,
    longer,
    place,
    prefill,
    score,
    take,
)
from dsm_jax.sample.decoding import Decoding, Finished, OnText
from dsm_jax.sample.memory import Lengths, free_everywhere, round_up, sampling_bytes
from dsm_jax.sample.programs import Program, possible_programs
from dsm_jax.sample.request import (
    Asked,
    Completion,
    Request,
    Tool,
    asked,
    failed,
    outside_vocabulary,
    prompt_names,
    requests_of,
)
from dsm_jax.sample.row import Row
from dsm_jax.sample.score import score_texts, text_logps
from dsm_jax.sample.seating import Shape, choose_shape, in_parts, shared_prefixes
from dsm_jax.sample.stops import StopText
from dsm_jax.tokenizer import Tokenizer

MOST_SLOTS = 256  # of a device, where memory has room
CHUNK = 32  # decode steps between two looks by the host
# Compiled once for all Samplers of a configuration.
PROGRAMS: Mapping[str, Callable[..., Any]] = {
    "empty": jax.jit(empty_caches, static_argnums=(0, 1, 2)),
    "prefill": jax.jit(prefill, static_argnums=0),
    "place": jax.jit(place, donate_argnums=0),
    "take": jax.jit(take),
    "clear": jax.jit(clear, donate_argnums=0),
    "score": jax.jit(score, static_argnums=0),
    "logps": jax.jit(logps, static_argnums=0),
    "grow": jax.jit(longer, static_argnames="length"),
    "decode": jax.jit(decode_chunk, static_argnums=0, donate_argnums=2),
}


@dataclass
class Usage:
    """What sampling took, since the last reset_usage."""

    steps: int = 0
    slot_steps: int = 0  # steps times slots
    tokens: int = 0  # that completions kept, inserted ones too
    prefill_tokens: int = 0
    memory: int = 0  # bytes on a device of the largest call's caches and temporary arrays
    programs: set[Program] = field(default_factory=set)  # that were needed, since the Sampler was made
    possible: set[Program] = field(default_factory=set)  # that its calls' shapes could have come to

    def __str__(self) -> str:
        return (
            f"{self.tokens:,} tokens in {self.steps:,} steps, {self.idle_share:.1%} of the slots idle; "
            f"{self.prefill_tokens:,} tokens prefilled; {self.compilations} compilations (at most "
            f"{self.max_compilations} for these calls); {self.memory / 1e6:,.1f} MB of caches and work"
        )

    @property
    def idle_share(self) -> float:
        """Of slots and steps, those that gave no token."""
        return 1 - self.tokens / self.slot_steps if self.slot_steps else 0.0

    @property
    def compilations(self) -> int:
        return len(self.programs)

    @property
    def max_compilations(self) -> int:
        """The bound of compilations for the calls so far."""
        return len(self.possible)


class Sampler:
    """Draws completions from a Model, or from the parameters last given to `load`.

    mesh: of a Model its own. slots: rows decoded at once, at most, over all devices of data x fsdp; None: as many as
    memory has room for, up to MOST_SLOTS a device. chunk: decode steps between two looks by the host. on_chunk is called as
    the devices begin with a chunk: what it dispatches runs while the host looks at the chunk's tokens, what it raises ends
    the call.
    """

    def __init__(
        self,
        model: Model | ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh | None = None,
        *,
        slots: int | None = None,
        chunk: int = CHUNK,
        on_chunk: Callable[[], None] = lambda: None,
    ):
        config = model.config if isinstance(model, Model) else model
        mesh = mesh or (model.mesh if isinstance(model, Model) else single_device_mesh())
        if chunk < 1 or (slots is not None and slots < 1):
            raise UserError(f"sampler: slots {slots} and chunk {chunk} must be at least 1")
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(
                f"sampler: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}; give its own"
            )
        self.config, self.tokenizer, self.mesh = config, tokenizer, mesh
        self.chunk, self.on_chunk = chunk, on_chunk
        self.slots = MOST_SLOTS if slots is None else -(-slots // batch_shards(mesh))  # of a device
        self.params: Params = None
        self.usage = Usage()
        if isinstance(model, Model):
            self.load(model.params)

    def load(self, params: Params) -> None:
        """Takes new parameters: one jitted cast and reshard from the training layout. UserError for another model's."""
        expected = param_shapes(self.config)
        if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, expected):
            raise UserError(
                "load: these are not the parameters of this model; give those of its configuration"
            )
        self.unload()  # the old copy goes before the new one comes
        with jax.set_mesh(self.mesh):
            self.params = _loader(self.config, self.mesh)(params)

    def unload(self) -> None:
        """Lets go of the parameters, so that others have their memory."""
        self.params = None

    def fingerprint(self) -> str:
        """A short name of the loaded parameters, equal wherever they are equal bit by bit, on any mesh."""
        with jax.set_mesh(self.mesh):
            sums = jax.device_get(_bit_sums(self.params))
        return hashlib.sha256(np.stack(sums).tobytes()).hexdigest()[:16]

    def reset_usage(self) -> None:
        """Starts counting anew; compilations are counted on."""
        self.usage = Usage(programs=self.usage.programs, possible=self.usage.possible)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int] | Request],
        *,
        prompt_ids: Sequence[int] | None = None,
        tool: Tool | None = None,
        on_finish: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> list[list[Completion]]:
        """The n completions of each prompt. on_finish is called as each one ends.

        options: fields of Request, for the prompts that are none; prompt_ids: their prompt_id, one each. A request with a
        mistake has one completion, whose finish_reason is "error"; request.require_answers raises it.
        """
        found: dict[int, dict[int, Completion]] = defaultdict(dict)
        for request, sample, completion in self.stream(prompts, prompt_ids=prompt_ids, tool=tool, **options):
            found[request][sample] = completion
            on_finish()
        return [[found[row][sample] for sample in sorted(found[row])] for row in sorted(found)]

    def stream(
        self,
        prompts: Sequence[str | Sequence[int] | Request],
        *,
        prompt_ids: Sequence[int] | None = None,
        tool: Tool | None = None,
        on_text: OnText | None = None,
        **options: Any,
    ) -> Iterator[Finished]:
        """The completions as they end. on_text(request, sample, text) is called with the text that has become certain."""
        if self.params is None:
            raise RuntimeError("Sampler: load parameters first")
        requests = requests_of(prompts, prompt_ids, options)
        return self._stream(
            self.params, [asked(one, self.tokenizer, self.config) for one in requests], tool, on_text
        )

    def _stream(
        self, params: Params, requests: Sequence[Asked], tool: Tool | None, on_text: OnText | None
    ) -> Iterator[Finished]:
        free = free_everywhere(self.mesh)
        numbers = []
        for number, one in enumerate(requests):
            if error := one.error or self._too_large(one, free):
                yield Finished(number, 0, failed(f"request {number}: {error}"))
            else:
                numbers.append(number)
        rows = self._rows(numbers, [requests[number] for number in numbers], tool, on_text)
        if not rows:
            return
        stops = -(-max(len(row.stop_ids) for row in rows) // 8) * 8
        fitting = (self._fitting(part, free) for part in in_parts(rows))
        for part, lengths, shape in itertools.chain.from_iterable(fitting):
            self.usage.memory = max(self.usage.memory, sampling_bytes(self.config, self.mesh, shape, lengths))
            self.usage.possible |= possible_programs(shape, lengths, stops)
            yield from Decoding(self, params, part, shape, lengths, stops, tool, on_text).run()

    def _rows(
        self, numbers: Sequence[int], requests: Sequence[Asked], tool: Tool | None, on_text: OnText | None
    ) -> list[Row]:
        """Every completion of requests without a mistake, and with these numbers."""
        rows: list[Row] = []
        for number, (request, prompt, _), name in zip(numbers, requests, prompt_names(requests), strict=True):
            stop = (*request.stop, tool.stop) if tool else request.stop
            ids = tuple(dict.fromkeys((self.tokenizer.eos_id, *request.stop_token_ids)))
            for sample in range(request.first_sample, request.first_sample + request.n):
                text = StopText(self.tokenizer, stop) if stop or on_text else None
                rows.append(Row(len(rows), number, sample, request, prompt, name, ids, text))
        return rows

    def _fitting(
        self, rows: Sequence[Row], free: int | None
    ) -> Iterator[tuple[Sequence[Row], Lengths, Shape]]:
        """All rows at once, in as many slots as there is use and memory for. Where one slot alone has no room for the
        longest prompt and the longest completion, which need not be one row's, the rows in parts."""
        shards, lengths = batch_shards(self.mesh), _lengths((row.prompt, row.left) for row in rows)
        sizes, slots = [len(prefix.queue) for prefix in shared_prefixes(rows)], self.slots
        while slots:
            shape = choose_shape(len(rows), len(sizes), slots, shards, max(sizes))
            if (
                free is None
                or len(rows) == 1
                or sampling_bytes(self.config, self.mesh, shape, lengths) <= free
            ):
                yield rows, lengths, shape
                return
            slots //= 2
        by_prompt = sorted(rows, key=lambda row: len(row.prompt))
        for part in (by_prompt[: len(rows) // 2], by_prompt[len(rows) // 2 :]):
            yield from self._fitting(part, free)

    def _too_large(self, one: Asked, free: int | None) -> str:
        """What is wrong where memory has no room for one row of this request; "" where it has."""
        lengths = _lengths([(one.prompt, one.request.max_new_tokens or 1)])
        needed = sampling_bytes(self.config, self.mesh, Shape(1, 1, 1), lengths)
        if free is None or needed <= free:
            return ""
        return (
            f"its cache and what decoding takes need {needed / 1e9:,.1f} GB on a device, and {free / 1e9:,.1f} are free; "
            "lower max_new_tokens or give more devices"
        )

    def score(self, texts: Sequence[Sequence[int]], head: np.ndarray) -> list[np.ndarray]:
        """What a head [D, R] says at each token of the texts, fp32 [t, R] each: a reward model's scores.

        Raises UserError for a text that is empty, too long, or of ids outside the vocabulary.
        """
        self._require_texts("score", texts, 1, self.config.max_seq_len)
        return score_texts(self, texts, head)

    def logps(
        self, texts: Sequence[Sequence[int]], *, on_finish: Callable[[], None] = lambda: None
    ) -> list[TokenScores]:
        """Log-probability, at temperature 1, of each token of the texts but the first: [t - 1] of t tokens. on_finish is
        called as each text is done.

        Raises UserError for a text that has one token, is more than one token too long, or of ids outside the vocabulary.
        """
        self._require_texts(
            "logps", texts, 2, self.config.max_seq_len + 1
        )  # the last token is only looked at
        return text_logps(self, texts, on_finish)

    def _require_texts(self, name: str, texts: Sequence[Sequence[int]], least: int, most: int) -> None:
        if self.params is None:
            raise RuntimeError("Sampler: load parameters first")
        for number, text in enumerate(texts):
            if not least <= len(text) <= most:
                raise UserError(
                    f"{name}: text {number} has {len(text)} tokens; it must have {least} to {most}"
                )
            if outside := outside_vocabulary(text, self.config.vocab_size):
                raise UserError(f"{name}: text {number}: {outside}")

    # For Decoding and score.py

    def call(self, program: Program, *args: Any, **static: Any) -> Any:
        """Runs one of the compiled programs."""
        self.usage.programs.add(program)
        with jax.set_mesh(self.mesh):
            return PROGRAMS[program.name](*args, **static)

    def put(self, arrays: Any) -> Any:
        """Host arrays, rows first, onto the mesh; every process has all of them."""
        sharding = batch_sharding(self.mesh)
        if not self.mesh.is_multi_process:
            return jax.device_put(arrays, sharding)
        return jax.tree.map(
            lambda array: jax.make_array_from_callback(array.shape, sharding, lambda index: array[index]),
            arrays,
        )


def _lengths(rows: Iterable[tuple[Sequence[int], int]]) -> Lengths:
    """Of caches that hold these prompts, and so many tokens after each."""
    rows = list(rows)
    prefix, own = max(len(prompt) - 1 for prompt, _ in rows), max(left for _, left in rows)
    return Lengths(round_up(prefix), round_up(own))


@lru_cache
def _loader(config: ModelConfig, mesh: Mesh) -> Callable[[Params], Params]:
    return jax.jit(partial(decode_params, config), out_shardings=decode_shardings(config, mesh))


@jax.jit
def _bit_sums(params: Params) -> list[jax.Array]:
    return [_bit_sum(leaf) for leaf in jax.tree.leaves(params)]


def _bit_sum(leaf: jax.Array) -> jax.Array:
    """uint32 sum of the mixed bits of a leaf's numbers: exact, so that no order of the sum changes it."""
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint16 if leaf.dtype.itemsize == 2 else jnp.uint32)
    bits = (bits.astype(jnp.uint32) + jnp.uint32(1)) * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA77)
    return jnp.sum(bits ^ (bits >> 13), dtype=jnp.uint32)
