"""Tokenised corpora: read back exactly, skipped when complete, made again otherwise, same bytes."""

import numpy as np
import pytest

from dsm_jax.data.corpus import MANIFEST, RECORDS, StoredWindows, tokenize_to_windows
from dsm_jax.data.windows import pack_documents
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import train_sentencepiece

TEXTS = [f"the number {n} comes before {n + 1}" for n in range(200)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_sentencepiece(TEXTS, tmp_path_factory.mktemp("corpus") / "t.model", vocab_size=300)


def test_stored_windows_are_the_packed_ones(tmp_path, tokenizer):
    stored = tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path / "out")
    documents = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in TEXTS]
    packed = list(pack_documents(documents, 32))
    assert len(stored) == len(packed)
    for i, window in enumerate(packed):
        for name, array in window.items():
            np.testing.assert_array_equal(stored[i][name], array, strict=True)
    assert stored.manifest["documents"] == 200 and stored.manifest["tokens"] == sum(map(len, documents))


def test_complete_folder_is_kept_and_other_inputs_replace_it(tmp_path, tokenizer):
    tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path)
    made = (tmp_path / RECORDS).stat().st_mtime_ns
    tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path)
    assert (tmp_path / RECORDS).stat().st_mtime_ns == made
    assert len(tokenize_to_windows(TEXTS[:10], tokenizer, 32, tmp_path)) < 20
    assert tokenize_to_windows(TEXTS[:10], tokenizer, 16, tmp_path)[0]["tokens"].shape == (16,)


def test_same_bytes_after_a_stop_in_the_middle(tmp_path, tokenizer):
    class Stopping(list):
        def __iter__(self):
            yield from list.__iter__(self)
            self.passes = getattr(self, "passes", 0) + 1
            if self.passes == 2:
                raise KeyboardInterrupt

    tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        tokenize_to_windows(Stopping(TEXTS), tokenizer, 32, tmp_path / "b")
    assert not (tmp_path / "b" / MANIFEST).exists() and not (tmp_path / "b" / RECORDS).exists()
    tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path / "b")
    for name in (RECORDS, MANIFEST):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(list((tmp_path / "b").iterdir())) == 2


def test_bad_corpora(tmp_path, tokenizer):
    with pytest.raises(UserError, match="corpus is empty"):
        tokenize_to_windows([], tokenizer, 32, tmp_path)
    with pytest.raises(UserError, match="missing"):
        StoredWindows(tmp_path)
    tokenize_to_windows(TEXTS, tokenizer, 32, tmp_path / "cut")
    records = tmp_path / "cut" / RECORDS
    whole = records.read_bytes()
    for cut in (whole[:1000], whole[:-65536], b""):
        records.write_bytes(cut)
        with pytest.raises(UserError, match="damaged"):
            StoredWindows(tmp_path / "cut")
    records.unlink()
    with pytest.raises(UserError, match="damaged"):
        StoredWindows(tmp_path / "cut")
