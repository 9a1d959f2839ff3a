"""A sampler whose completions are written in a script, for tests of what is asked of it and what is made of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from dsm_jax.rl.shepherd.pool import Pool, Solution
from dsm_jax.sample import Completion, Request
from dsm_jax.sample.seating import shared_prefixes

RIGHT, WRONG = "\nso \\boxed{7}", "\nso \\boxed{8}"
PROMPT = "User: q\n\nAssistant:"


class Characters:
    """A tokenizer of characters, but that ".\\n" is one token, as in many vocabularies."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 512, 1, 2, 2, "characters"
    stop = 3

    def encode(self, text: str) -> list[int]:
        return [self.stop if c == "\0" else 4 + ord(c) for c in text.replace(".\n", "\0")]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(".\n" if i == self.stop else chr(int(i) - 4) for i in ids if i > 2)

    def spelled(self, ids: Sequence[int]) -> list[bytes]:
        return [self.decode([i]).encode() for i in ids]


def share(*words: object) -> float:
    """A number from 0 to 1 that these words decide."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


Script = Callable[[str, int], str | None]  # (the text so far, sample) -> what follows; None: it never ends


def by_chance(chance: float = 0.3, *, seed: int = 0) -> Script:
    """Right with this chance, in texts of several lengths; a fifth of the wrong ones never end."""

    def follows(text: str, sample: int) -> str | None:
        if share(text, sample, seed) < chance:
            return "-" * int(9 * share(text, sample, "length")) + RIGHT
        return None if share(text, sample, "end") < 0.2 else WRONG

    return follows


@dataclass
class Scripted:
    """Completes as the script says; what follows a prompt depends on its tokens and the sample's number alone."""

    script: Script
    tokenizer: Any = field(default_factory=Characters)
    config: Any = field(default_factory=lambda: SimpleNamespace(max_seq_len=500))
    usage: Any = field(default_factory=lambda: SimpleNamespace(prefill_tokens=0))
    calls: list[list[Request]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], **_: Any) -> list[list[Completion]]:
        self.calls.append(list(requests))
        rows = [SimpleNamespace(prompt=list(one.prompt)) for one in requests]
        self.usage.prefill_tokens += sum(len(prefix.tokens) for prefix in shared_prefixes(rows))
        return [[self._completion(one, one.first_sample + i) for i in range(one.n)] for one in requests]

    def _completion(self, request: Request, sample: int) -> Completion:
        text = self.script(self.tokenizer.decode(request.prompt), sample)
        limit = request.max_new_tokens or 10**9
        ids = (
            [self.tokenizer.eos_id] if text is None else [*self.tokenizer.encode(text), self.tokenizer.eos_id]
        )
        if text is None or len(ids) > limit:
            ids = (ids[:-1] + [5] * limit)[:limit]
        zeros = np.zeros(len(ids), np.float32)
        ended = ids[-1] == self.tokenizer.eos_id
        return Completion(
            self.tokenizer.decode(ids),
            np.array(ids, np.int32),
            zeros,
            zeros,
            zeros > 0,
            "stop" if ended else "length",
        )


def pool_of_texts(*texts: str, answer: str = "7", question: str = "q", known: bool = True) -> Pool:
    """A problem with these solutions; right are those that end in the answer's box."""
    tokenizer = Characters()
    solutions = tuple(
        Solution(text, text.endswith(f"\\boxed{{{answer}}}"), tuple(tokenizer.encode(text)) if known else ())
        for text in dict.fromkeys(texts)
    )
    prompt = PROMPT.replace("q", question)
    return Pool(question, answer, prompt, "", solutions, tokenizer.fingerprint if known else "")
