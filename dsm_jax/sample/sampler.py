"""The in-process sampler: completions with the log-probabilities they were drawn at.

A prompt is prefilled once for its n completions. Rows decode in slots, in jitted chunks of steps; between
chunks the host takes out the finished rows and fills their slots from the queue, so a long row never holds
the batch. Decoding starts by feeding the last prompt token again, so every completion token comes out of the
same program. The random key of a token is fold_in(seed, prompt id, sample, position): a
completion does not depend on its slot, its neighbours, the order or the batch size.

Left out on purpose: top-p, stop strings, shared-prefix attention, tool rounds.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, reshard
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import BATCH, batch_sharding, batch_shards
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, bind, unstack
from dsm_jax.model.layer import LayerCache
from dsm_jax.model.lora import merge, plain
from dsm_jax.model.params import decode_shardings
from dsm_jax.tokenizer import Tokenizer

BUCKET = 32  # prompt lengths are rounded up to a multiple of this many tokens
CACHE = P(BATCH, "tensor")  # [B, K, S, h]


@dataclass(frozen=True)
class Completion:
    """One sampled answer. tokens and logps include the end-of-sequence token when the row ended by itself."""

    text: str
    tokens: np.ndarray  # int32 [t]
    logps: np.ndarray  # fp32 [t], at the sampling temperature
    finish_reason: str  # "stop": ended by itself; "length": cut at max_new_tokens

    @property
    def finished(self) -> bool:
        return self.finish_reason == "stop"


class Slots(NamedTuple):
    """What decoding changes, one row per slot: B rows, S cache places."""

    caches: list[LayerCache]  # per layer, [B, K, S, h]
    tokens: jax.Array  # [B], the token to be fed next
    positions: jax.Array  # [B], its place in the sequence
    left: jax.Array  # [B], tokens that may still be drawn; 0: the slot is idle
    keys: jax.Array  # uint32 [B, 2], random key data of (seed, prompt id, sample)


class _Request(NamedTuple):
    row: int  # prompt's index in the call
    sample: int  # 0..n-1
    prompt_id: int


class Sampler:
    """Draws completions from the parameters last given to `load`.

    slots: rows decoded at once, spread over data and fsdp; chunk: decode steps between two looks by the host.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, mesh: Mesh, *, slots: int = 64, chunk: int = 16
    ):
        shards = batch_shards(mesh)
        if slots < 1 or chunk < 1:
            raise UserError(f"sampler: slots {slots} and chunk {chunk} must be at least 1")
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(
                f"sampler: the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}; give its own"
            )
        self._load = jax.jit(
            partial(_decode_params, config), out_shardings=decode_shardings(plain(config), mesh)
        )
        config = plain(config)  # LoRA is merged when parameters are loaded
        self.config, self.tokenizer, self.mesh, self.chunk = config, tokenizer, mesh, chunk
        self.slots = -(-slots // shards) * shards
        self._params: Params = None
        self._sums = jax.jit(lambda params: [_bit_sum(leaf) for leaf in jax.tree.leaves(params)])
        self._prefill = jax.jit(lambda params, ids: bind(config, params).prefill(ids))
        self._insert = jax.jit(_insert, donate_argnums=0)
        self._decode = jax.jit(
            partial(_decode_chunk, config, tokenizer.eos_id), static_argnames="chunk", donate_argnums=1
        )

    def load(self, params: Params) -> None:
        """Takes new parameters: one jitted cast and reshard from the training layout."""
        self._params = None  # the old copy goes before the new one comes
        with jax.set_mesh(self.mesh):
            self._params = self._load(params)

    def fingerprint(self) -> str:
        """A short name of the loaded parameters, equal wherever they are equal bit by bit, on any mesh."""
        with jax.set_mesh(self.mesh):
            sums = jax.device_get(self._sums(self._params))
        return hashlib.sha256(np.stack(sums).tobytes()).hexdigest()[:16]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        prompt_ids: Sequence[int] | None = None,
        on_finish: Callable[[], None] = lambda: None,
    ) -> list[list[Completion]]:
        """n completions of each prompt; `on_finish` is called as each one ends.

        temperature 0 is greedy. prompt_ids name the prompts for the random keys; by default a hash of the
        prompt's tokens and how often it stood before. Raises UserError for a prompt that is empty or too long.
        """
        if isinstance(prompts, str):
            raise UserError("generate: prompts is one text; give a list of them")
        encoded = [[self.tokenizer.bos_id, *self.tokenizer.encode(prompt)] for prompt in prompts]
        self._check(encoded, n, max_new_tokens, temperature)
        if not encoded:
            return []
        ids = prompt_ids if prompt_ids is not None else _prompt_ids(encoded)
        queue = deque(_Request(row, sample, ids[row]) for row in range(len(prompts)) for sample in range(n))
        with jax.set_mesh(self.mesh):
            run = _Run(self, encoded, max_new_tokens, temperature, seed)
            drawn = run.drain(queue, on_finish)
        return [[self._completion(*drawn[row, sample]) for sample in range(n)] for row in range(len(prompts))]

    def _check(self, encoded: list[list[int]], n: int, max_new_tokens: int, temperature: float) -> None:
        if self._params is None:
            raise RuntimeError("Sampler.generate before Sampler.load")
        if n < 1 or max_new_tokens < 1:
            raise UserError(f"generate: n {n} and max_new_tokens {max_new_tokens} must be at least 1")
        if not 0 <= temperature < math.inf:
            raise UserError(f"generate: temperature is {temperature}; it must be at least 0 (0 is greedy)")
        for row, prompt in enumerate(encoded):
            if len(prompt) == 1:
                raise UserError(f"generate: prompt {row} is empty; give it at least one token")
            if len(prompt) + max_new_tokens > self.config.max_seq_len:
                raise UserError(
                    f"generate: prompt {row} has {len(prompt)} tokens, with {max_new_tokens} new ones more than "
                    f"the model's {self.config.max_seq_len}; shorten it or lower max_new_tokens"
                )

    def _completion(self, tokens: list[int], logps: list[float]) -> Completion:
        reason = "stop" if tokens[-1] == self.tokenizer.eos_id else "length"
        text = self.tokenizer.decode(tokens[:-1] if reason == "stop" else tokens)
        return Completion(text, np.array(tokens, np.int32), np.array(logps, np.float32), reason)


