"""Greedy completions of small checkpoints are transformers'. Needs the [torch] extra; skipped aloud without it."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.model import load_hf
from dsm_jax.sample import Sampler
from tests.model.hf_cases import CASES, write_folder
from tests.sample.models import Letters

torch = pytest.importorskip("torch", reason="no torch here: pip install -e .[torch]")
transformers = pytest.importorskip("transformers", reason="no transformers here: pip install -e .[torch]")
NEW = 24
LENGTHS = (1, 2, 5, 8, 8, 13, 27, 3)  # with NEW behind 32 too, the scalings' original length


class Few(Letters):
    vocab_size = 96


@pytest.mark.parametrize("name", CASES)
def test_greedy_is_transformers_greedy(tmp_path, name):
    """Of prompts of several lengths: theirs padded on the left in one batch, ours as they are, in fewer slots."""
    folder = write_folder(tmp_path, CASES[name] | {"max_position_embeddings": 64})
    rng = np.random.default_rng(2)
    prompts = [rng.integers(3, 96, length).tolist() for length in LENGTHS]
    ours = Sampler(load_hf(folder), Few(), slots=4, chunk=5).generate(
        prompts, max_new_tokens=NEW, temperature=0.0
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    width = max(LENGTHS)
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    theirs = model.generate(
        padded, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=2, pad_token_id=0
    )[:, width:].numpy()
    assert len({int(token) for row in theirs for token in row}) > 10
    for (completion,), row in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(completion.tokens, row[: len(completion.tokens)])
        assert len(completion.tokens) == NEW or completion.tokens[-1] == 2
