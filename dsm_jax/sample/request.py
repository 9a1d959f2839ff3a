"""What is asked of the sampler, and what it gives back.

Left out on purpose: beam search, penalties for repetition, constrained grammars.
"""

from __future__ import annotations

import difflib
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any, Literal, NamedTuple

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "error"]
INT32 = 2**31
LEAST_TEMPERATURE = 1e-4  # logits over a smaller one are too large for fp32 to tell log-probabilities


@dataclass(frozen=True)
class Request:
    """A prompt, and how its completions are drawn.

    prompt: text, which gets bos in front, or token ids, which are taken as they are.
    """

    prompt: str | Sequence[int]
    n: int = 1  # completions
    first_sample: int = 0  # number of the first of them: n 2 from 3 on are the last of n 5
    max_new_tokens: int | None = None  # of a completion, inserted ones too; None: what the model has room for
    temperature: float = 1.0  # 0 takes the most likely token
    top_p: float = 1.0  # least mass of the most likely tokens that are kept
    top_k: int = 0  # most likely tokens that are kept; 0: all
    min_p: float = 0.0  # least probability kept, as a share of the most likely token's
    stop: Sequence[str] = ()  # texts that end a completion; they are no part of its text
    stop_token_ids: Sequence[int] = ()  # tokens that end it, beside the end of sequence
    seed: int = 0
    prompt_id: int | None = (
        None  # names the prompt for the random keys; None: its tokens' hash and occurrence
    )


OPTIONS = [field.name for field in fields(Request) if field.name not in ("prompt", "prompt_id")]


@dataclass(frozen=True)
class Tool:
    """Answers within a completion: the model writes `stop`, the answer is inserted, the model goes on."""

    call: Callable[[str], str]  # the completion's text so far, up to and with `stop` -> text to insert
    stop: str  # data.prompts.TOOL_STOP for our own models
    max_rounds: int = 4  # calls for one completion; where it asks once more, it ends
    timeout_s: float = 60.0  # for one call

    def __post_init__(self) -> None:
        if not self.stop:
            raise UserError("tool: stop is empty; give the text with which the model calls it")
        if self.max_rounds < 1 or not self.timeout_s > 0:
            raise UserError(
                f"tool: max_rounds {self.max_rounds} must be at least 1 and timeout_s {self.timeout_s} above 0"
            )


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
    full_logps: np.ndarray  # fp32 [t], over the whole vocabulary
    inserted: np.ndarray  # bool [t], a tool's: losses mask them
    finish_reason: FinishReason  # "length": cut at max_new_tokens
    error: str = ""  # why there is no more, in one line

    @property
    def finished(self) -> bool:
        """Whether it ended by itself."""
        return self.finish_reason == "stop"


def failed(reason: str) -> Completion:
    """The completion of a request that cannot be answered."""
    empty = np.zeros(0, np.float32)
    return Completion("", empty.astype(np.int32), empty, empty, empty.astype(bool), "error", reason)


def require_answers(completions: Iterable[Sequence[Completion]]) -> None:
    """UserError where a completion has an error: the first one."""
    for row in completions:
        for completion in row:
            if completion.error:
                raise UserError(f"generate: {completion.error}")


def requests_of(
    prompts: Iterable[str | Sequence[int] | Request],
    prompt_ids: Sequence[int] | None,
    options: Mapping[str, Any],
) -> list[Request]:
    """The prompts as requests, those that are none with these options. Raises UserError for what concerns all of them."""
    if isinstance(prompts, str | Request):
        kind = "text" if isinstance(prompts, str) else "Request"
        raise UserError(f"generate: prompts is one {kind}; give a list of them")
    if unknown := next((name for name in options if name not in OPTIONS), None):
        close = difflib.get_close_matches(unknown, OPTIONS, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"generate: no option {unknown}{hint}; Request has {', '.join(OPTIONS)}")
    prompts = list(prompts)
    names = [None] * len(prompts) if prompt_ids is None else list(prompt_ids)
    if len(names) != len(prompts):
        raise UserError(f"generate: {len(prompts)} prompts have {len(names)} prompt_ids; give one each")
    requests = [
        one if isinstance(one, Request) else Request(one, prompt_id=name, **options)
        for one, name in zip(prompts, names, strict=True)
    ]
    if (options or prompt_ids is not None) and prompts and all(isinstance(one, Request) for one in prompts):
        raise UserError("generate: a Request has options and a prompt_id of its own; give none beside it")
    return requests


class Asked(NamedTuple):
    """A request as the sampler takes it, the tokens of its prompt, and what is wrong with it, in one line."""

    request: Request
    prompt: list[int]
    error: str


