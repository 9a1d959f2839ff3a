"""Where a reward model's score is read: one or two of the decoder's own logits, so that it has no parameters besides.

The score at a token is logits[plus] - logits[minus]: P('+') among the two tokens is its sigmoid (Math-Shepherd, arXiv
2312.08935, trains two tokens of its own in an ordinary language model). Of a scalar head it is logits[plus] alone, plus
being an id that no text has, whose column begins as zero. Logits of the whole vocabulary, [B, T, V], never exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, reshard
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, Remat, bind
from dsm_jax.model.params import param_shardings
from dsm_jax.tokenizer import Tokenizer

Array = TypeVar("Array", jax.Array, np.ndarray)


@dataclass(frozen=True)
class Readout:
    """The ids whose logits are read; minus None: a scalar head."""

    plus: int
    minus: int | None = None

    def __post_init__(self) -> None:
        if self.plus == self.minus:
            raise UserError(f"reward model: plus and minus are both token {self.plus}; name two tokens")

    @property
    def ids(self) -> tuple[int, ...]:
        """R of them."""
        return (self.plus,) if self.minus is None else (self.plus, self.minus)


def two_tokens(tokenizer: Tokenizer, plus: str = "+", minus: str = "-") -> Readout:
    """The readout of two tokens that the tokenizer has. Raises UserError where a text is not one token."""
    return Readout(_single(tokenizer, plus, "--plus"), _single(tokenizer, minus, "--minus"))


def scalar_head(tokenizer: Tokenizer, model: ModelConfig) -> Readout:
    """The readout of an id that no text has: a row of the model beyond the tokenizer, or padding. UserError where there is
    none."""
    if tokenizer.vocab_size < model.vocab_size:
        return Readout(tokenizer.vocab_size)
    if tokenizer.pad_id not in (tokenizer.bos_id, tokenizer.eos_id):
        return Readout(tokenizer.pad_id)
    raise UserError(
        "--head scalar: the model has no row beyond the tokenizer, which has no padding either; take --head tokens"
    )


def start_params(
    model: ModelConfig, params: Params, readout: Readout, mesh: Mesh, *, learned: Readout | None = None
) -> Params:
    """What training starts from: a scalar head's column (of tied embeddings its row) is zero; two tokens' stay, and a
    column that has been `learned`, where the parameters are a reward model's of that readout."""
    if readout.minus is not None or readout == learned:
        return params
    clear = jax.jit(partial(_without, model, readout.plus), out_shardings=param_shardings(model, mesh))
    with jax.set_mesh(mesh):
        return clear(params)


def step_scores(
    model: ModelConfig,
    params: Params,
    tokens: jax.Array,
    segment_ids: jax.Array,
    readout: Readout,
    remat: Remat = "none",
) -> jax.Array:
    """The score at every token, fp32 [B, T], of tokens and segment_ids [B, T]. For use inside jit, on any mesh."""
    hidden = bind(model, params).hidden(tokens, segment_ids, remat)
    columns = head_columns(model, params, readout).astype(hidden.dtype)
    return difference(jnp.einsum("btd,dr->btr", hidden, columns, preferred_element_type=jnp.float32))


def head_columns(model: ModelConfig, params: Params, readout: Readout) -> jax.Array:
    """[D, R] as stored, on every device whole: the head of Sampler.score. For use inside jit."""
    head = params["embed"].T if model.tie_embeddings else params["head"]
    # A sum over a one-hot mask, not a slice: the vocabulary may be split over devices.
    place = jnp.arange(model.vocab_size)
    columns = [jnp.where(place == token, head, 0).sum(axis=1) for token in readout.ids]
    return jnp.stack([reshard(column, P(None)) for column in columns], axis=1)


def difference(logits: Array) -> Array:
    """[..., R] logits of the readout's ids -> [...] scores."""
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., 0] - logits[..., 1]


def _without(model: ModelConfig, token: int, params: Params) -> Params:
    """The same parameters with zeros for a token's logit."""
    place = jnp.arange(model.vocab_size)
    if model.tie_embeddings:
        return params | {"embed": jnp.where(place[:, None] == token, 0, params["embed"])}
    return params | {"head": jnp.where(place == token, 0, params["head"])}


def _single(tokenizer: Tokenizer, text: str, option: str) -> int:
    """The id of a text that is one token, by itself or behind a space."""
    for form in (text, f" {text}"):
        if text and len(ids := tokenizer.encode(form)) == 1:
            return ids[0]
    raise UserError(
        f"{option} {text}: the tokenizer has no single token for it; name another, or take --head scalar"
    )
