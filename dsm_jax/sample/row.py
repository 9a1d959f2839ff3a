"""One completion under way: what the host keeps of it between chunks, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dsm_jax.sample.request import Completion, FinishReason, Request
from dsm_jax.sample.stops import StopText
from dsm_jax.tokenizer import Tokenizer


@dataclass(eq=False)
class Row:
    """One completion under way."""

    index: int  # among the rows of the call
    number: int  # of its request
    sample: int
    request: Request
    prompt: Sequence[int]
    name: int  # of the prompt, for the random keys
    stop_ids: tuple[int, ...]  # the end of sequence among them
    text: StopText | None  # None: nobody asks for it before the end
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    full_logps: list[float] = field(default_factory=list)
    inserted: list[bool] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # a tool's tokens that are not inserted yet
    rounds: int = 0  # of the tool

    @property
    def left(self) -> int:
        return (self.request.max_new_tokens or 0) - len(self.tokens)

    def take(
        self, tokens: Sequence[int], logps: Sequence[float], full_logps: Sequence[float]
    ) -> Literal["", "stop", "stop string", "length"]:
        """Takes what a chunk drew; how that ended the row, "" where it did not."""
        given = min(len(self.pending), len(tokens))
        self._extend(tokens[:given], [0.0] * given, [0.0] * given, True)
        del self.pending[:given]
        drawn = tokens[given:]
        ended = bool(drawn) and drawn[-1] in self.stop_ids
        met = self.text.push(drawn[: len(drawn) - ended]) if self.text else None
        last = given + (len(drawn) if met is None else met)
        self._extend(tokens[given:last], logps[given:last], full_logps[given:last], False)
        if met is not None:
            return "stop string"
        return "stop" if ended else "" if self.left else "length"

    def insert(self, ids: Sequence[int]) -> None:
        """A tool's answer, to come next."""
        self.pending = list(ids)
        if self.text:
            self.text.go_on(ids)

    def _extend(
        self, tokens: Sequence[int], logps: Sequence[float], full_logps: Sequence[float], inserted: bool
    ) -> None:
        self.tokens += tokens
        self.logps += logps
        self.full_logps += full_logps
        self.inserted += [inserted] * len(tokens)

    def completion(self, tokenizer: Tokenizer, reason: FinishReason, error: str = "") -> Completion:
        """What the row came to."""
        tokens = self.tokens[:-1] if self.tokens and self.tokens[-1] in self.stop_ids else self.tokens
        return Completion(
            self.text.text if self.text else tokenizer.decode(tokens),
            np.array(self.tokens, np.int32),
            np.array(self.logps, np.float32),
            np.array(self.full_logps, np.float32),
            np.array(self.inserted, bool),
            reason,
            error,
        )
