"""The tokens with which steps end, under tokenizers of several kinds, against offsets in the bytes of their vocabularies."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.rl.steps.segments import step_ends
from dsm_jax.rl.steps.token_ends import completion_ends, encoded_ends, token_ends
from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import load_tokenizer
from tests.rl.steps.tokenizers_of_kinds import KINDS, TEXTS, make, vocabulary_bytes

BROKEN = "\ufffd"
BYTE_LEVEL = ("gpt2", "over newlines")
REAL = st.lists(
    st.sampled_from([text[at : at + 9] for text in TEXTS[:4] for at in range(0, len(text), 5)])
    | st.sampled_from(
        [
            "\n",
            "\n\n",
            "。\n",
            ".\n",
            " ",
            "  ",
            "▁",
            "👨‍👩‍👧",
            "é",
            "e\u0301",
            "\ufffd",
            "2024",
            "\\",
            "<s>",
            "\x00",
        ]
    )
    | st.text(max_size=3)
).map("".join)


@functools.cache
def made(kind):
    folder = Path(tempfile.mkdtemp()) / "made"
    return make(kind, folder), vocabulary_bytes(kind, folder)


def lossy(kind, data):
    """As these tokenizers show bytes that are no UTF-8: one mark for each byte, or for the start of a character."""
    if kind in BYTE_LEVEL:
        return data.decode("utf-8", "replace")
    return "".join(
        BROKEN if "\ud800" <= char <= "\udfff" else char for char in data.decode("utf-8", "surrogateescape")
    )


def by_vocabulary(kind, tokens, text, ends):
    """For each end the first token with which all bytes before it are there; where these are broken, from the texts of all
    beginnings."""
    pieces = [made(kind)[1].get(token, b"") for token in tokens]
    data, sizes = b"".join(pieces), np.cumsum([len(piece) for piece in pieces])
    front = 0
    if lossy(kind, data) != text:  # its first space is not shown
        assert lossy(kind, data)[1:] == text and data[:1] == b" "
        front = 1
    wholes = [text[:end].rstrip(BROKEN) for end in ends]
    if all(data[front:].startswith(whole.encode()) for whole in wholes):
        return [
            next(i for i, size in enumerate(sizes) if size >= front + len(whole.encode())) for whole in wholes
        ]
    shown = [lossy(kind, data[front:size]).rstrip(BROKEN) for size in sizes]
    return [next(i for i, one in enumerate(shown) if one.startswith(whole)) for whole in wholes]


def drawn_ends(data, text):
    return sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=8))) if text else []


@pytest.mark.parametrize("kind", KINDS)
@given(text=REAL, data=st.data())
def test_text_as_it_is_encoded(kind, text, data):
    tokenizer = made(kind)[0]
    tokens = tokenizer.encode(text)
    text = tokenizer.decode(tokens)
    ends = drawn_ends(data, text)
    assert token_ends(tokens, ends, tokenizer).tolist() == by_vocabulary(kind, tokens, text, ends)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_tokens_that_no_encoder_makes(kind, data):
    """Cut characters, special tokens, ids beyond the vocabulary, any of them anywhere."""
    tokenizer, known = made(kind)
    some = st.integers(0, tokenizer.vocab_size - 1) | st.sampled_from(
        [tokenizer.eos_id, tokenizer.vocab_size, 10**6]
    )
    bytes_only = st.sampled_from([i for i, piece in known.items() if len(piece) == 1 and piece[0] >= 0x80])
    spelled = [i for byte in BROKEN.encode() for i, piece in known.items() if piece == bytes([byte])][:3]
    parts = data.draw(
        st.lists(
            some.map(lambda i: [i])
            | bytes_only.map(lambda i: [i])
            | st.just(spelled)
            | REAL.map(tokenizer.encode)
        )
    )
    tokens = [token for part in parts for token in part]
    text = tokenizer.decode(tokens)
    ends = drawn_ends(data, text)
    found = token_ends(np.array(tokens, np.int32), ends, tokenizer)
    assert found.dtype == np.int32 and found.tolist() == by_vocabulary(kind, tokens, text, ends)


@pytest.mark.parametrize("kind", KINDS)
@given(text=REAL, splitting=st.sampled_from(["lines", "sentences"]))
def test_an_encoded_text(kind, text, splitting):
    """Offsets are of the text itself, whatever decoding makes of its ids."""
    tokenizer, known = made(kind)
    text = text.replace("▁", "")  # read as a space by some
    ends = step_ends(text, splitting)
    ids, found = encoded_ends(text, ends, tokenizer)
    assert found.dtype == np.int32 and len(found) == len(ends)
    pieces = [known.get(i, b"") for i in ids]
    data, own = b"".join(pieces), text.encode()
    front = len(data) - len(own)
    assert front >= 0 and data[front:] == own and not data[:front].strip()
    for end, index in zip(ends, found, strict=True):
        whole = front + len(text[:end].rstrip(BROKEN).encode())
        assert whole == 0 == index or len(b"".join(pieces[:index])) < whole <= len(
            b"".join(pieces[: index + 1])
        )


def test_a_tokenizer_that_merges_over_the_border():
    tokenizer = made("over newlines")[0]
    text = "She spends 40 * 3.\nThe total is 800.\n\nThe answer"
    ids, found = encoded_ends(text, step_ends(text), tokenizer)
    assert {"\nT", "\n\nT"} <= {tokenizer.decode([i]) for i in ids}
    assert [tokenizer.decode(ids[: i + 1]) for i in found] == [text[:18], text[:36], text]


def test_a_tokenizer_that_rewrites_text(tmp_path):
    """Lower case, unknown words, white space lost: each step is encoded by itself."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    words = ["<unk>", "<s>", "</s>", "add", "##s", ".", "two"]
    piece = tokenizers.Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    piece.normalizer, piece.decoder = normalizers.Lowercase(), decoders.WordPiece()
    piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    piece.add_special_tokens(["<unk>", "<s>", "</s>"])
    piece.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    text = "  Adds two.\nTwo three.  \n"
    ids, ends = encoded_ends(text, step_ends(text), tokenizer)
    assert [words[i] for i in ids] == ["add", "##s", "two", ".", "two", "<unk>", "."]
    assert ends.tolist() == [3, 6]
    assert tokenizer.decode(ids) == "adds two. two."
    assert token_ends(ids, [4, 9, 14], tokenizer).tolist() == [1, 3, 6]