def asked(request: Request, tokenizer: Tokenizer, model: ModelConfig) -> Asked:
    """The request with its limit as a number and its stop strings in a tuple."""
    try:
        prompt = prompt_tokens(request, tokenizer)
        request = complete(request, prompt, model)
        return Asked(request, prompt, mistake(request, prompt, model))
    except (TypeError, ValueError, OverflowError) as error:
        return Asked(request, [], f"its prompt or an option is of the wrong kind: {error}")


def prompt_tokens(request: Request, tokenizer: Tokenizer) -> list[int]:
    """Ids of the prompt; none where it is empty."""
    if isinstance(request.prompt, bytes):
        raise TypeError("the prompt is bytes, not text")
    if not isinstance(request.prompt, str):
        return [index(token) for token in request.prompt]
    ids = tokenizer.encode(request.prompt)
    return [tokenizer.bos_id, *ids] if ids else []


def complete(request: Request, prompt: Sequence[int], model: ModelConfig) -> Request:
    """The request with its limit as a number and stop strings in a tuple."""
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    limit = request.max_new_tokens
    limit = max(1, model.max_seq_len - len(prompt)) if limit is None else limit
    return replace(
        request, max_new_tokens=limit, stop=stop, stop_token_ids=tuple(request.stop_token_ids or ())
    )


def mistake(request: Request, prompt: Sequence[int], model: ModelConfig) -> str:
    """What is wrong with a complete request, in one line; "" where nothing is."""
    limit, vocab = request.max_new_tokens or 0, model.vocab_size
    if outside := outside_vocabulary(prompt, vocab) or outside_vocabulary(request.stop_token_ids, vocab):
        return outside
    if not prompt:
        return "the prompt is empty; give it at least one token"
    for name in ("n", "first_sample", "max_new_tokens", "top_k", "seed", "prompt_id"):
        if not isinstance(getattr(request, name) or 0, int | np.integer):
            return f"{name} is {getattr(request, name)}; it must be a whole number"
    for name in ("n", "max_new_tokens"):
        if getattr(request, name) < 1:
            return f"{name} is {getattr(request, name)}; it must be at least 1"
    if len(prompt) >= model.max_seq_len:
        return f"the prompt has {len(prompt)} tokens, and the model's sequences end at {model.max_seq_len}; shorten it"
    if len(prompt) + limit > model.max_seq_len:
        return (
            f"the prompt has {len(prompt)} tokens, with {limit} new ones more than the model's {model.max_seq_len}; "
            "shorten it or lower max_new_tokens"
        )
    if not 0 <= request.temperature < math.inf:
        return f"temperature is {request.temperature}; it must be at least 0 (0 is greedy)"
    if 0 < request.temperature < LEAST_TEMPERATURE:
        return f"temperature is {request.temperature}; it must be 0 (greedy) or at least {LEAST_TEMPERATURE}"
    if not 0 < request.top_p <= 1:
        return f"top_p is {request.top_p}; it must be above 0 and at most 1 (1 keeps all)"
    if not 0 <= request.min_p <= 1:
        return f"min_p is {request.min_p}; it must be from 0 (keeps all) to 1"
    for name in ("first_sample", "top_k", "seed", "prompt_id"):
        if not 0 <= (getattr(request, name) or 0) < INT32:
            return f"{name} is {getattr(request, name)}; it must be at least 0 and below {INT32}"
    if request.first_sample + request.n > INT32:
        return f"first_sample {request.first_sample} and n {request.n} go beyond {INT32} samples"
    if not all(request.stop):
        return "a stop string is empty; leave it out"
    if not all(isinstance(text, str) for text in request.stop):
        return "stop has something that is no text; tokens go into stop_token_ids"
    return ""


def outside_vocabulary(ids: Sequence[int], vocab: int) -> str:
    """The first id that a vocabulary of this size does not have, in one line; "" where there is none."""
    token = next((token for token in ids if not 0 <= token < vocab), None)
    if token is None:
        return ""
    return f"token id {token} is outside the vocabulary of {vocab}; is this the model's tokenizer?"


def prompt_names(requests: Iterable[Asked]) -> list[int]:
    """The caller's ids, else a prompt's tokens hashed with how often the same prompt stood before it, 31 bits."""
    seen: Counter[bytes] = Counter()
    names = []
    for request, prompt, _ in requests:
        data = np.array(prompt, np.int32).tobytes()
        name = zlib.crc32(data + seen[data].to_bytes(4, "little")) & (INT32 - 1)
        seen[data] += 1
        names.append(name if request.prompt_id is None else request.prompt_id)
    return names
