"""The token with which each step ends: index(j) of DeepSeekMath, section 4.1.3.

It is the first token with which all of the step's characters are there, whatever the tokenizer merges over the border or
spells in bytes. Of a completion that ended by itself the last step ends with the token that ended it, so that stopping has
the last step's reward. U+FFFD, which stands for bytes of no character, does not count: such a step ends with the last
character before it. Left out on purpose: steps of tokens that are no text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, partial
from itertools import pairwise

import numpy as np

from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import BROKEN, Tokenizer


def token_ends(tokens: Sequence[int] | np.ndarray, ends: Sequence[int], tokenizer: Tokenizer) -> np.ndarray:
    """int32 [K], for the steps that end at these rising offsets of the text that the tokens decode to."""
    ids = [int(token) for token in tokens]
    text = tokenizer.decode(ids)
    found = _by_bytes(ids, text, ends, tokenizer)
    return _by_decoding(ids, text, ends, tokenizer) if found is None else found


def completion_ends(completion: Completion, ends: Sequence[int], tokenizer: Tokenizer) -> np.ndarray:
    """int32 [K], of a sampled completion whose text has steps that end at these offsets."""
    found = token_ends(completion.tokens, ends, tokenizer)
    if len(found) and completion.finished:
        found[-1] = len(completion.tokens) - 1
    return found


def encoded_ends(text: str, ends: Sequence[int], tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    """The ids of a text and, int32 [K], the tokens with which its steps end, though decoding may not give the text back.

    Where a tokenizer rewrites the text (normal forms, rare characters), each step is encoded by itself.
    """
    ids = tokenizer.encode(text)
    found = _by_bytes(ids, text, ends, tokenizer)
    if found is not None:
        return ids, found
    borders = (0, *ends, len(text))
    parts = [tokenizer.encode(text[start:end]) for start, end in pairwise(borders)]
    counts = np.cumsum([len(part) for part in parts[:-1]])
    return [i for part in parts for i in part], np.maximum(counts - 1, 0).astype(np.int32)


def _by_bytes(
    tokens: Sequence[int], text: str, ends: Sequence[int], tokenizer: Tokenizer
) -> np.ndarray | None:
    """From the bytes that each token spells. None where they are not the text's up to some end: then bytes within it
    belong to no character, or the tokenizer rewrites it."""
    pieces = tokenizer.spelled(tokens)
    spelled, sizes = b"".join(pieces), np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    # Spaces in front that decoding takes away, or encoding adds.
    front = len(spelled) - len(spelled.lstrip(b" ")) - (len(text) - len(text.lstrip(" ")))
    found = []
    for end in ends:
        own = text[:end].rstrip(BROKEN).encode(errors="replace")
        if front < 0 or not spelled.startswith(own, front):
            return None
        found.append(np.searchsorted(sizes, front + len(own)))
    return np.array(found, np.int32)


def _by_decoding(tokens: list[int], text: str, ends: Sequence[int], tokenizer: Tokenizer) -> np.ndarray:
    """From the texts of the first tokens, which differ from the whole text's beginning in cut characters only."""

    @cache
    def spelled(count: int) -> str:
        return tokenizer.decode(tokens[:count])

    def spells(own: str, count: int) -> bool:
        return spelled(count).startswith(own)

    counts, found = range(1, len(tokens) + 1), [0]
    for end in ends:
        own = text[:end].rstrip(BROKEN)
        found.append(bisect_left(counts, True, lo=found[-1], key=partial(spells, own)))
    return np.array(found[1:], np.int32)
