"""Exported folders load in transformers and give our logits. Needs the [torch] extra; skipped aloud without it."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.model import load_hf, save_hf
from dsm_jax.tokenizer import train_sentencepiece
from tests.model.hf_cases import CASES, IDS, write_folder

torch = pytest.importorskip("torch", reason="no torch here: pip install -e .[torch]")
transformers = pytest.importorskip("transformers", reason="no transformers here: pip install -e .[torch]")


@pytest.mark.parametrize("name", CASES)
def test_an_exported_folder_gives_the_same_logits(tmp_path, name):
    model = load_hf(write_folder(tmp_path / "in", CASES[name]))
    save_hf(model, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, attn_implementation="eager"
    )
    assert type(theirs).__name__.lower().startswith(CASES[name]["model_type"])
    with torch.no_grad():
        logits = theirs(torch.tensor(IDS)).logits.numpy()
    assert logits.std() > 1
    np.testing.assert_allclose(model.logits(IDS), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_an_exported_tokenizer_gives_the_same_ids(tmp_path, name):
    text = "one plus two  is three\n\nx12 + 5 = 17"
    ours = train_sentencepiece([text] * 30, tmp_path / "t.model", vocab_size=300)
    model = load_hf(write_folder(tmp_path / "in", CASES[name] | {"vocab_size": 320}))
    save_hf(model, tmp_path / "out", tmp_path / "t.model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.encode(text) == [ours.bos_id, *ours.encode(text)]
    assert theirs.decode(theirs.encode(text, add_special_tokens=False)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)
