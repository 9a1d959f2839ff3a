"""The template's exact ids, the loss on answers only, and what happens to long examples."""

import numpy as np
import pytest

from dsm_jax.data.prompts import problem_batch, prompt_ids, prompt_text
from dsm_jax.data.sft import encode_example, sft_windows
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import train_sentencepiece

PAIRS = [
    (f"What is {a} + {b}?", f"{a} + {b} = {a + b}\nso \\boxed{{{a + b}}}") for a in range(5) for b in range(5)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = [f"User: {q}\n\nAssistant: {a}" for q, a in PAIRS]
    path = tmp_path_factory.mktemp("sft") / "t.model"
    return train_sentencepiece(texts, path, vocab_size=320, symbols=["+", "=", "\\boxed{"])


def test_template():
    assert prompt_text("1 + 1?") == "User: 1 + 1?\n\nAssistant:"


def test_prompt_is_a_prefix_and_only_the_answer_is_a_target(tokenizer):
    example = encode_example("1 + 1?", "It is 2.", tokenizer)
    prompt = prompt_ids("1 + 1?", tokenizer)
    assert example.ids[: len(prompt)] == prompt and prompt[0] == tokenizer.bos_id
    assert tokenizer.decode(example.ids) == "User: 1 + 1?\n\nAssistant: It is 2."
    targets = [i for i, is_target in zip(example.ids, example.is_target, strict=True) if is_target]
    assert targets == [*tokenizer.encode(" It is 2."), tokenizer.eos_id]


def test_windows_hold_every_example_with_its_mask(tokenizer):
    packed = sft_windows(PAIRS, tokenizer, 96)
    assert packed.dropped == 0 and len(packed.windows) < len(PAIRS)
    seen = []
    for window in packed.windows:
        for number in range(1, window["segment_ids"].max() + 1):
            here = window["segment_ids"] == number
            answer = window["tokens"][here & (window["loss_mask"] == 1)]
            assert answer[-1] == tokenizer.eos_id
            seen.append((tokenizer.decode(window["tokens"][here]), tokenizer.decode(answer)))
    assert sorted(seen) == sorted((f"User: {q}\n\nAssistant: {a}", f" {a}") for q, a in PAIRS)


def test_long_examples_are_counted(tokenizer):
    packed = sft_windows([*PAIRS, ("why?", "because " * 50)], tokenizer, 96)
    assert packed.dropped == 1
    with pytest.raises(UserError, match="fits into 5 tokens"):
        sft_windows(PAIRS, tokenizer, 5)


def test_problem_batches_are_consecutive():
    assert np.concatenate([problem_batch(range(100), step, 3) for step in range(4)]).tolist() == list(
        range(12)
    )
