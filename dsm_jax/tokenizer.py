"""Text to token ids and back: sentencepiece models that we train, tokenizer.json files that users bring.

One protocol serves both. `encode` never yields a special token, whatever the text says ("</s>" typed by a
user is four characters), and `decode` drops special tokens; whoever builds a sequence adds bos and eos by id.
Left out on purpose: chat templates (dsm_jax.chat), padding (masks come from lengths, not from pad_id),
and training on more text than fits into memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece
import tokenizers

from dsm_jax.errors import UserError
from dsm_jax.run import atomic

SPACE_MARK = "\u2581"  # sentencepiece writes a space as this character, and reads this character as a space
RESERVED_PIECES = 4 + 256  # pad, bos, eos, unk and the byte pieces
DIGITS = "0123456789"
UNK_NAMES = ("<unk>", "[UNK]", "<|unk|>")
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")  # of tokenizer_config.json
BOS_NAMES = ("<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>", "<bos>", "<|endoftext|>")
EOS_NAMES = ("<｜end▁of▁sentence｜>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|endoftext|>")
PAD_NAMES = ("<pad>", "<|pad|>", "[PAD]")
BYTE_NAME = re.compile(r"<0x([0-9A-F]{2})>")  # where rare characters are spelled in bytes
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
# Character -> byte as GPT-2 writes bytes: the printable ones are themselves, the others stand behind Latin-1 in order.
BYTE_LEVEL = {chr(byte): byte for byte in PRINTABLE} | {
    chr(0x100 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(PRINTABLE)))
}
BROKEN = "\ufffd"  # what decoding gives for bytes that are no character
UNFINISHED = 3  # at most this many of them may still become a character: all of its bytes but the last
CONTEXT = 16  # ids that a stream keeps at least


class Tokenizer(Protocol):
    """What the rest of the package knows of a tokenizer."""

    vocab_size: int  # largest id + 1
    bos_id: int
    eos_id: int
    pad_id: int
    fingerprint: str  # SHA-256 of its file: equal where two tokenizers give the same ids

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without special tokens. A lone surrogate is read as "?"."""
        ...

    def document(self, text: str) -> np.ndarray:
        """bos, the ids that encode gives, eos: int32."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; bytes that are no UTF-8 become U+FFFD.

        Dropped: special tokens, and ids outside the vocabulary (a model's may be padded beyond it).
        """
        ...

    def spelled(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes that each id adds to the text, b"" where decode drops it; a character may be in several of them.

        In a row they are UTF-8 of the text, but for white space that decode may take away in front.
        """
        ...


def train_sentencepiece(
    texts: Iterable[str], path: Path, *, vocab_size: int, symbols: Sequence[str] = ()
) -> Tokenizer:
    """Trains a BPE model with byte fallback and writes it to `path` (NAME.model): the same bytes each time.

    Digits are split one by one (DeepSeek LLM, arXiv 2401.02954). The text is taken as it is: no
    normalisation, all white space kept. The newline and each of `symbols` is a piece of its own. At most half
    of the free pieces are single characters; rarer characters are spelled in bytes.
    Errors: UserError where there is no text, or `vocab_size` is too small or too large for it.
    """
    pieces = list(dict.fromkeys(["\n", *symbols]))
    room = (vocab_size - RESERVED_PIECES - len(pieces)) // 2
    if room < len(DIGITS):
        least = RESERVED_PIECES + len(pieces) + 2 * len(DIGITS)
        raise UserError(f"vocab_size {vocab_size}: the bytes and {len(pieces)} symbols need at least {least}")
    lines = _training_lines(texts, room)
    if not lines:
        raise UserError("no text to train a tokenizer on: give at least one text that is not empty")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            user_defined_symbols=pieces, byte_fallback=True, split_digits=True, required_chars=DIGITS,
            character_coverage=1.0, max_sentence_length=1 << 16,
            normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
            num_threads=1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        reason = " ".join(str(error).split("] ")[-1].split())
        raise UserError(f"vocab_size {vocab_size} does not fit the text: {reason}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as tmp:
        tmp.write_bytes(model.getvalue())
    return SentencePieceTokenizer(path)


def load_tokenizer(path: str | Path, *, rows: int | None = None) -> Tokenizer:
    """Loads a sentencepiece NAME.model, a tokenizer.json, or a folder with one of them (JSON first).

    rows: ids that the model has. Errors: UserError where the file is missing, unreadable, has no bos or eos token, or
    more ids than that.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / "tokenizer.json", path / "tokenizer.model", *sorted(path.glob("*.model"))]
        files = [file for file in found if file.is_file()]
        if not files:
            raise UserError(f"{path}: no tokenizer.json and no *.model in this folder")
        path = files[0]
    if not path.is_file():
        raise UserError(f"{path}: no such tokenizer file")
    tokenizer = JsonTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path)
    if rows is not None and tokenizer.vocab_size > rows:
        raise UserError(
            f"{path}: has {tokenizer.vocab_size} ids, the model {rows}; the two do not belong together: give the model's "
            "own tokenizer"
        )
    return tokenizer