class _Run:
    """One call of generate: the slots on the device, and what they hold."""

    def __init__(
        self, sampler: Sampler, prompts: list[list[int]], max_new_tokens: int, temperature: float, seed: int
    ):
        self.sampler, self.prompts = sampler, prompts
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.prompt_length = _round_up(max(map(len, prompts)), BUCKET)
        self.holding: list[_Request | None] = [None] * sampler.slots
        self.bank: dict[int, int] = {}  # prompt row -> its row in the prefilled bank
        self.bank_caches: list[LayerCache] = []
        self.slots = self._empty()

    def drain(
        self, queue: deque[_Request], on_finish: Callable[[], None]
    ) -> dict[tuple[int, int], tuple[list[int], list[float]]]:
        """Every request's tokens and log-probs, by (prompt, sample)."""
        drawn: dict[tuple[int, int], tuple[list[int], list[float]]] = {
            (request.row, request.sample): ([], []) for request in queue
        }
        while queue or any(self.holding):
            while queue and None in self.holding:
                self._fill(queue)
            self.slots, tokens, logps = self.sampler._decode(
                self.sampler._params, self.slots, self.temperature, chunk=self.sampler.chunk
            )
            left, tokens, logps = jax.device_get((self.slots.left, tokens, logps))
            for slot, request in enumerate(self.holding):
                if request is None:
                    continue
                count = int((tokens[slot] >= 0).sum())
                drawn[request.row, request.sample][0].extend(tokens[slot, :count].tolist())
                drawn[request.row, request.sample][1].extend(logps[slot, :count].tolist())
                if left[slot] == 0:
                    self.holding[slot] = None
                    on_finish()
        return drawn

    def _fill(self, queue: deque[_Request]) -> None:
        """Gives free slots to requests whose prompts are in the bank; a new bank when the first is not."""
        if queue[0].row not in self.bank:
            self._prefill_bank(queue)
        size = self.sampler.slots
        source, tokens, positions = (np.zeros(size, np.int32) for _ in range(3))
        seeds = np.zeros((size, 2), np.int32)
        fresh = np.zeros(size, bool)
        for slot in range(size):
            if self.holding[slot] is not None or not queue or queue[0].row not in self.bank:
                continue
            request = self.holding[slot] = queue.popleft()
            prompt = self.prompts[request.row]
            source[slot], fresh[slot] = self.bank[request.row], True
            tokens[slot], positions[slot] = prompt[-1], len(prompt) - 1
            seeds[slot] = request.prompt_id, request.sample
        arrays = jax.device_put((fresh, source, tokens, positions, seeds), batch_sharding(self.sampler.mesh))
        self.slots = self.sampler._insert(
            self.slots, self.bank_caches, *arrays, self.max_new_tokens, self.seed
        )

    def _prefill_bank(self, queue: deque[_Request]) -> None:
        """Prefills the next prompts of the queue: as many as there are slots, or prompts."""
        shards = batch_shards(self.sampler.mesh)
        size = min(self.sampler.slots, _round_up(len(self.prompts), max(shards, 16)))
        size = _round_up(size, shards)
        rows = list(dict.fromkeys(request.row for request in queue))[:size]
        ids = np.zeros((size, self.prompt_length), np.int32)
        for place, row in enumerate(rows):
            ids[place, : len(self.prompts[row])] = self.prompts[row]
        self.bank = {row: place for place, row in enumerate(rows)}
        ids = jax.device_put(ids, batch_sharding(self.sampler.mesh))
        self.bank_caches = self.sampler._prefill(self.sampler._params, ids)

    def _empty(self) -> Slots:
        """Idle slots with room for the longest prompt and its completion."""
        config, size = self.sampler.config, self.sampler.slots
        places = _round_up(self.prompt_length + self.max_new_tokens, BUCKET)
        shape = (size, config.n_kv_heads, places, config.head_dim)
        cache = NamedSharding(self.sampler.mesh, CACHE)
        row = batch_sharding(self.sampler.mesh)
        caches = [
            LayerCache(*(jnp.zeros(shape, config.dtype, device=cache) for _ in "kv"))
            for _ in range(config.n_layers)
        ]
        tokens, positions, left = (jnp.zeros(size, jnp.int32, device=row) for _ in range(3))
        return Slots(caches, tokens, positions, left, jnp.zeros((size, 2), jnp.uint32, device=row))


