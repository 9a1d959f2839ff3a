"""How well a model predicts held-out text, by source: perplexity per token, and bits per byte, which compares tokenizers.

Beside it the unigram model, which knows only how frequent each token is in the training windows: what any training must
beat. Both are scored on the same tokens, those whose loss_mask is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dsm_jax.data.corpus import TARGET_BYTES, StoredWindows
from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, batch_shards, replicated
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import param_shardings
from dsm_jax.train.logps import token_logps
from dsm_jax.train.step import Batch, put_batch

Windows = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class HeldOut:
    """Windows [T] of one source and the UTF-8 bytes of the text that their targets spell."""

    windows: Windows
    text_bytes: int

    def __post_init__(self) -> None:
        if not self.windows or not self.text_bytes:
            raise UserError("held-out text is empty: hold out a larger share, or give the source more text")

    def metrics(self, nats: float) -> dict[str, float]:
        """Of the sum of the targets' negative log-likelihoods."""
        targets = sum(float(window["loss_mask"].sum()) for window in self.windows)
        return {"perplexity": math.exp(nats / targets), "bits_per_byte": nats / math.log(2) / self.text_bytes}


def first_windows(stored: StoredWindows, most: int) -> HeldOut:
    """Up to `most` windows of those that tokenize_source held out, the first ones."""
    count = min(len(stored), most)
    return HeldOut([stored[i] for i in range(count)], sum(stored.manifest[TARGET_BYTES][:count]))


def make_scorer(config: ModelConfig, mesh: Mesh, rows: int) -> Callable[[Params, HeldOut], dict[str, float]]:
    """(parameters, held-out text) -> its metrics; `rows` windows at once, rounded up to what the mesh divides."""
    rows = -(-rows // batch_shards(mesh)) * batch_shards(mesh)

    def negative_log_likelihood(params: Params, batch: Batch) -> jax.Array:
        scored = token_logps(config, params, batch["tokens"], batch["segment_ids"], remat="full")
        return -jnp.sum(scored.logps * batch["loss_mask"])

    run = jax.jit(
        negative_log_likelihood,
        in_shardings=(param_shardings(config, mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )

    def score(params: Params, held_out: HeldOut) -> dict[str, float]:
        with jax.set_mesh(mesh):
            parts = [run(params, put_batch(batch, mesh)) for batch in batches(held_out.windows, rows)]
        return held_out.metrics(math.fsum(map(float, parts)))

    return score


def unigram(
    train: Mapping[str, Windows], held_out: Mapping[str, HeldOut], vocab_size: int
) -> dict[str, dict[str, float]]:
    """The metrics, by source, of token frequencies in all training windows (each token counted once more, so that none has
    probability 0)."""
    counts = np.ones(vocab_size)
    for windows in train.values():
        for window in windows:
            counts += np.bincount(window["tokens"][window["segment_ids"] > 0], minlength=vocab_size)
    nats = -np.log(counts / counts.sum())
    return {
        name: one.metrics(
            sum(float((nats[window["tokens"]] * window["loss_mask"]).sum()) for window in one.windows)
        )
        for name, one in held_out.items()
    }


def batches(windows: Windows, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Stacked [rows, T]; the last is filled up with windows that count nothing."""
    for at in range(0, len(windows), rows):
        chunk = windows[at : at + rows]
        blank = {name: np.zeros_like(array) for name, array in windows[0].items()}
        chunk = chunk + [blank] * (rows - len(chunk))
        yield {name: np.stack([window[name] for window in chunk]) for name in windows[0]}