class SentencePieceTokenizer:
    """A sentencepiece model file."""

    def __init__(self, path: Path):
        try:
            data = path.read_bytes()
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: not a sentencepiece model, or damaged; make it again") from error
        self.fingerprint = hashlib.sha256(data).hexdigest()
        model = self._model
        self.vocab_size = model.get_piece_size()
        self.bos_id, self.eos_id = model.bos_id(), model.eos_id()
        if min(self.bos_id, self.eos_id) < 0:
            raise UserError(f"{path}: this sentencepiece model has no bos or no eos piece; both are needed")
        self.pad_id = model.pad_id() if model.pad_id() >= 0 else self.eos_id
        special = {i for i in range(self.vocab_size) if model.is_control(i) or model.is_unknown(i)}
        self._text_ids = set(range(self.vocab_size)) - special
        mark = [model.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
        self._mark_ids = mark if all(model.is_byte(i) for i in mark) else []

    def encode(self, text: str) -> list[int]:
        text = valid(text)
        if SPACE_MARK not in text or not self._mark_ids:
            return self._model.encode(text)
        first, *others = text.split(SPACE_MARK)
        ids = self._model.encode(first)
        for part in others:
            ids += self._mark_ids + self._model.encode(part)
        return ids

    def document(self, text: str) -> np.ndarray:
        if SPACE_MARK in text:
            return _document(self, text)
        return self._model.encode(valid(text), return_type="numpy", add_bos=True, add_eos=True)

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode([int(i) for i in ids if int(i) in self._text_ids])

    def spelled(self, ids: Sequence[int]) -> list[bytes]:
        return [self._spellings.get(int(i), b"") for i in ids]

    @cached_property
    def _spellings(self) -> dict[int, bytes]:
        """The bytes of each id that is text."""
        pieces = {i: self._model.id_to_piece(i) for i in self._text_ids}
        return {
            i: bytes.fromhex(piece[3:5])
            if self._model.is_byte(i)
            else piece.replace(SPACE_MARK, " ").encode()
            for i, piece in pieces.items()
        }


class JsonTokenizer:
    """A Hugging Face tokenizer.json; the special tokens' names come from tokenizer_config.json beside it."""

    def __init__(self, path: Path):
        try:
            self._model = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for whatever is wrong with the file
            raise UserError(f"{path}: not a tokenizer.json, or a damaged one ({error})") from error
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        config = read_tokenizer_config(path.with_name("tokenizer_config.json"))
        names = token_names(config, ("bos_token", "eos_token", "pad_token"))
        self.bos_id = self._special_id(path, "bos_token", names, BOS_NAMES)
        self.eos_id = self._special_id(path, "eos_token", names, EOS_NAMES)
        pad = [name for name in (names.get("pad_token"), *PAD_NAMES) if name]
        self.pad_id = next((i for i in map(self._model.token_to_id, pad) if i is not None), self.eos_id)
        self.vocab_size = max(self._model.get_vocab(with_added_tokens=True).values()) + 1
        special = {self._model.id_to_token(i) for i in (self.bos_id, self.eos_id, self.pad_id)}
        self._model.add_special_tokens(sorted(special))  # also where the file does not mark them as special
        self._special = SpecialTokens(self._model)
        self._model.no_truncation()
        self._model.no_padding()
        self._dropped = {i for i, token in self._model.get_added_tokens_decoder().items() if token.special}
        self._bytes = self._byte_tokens()

    def _byte_tokens(self) -> dict[int, int]:
        """Id -> byte, of the tokens that the file's decoder reads as bytes; of a byte-level vocabulary none."""
        decoder = self._model.decoder
        if decoder is None or decoder.decode(["<0x41>"]) != "A":
            return {}
        names = {i: BYTE_NAME.fullmatch(name) for name, i in self._model.get_vocab().items()}
        return {i: int(found[1], 16) for i, found in names.items() if found}

    def _special_id(self, path: Path, role: str, names: dict[str, str], usual: Sequence[str]) -> int:
        for name in (names[role],) if role in names else usual:
            token = self._model.token_to_id(name)
            if token is not None:
                return token
        raise UserError(f"{path}: no {role}; name it in tokenizer_config.json beside it")

    def encode(self, text: str) -> list[int]:
        return self._special.encode_as_text(valid(text))

    def document(self, text: str) -> np.ndarray:
        return _document(self, text)

    def decode(self, ids: Sequence[int]) -> str:
        known = [int(i) for i in ids if 0 <= int(i) < self.vocab_size]
        text = self._model.decode(known, skip_special_tokens=True)
        return self._decode_runs(known) if BROKEN in text and self._bytes else text

    def _decode_runs(self, ids: Sequence[int]) -> str:
        """As sentencepiece does: of a run of byte tokens only those that are no UTF-8 are lost, not all of the run."""
        tokens: list[str] = []
        for is_byte, run in groupby((i for i in ids if i not in self._dropped), self._bytes.__contains__):
            if is_byte:
                tokens += _byte_names(bytes(map(self._bytes.__getitem__, run)))
            else:
                tokens += filter(None, map(self._model.id_to_token, run))
        return self._model.decoder.decode(tokens)

    def spelled(self, ids: Sequence[int]) -> list[bytes]:
        return [self._spellings.get(int(i), b"") for i in ids]

    @cached_property
    def _spellings(self) -> dict[int, bytes]:
        """The bytes of each id that is text."""
        names = {i: name for name, i in self._model.get_vocab().items() if i not in self._dropped}
        decoder = self._model.decoder
        if decoder is None or decoder.decode(["a", "Ġ", "ä", "½", "ł"]) != "a 你":
            return {i: self._bytes_of(i, name) for i, name in names.items()}
        return {i: _byte_level(name) for i, name in names.items()}

    def _bytes_of(self, token: int, name: str) -> bytes:
        """Of a vocabulary that is not byte-level: what the token adds behind another one."""
        if token in self._bytes:
            return bytes([self._bytes[token]])
        decode = self._model.decoder.decode if self._model.decoder else " ".join
        return str(decode(["a", name])).removeprefix("a").encode()


def _byte_level(name: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary, which writes each as a character (GPT-2's table)."""
    if BYTE_LEVEL.keys() >= set(name):
        return bytes(map(BYTE_LEVEL.__getitem__, name))
    return name.encode()  # an added token, kept as it is


def _byte_names(run: bytes) -> Iterator[str]:
    """The names of the bytes' tokens, BROKEN for each that belongs to no character."""
    for char in run.decode("utf-8", "surrogateescape"):
        if "\ud800" <= char <= "\udfff":
            yield BROKEN
        else:
            yield from (f"<0x{byte:02X}>" for byte in char.encode())


def _document(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array([tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id], np.int32)


class SpecialTokens:
    """The special tokens of a tokenizer.json, and text encoded without them, even where it spells one."""

    def __init__(self, model: tokenizers.Tokenizer):
        self._model = model
        added = {i: token.content for i, token in model.get_added_tokens_decoder().items() if token.special}
        self.ids = {
            i for i, name in added.items() if name not in UNK_NAMES
        }  # what any rare character may become
        names = sorted((added[i] for i in self.ids), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def encode_as_text(self, text: str) -> list[int]:
        """Token ids of which none is special; what the model can write as a special token only is left out."""
        self._model.encode_special_tokens = True  # the library's name for: read their text as ordinary text
        ids = self._model.encode(text, add_special_tokens=False).ids
        if self.ids.isdisjoint(ids):
            return ids
        # The model's own vocabulary has them as well: cut behind the first character of each.
        parts = self.pattern.sub(
            lambda found: f"{found[0][:1]}\0{found[0][1:]}", text.replace("\0", "")
        ).split("\0")
        encoded = [i for part in parts for i in self._model.encode(part, add_special_tokens=False).ids]
        return [i for i in encoded if i not in self.ids]


class TextStream:
    """The text of ids as they come: whole characters only, in sum what decoding all ids at once gives.

    A character may take several tokens (a Chinese one often does); its text comes with the last of them. (A tokenizer
    that looks back further than a few pieces, as some do behind a special token, may differ by a space.)
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._ids: list[int] = []  # the last ones
        self._given = 0  # characters of their text that are out

    def copy(self) -> TextStream:
        """The same place in the same text, to go on from twice."""
        other = TextStream(self.tokenizer)
        other._ids, other._given = [*self._ids], self._given
        return other

    def push(self, ids: Sequence[int]) -> str:
        """The text that these ids complete; "" while a character is not whole."""
        self._ids += ids
        text = self.tokenizer.decode(self._ids)
        whole = len(text.rstrip(BROKEN))
        new = text[self._given : max(whole, len(text) - UNFINISHED)]
        self._given += len(new)
        if len(self._ids) > 4 * CONTEXT:
            self._forget(len(text) - self._given)
        return new

    def finish(self) -> str:
        """What was held back, where the ids end within a character."""
        new = self.tokenizer.decode(self._ids)[self._given :]
        self._given += len(new)
        return new

    def _forget(self, held: int) -> None:
        """Keeps the last ids only, if enough of their text is out: up to three characters are parts of one that is cut."""
        text = self.tokenizer.decode(self._ids[-CONTEXT:])
        given = len(text) - held
        if given > UNFINISHED:
            self._ids, self._given = self._ids[-CONTEXT:], given


def read_tokenizer_config(file: Path) -> dict[str, Any]:
    """The entries of a tokenizer_config.json; none where there is no file. Raises UserError for what is no object."""
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({error}); fetch it again") from error
    if not isinstance(entries, dict):
        raise UserError(f"{file}: not a JSON object; fetch it again")
    for role, token in entries.items():
        text = token.get("content") if isinstance(token, dict) else token
        if role in ROLES and not isinstance(text, str | None):
            raise UserError(f'{file}: {role} is {token!r}; it must be text or {{"content": text}}')
    return entries


def token_names(config: Mapping[str, Any], roles: Sequence[str]) -> dict[str, str]:
    """{"bos_token": name, ...} of those that are there; tokens are strings or {"content": string}."""
    tokens = {role: config.get(role) for role in roles}
    names = {
        role: token.get("content") if isinstance(token, dict) else token for role, token in tokens.items()
    }
    return {role: name for role, name in names.items() if name}


def valid(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _training_lines(texts: Iterable[str], room: int) -> list[str]:
    """The text in lines of at most 4,096 characters (the trainer skips what is longer than its limit).

    Its characters are the most frequent ones, at most `room`, at most 99.95% of the text, and the digits; any
    other character ends a line. (The trainer's own character_coverage cannot go below 98%.)
    """
    lines = [line for text in texts for line in valid(text).split("\n")]
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    alphabet, covered = set(DIGITS), 0
    for char, count in counts.most_common(room):
        if covered >= 0.9995 * counts.total():
            break
        alphabet.add(char)
        covered += count
    rare = re.compile("[^" + re.escape("".join(sorted(alphabet))) + "]")
    parts = (part for line in lines for part in rare.split(line))
    return [part[at : at + 4096] for part in parts for at in range(0, len(part), 4096)]
