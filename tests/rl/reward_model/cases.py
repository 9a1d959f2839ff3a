"""A small reward model for the tests: a decoder of random numbers, a tokenizer of characters, labelled solutions."""

from __future__ import annotations

import dataclasses

import numpy as np

from dsm_jax.model.config import SMOKE
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.segments import step_ends

# Grouped heads that two devices share, and weights large enough that scores differ.
CONFIG = dataclasses.replace(SMOKE, vocab_size=128, n_kv_heads=2, init_std=0.15, max_seq_len=256)
LETTERS = "\n" + "".join(map(chr, range(32, 127)))
MESH = "data=2,fsdp=2,tensor=2"


class Letters:
    """A tokenizer of characters, with 100 ids; padding has one of its own."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 100, 1, 2, 0, "letters"

    def encode(self, text: str) -> list[int]:
        return [3 + LETTERS.index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.spelled(ids)).decode()

    def spelled(self, ids: list[int]) -> list[bytes]:
        return [LETTERS[i - 3].encode() if 0 <= i - 3 < len(LETTERS) else b"" for i in map(int, ids)]


TOKENIZER = Letters()
PLUS_MINUS = Readout(TOKENIZER.encode("+")[0], TOKENIZER.encode("-")[0])


def solution(number: int, rng: np.random.Generator) -> Labelled:
    """Some additions of two digits, a line each, of which some are wrong; a wrong line spoils those behind it."""
    lines, labels, fine = [], [], 1.0
    for _ in range(rng.integers(1, 4)):
        a, b = (int(one) for one in rng.integers(0, 5, 2))
        wrong = rng.random() < 0.3
        fine = 0.0 if wrong else fine
        lines.append(f"{a}+{b}={a + b + (1 if wrong else 0)}")
        labels.append(fine)
    text = " " + "\n".join(lines)
    return Labelled(f"q{number}:", text, step_ends(text), tuple(labels), question=f"q{number}")


def solutions(count: int, seed: int = 0) -> list[Labelled]:
    rng = np.random.default_rng(seed)
    return [solution(number, rng) for number in range(count)]