def _decode_params(config: ModelConfig, params: Params) -> Params:
    """Each layer's own weights in the compute dtype; norms stay fp32."""
    layers = unstack(config, merge(config, params))
    return jax.tree.map(lambda a: a.astype(config.dtype) if a.ndim > 1 else a, layers)


def _bit_sum(leaf: jax.Array) -> jax.Array:
    """uint32 sum of the mixed bits of a leaf's numbers: exact, so that no order of the sum changes it."""
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint16 if leaf.dtype.itemsize == 2 else jnp.uint32)
    bits = (bits.astype(jnp.uint32) + jnp.uint32(1)) * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA77)
    return jnp.sum(bits ^ (bits >> 13), dtype=jnp.uint32)


def _insert(
    slots: Slots,
    bank: list[LayerCache],
    fresh: jax.Array,
    source: jax.Array,
    tokens: jax.Array,
    positions: jax.Array,
    seeds: jax.Array,
    max_new_tokens: jax.Array,
    seed: jax.Array,
) -> Slots:
    """Starts new rows in the slots that are `fresh` [B]: the prompt's cache is bank row `source` [B]."""

    def start(cache: jax.Array, prefilled: jax.Array) -> jax.Array:
        rows = prefilled.at[source].get(out_sharding=CACHE)
        head = jnp.where(fresh[:, None, None, None], rows, cache[:, :, : rows.shape[2]])
        return jax.lax.dynamic_update_slice(cache, head, (0, 0, 0, 0))

    def row_key(pair: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), pair[0])
        return jax.random.key_data(jax.random.fold_in(key, pair[1]))

    return Slots(
        jax.tree.map(start, slots.caches, bank),
        jnp.where(fresh, tokens, slots.tokens),
        jnp.where(fresh, positions, slots.positions),
        jnp.where(fresh, max_new_tokens, slots.left),
        jnp.where(fresh[:, None], jax.vmap(row_key)(seeds), slots.keys),
    )


