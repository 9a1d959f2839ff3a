"""What is asked of the sampler, and what it gives back.

Left out on purpose: beam search, penalties for repetition, constrained grammars.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Request:
    """A prompt, and how its completions are drawn.

    prompt: text, which gets bos in front, or token ids, which are taken as they are.
    """

    prompt: str | Sequence[int]
    n: int = 1  # completions
    max_new_tokens: int | None = None  # of a completion, inserted ones too; None: what the model has room for
    temperature: float = 1.0  # 0 takes the most likely token
    top_p: float = 1.0  # least mass of the most likely tokens that are kept
    top_k: int = 0  # most likely tokens that are kept; 0: all
    min_p: float = 0.0  # least probability kept, as a share of the most likely token's
    stop: Sequence[str] = ()  # texts that end a completion; they are no part of its text
    stop_token_ids: Sequence[int] = ()  # tokens that end it, beside the end of sequence
    seed: int = 0
    prompt_id: int | None = None  # names the prompt for the random keys; None: its tokens' hash and occurrence


@dataclass(frozen=True)
class Tool:
    """Answers within a completion: the model writes `stop`, the answer is inserted, the model goes on."""

    call: Callable[[str], str]  # the completion's text so far, up to and with `stop` -> text to insert
    stop: str  # prompts.TOOL_STOP for our own models
    max_rounds: int = 4  # calls for one completion; where it asks once more, it ends
    timeout_s: float = 60.0  # for one call


@dataclass(frozen=True)
class Completion:
    """One sampled answer of t tokens.

    tokens end with the token that ended the row: the end of sequence, a stop token, or the one that completed a stop
    string. Both kinds of log-probabilities are at the sampling temperature (at 1 where that is 0), and 0 on inserted
    tokens.
    """

    text: str  # without what ended it
    tokens: np.ndarray  # int32 [t]
    logps: np.ndarray  # fp32 [t], of the distribution that was drawn from: after top-k, top-p and min-p
    full_logps: np.ndarray  # fp32 [t], of the whole vocabulary
    inserted: np.ndarray  # bool [t], a tool's: losses mask them
    finish_reason: FinishReason  # "length": cut at max_new_tokens
    error: str = ""  # why there is no more, in one line

    @property
    def finished(self) -> bool:
        """Whether it ended by itself."""
        return self.finish_reason == "stop"