def completion(tokens, reason):
    empty = np.zeros(len(tokens), np.float32)
    return Completion("", np.array(tokens, np.int32), empty, empty, empty.astype(bool), reason)


def test_the_last_step_ends_with_the_token_that_ends_the_completion():
    tokenizer = made("sentencepiece")[0]
    text = "Two.\n3+5=8\n"
    tokens = tokenizer.encode(text)
    inner = token_ends(tokens, (4, 10), tokenizer)
    assert inner[-1] == len(tokens) - 2  # the newline behind it is no part of it
    done = completion([*tokens, tokenizer.eos_id], "stop")
    assert completion_ends(done, (4, 10), tokenizer).tolist() == [inner[0], len(tokens)]
    cut = completion(tokens, "length")
    assert completion_ends(cut, (4, 10), tokenizer).tolist() == inner.tolist()
    assert completion_ends(completion([tokenizer.eos_id], "stop"), (), tokenizer).shape == (0,)
    assert completion_ends(completion([], "error"), (), tokenizer).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_tokens_are_decoded_once(kind, monkeypatch):
    """Not once for each token or step: it runs for every completion of a rollout."""
    tokenizer, calls = made(kind)[0], []
    tokens = tokenizer.encode("".join(TEXTS) * 2)[:1024]
    text = tokenizer.decode(tokens)  # in Chinese, cut anywhere in a character
    assert len(tokens) == 1024 and len(step_ends(text)) > 10
    decode = type(tokenizer).decode
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids: calls.append(ids) or decode(self, ids))
    token_ends(tokens, step_ends(text), tokenizer)
    assert len(calls) == 1