def _decode_chunk(
    config: ModelConfig, eos_id: int, params: Params, slots: Slots, temperature: jax.Array, *, chunk: int
) -> tuple[Slots, jax.Array, jax.Array]:
    """Up to `chunk` steps. Tokens and log-probs [B, chunk]: -1 and 0 where a row drew nothing."""
    decoder = bind(config, params)
    tokens = reshard(jnp.full((slots.tokens.shape[0], chunk), -1, jnp.int32), P(BATCH, None))
    logps = reshard(jnp.zeros(tokens.shape, jnp.float32), P(BATCH, None))

    def step(carry: tuple) -> tuple:
        i, slots, tokens, logps = carry
        hidden, caches = decoder.decode(slots.tokens, slots.positions, slots.caches)
        logits = reshard(decoder.logits(hidden), P(BATCH, None))
        token, logp = draw(logits, slots.keys, slots.positions + 1, temperature)
        active = slots.left > 0
        left = jnp.where(active, jnp.where(token == eos_id, 0, slots.left - 1), 0)
        positions = slots.positions + active
        slots = Slots(caches, jnp.where(active, token, slots.tokens), positions, left, slots.keys)
        write = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=1)
        tokens = write(tokens, jnp.where(active, token, -1))
        logps = write(logps, jnp.where(active, logp, 0.0))
        return i + 1, slots, tokens, logps

    def more(carry: tuple) -> jax.Array:
        return (carry[0] < chunk) & jnp.any(carry[1].left > 0)

    _, slots, tokens, logps = jax.lax.while_loop(more, step, (0, slots, tokens, logps))
    return slots, tokens, logps


def draw(
    logits: jax.Array, keys: jax.Array, positions: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One token a row from softmax(logits / temperature), with its log-prob under that distribution.

    logits [B, V] fp32; keys uint32 [B, 2]; positions [B], the drawn token's place. Temperature 0 takes the
    most likely token, with its log-prob at temperature 1. Gumbel-max: argmax(logits + Gumbel noise).
    """

    def noise(key: jax.Array, position: jax.Array) -> jax.Array:
        return jax.random.gumbel(
            jax.random.fold_in(jax.random.wrap_key_data(key), position), logits.shape[1:]
        )

    scaled = logits / jnp.where(temperature > 0, temperature, 1.0)
    noisy = jax.lax.cond(temperature > 0, lambda: scaled + jax.vmap(noise)(keys, positions), lambda: scaled)
    token = jnp.argmax(noisy, axis=-1).astype(jnp.int32)
    chosen = jnp.where(jnp.arange(logits.shape[-1]) == token[:, None], scaled, 0.0).sum(-1)
    return token, chosen - jax.nn.logsumexp(scaled, axis=-1)


def _prompt_ids(encoded: list[list[int]]) -> list[int]:
    """A prompt's tokens hashed with how often the same prompt stood before it, 31 bits."""
    seen: Counter[bytes] = Counter()
    ids = []
    for prompt in encoded:
        data = np.array(prompt, np.int32).tobytes()
        ids.append(zlib.crc32(data + seen[data].to_bytes(4, "little")) & 0x7FFFFFFF)
        seen[data] += 1
    return ids


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
