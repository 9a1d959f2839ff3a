"""Tokenizers of several kinds, and the bytes of their tokens, read from their vocabularies: not by decoding."""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece
from dsm_jax.tokenizer_json import write_tokenizer_json

KINDS = ("sentencepiece", "its json", "with a space in front", "gpt2", "over newlines", "llama2")
TEXTS = [
    "Janet pays $40/hour for 3 hours.\nShe spends 40 * 3 = <<40*3=120>>120 a week.\n\nThe answer is \\boxed{120}.\n",
    "We have $\\frac{1}{2} + x^{2} = 3$.\r\nThen $x = \\pm\\sqrt{\\frac{5}{2}}$. So \\[x \\approx 1.58\\].\n",
    "小明有3个苹果，又买了5个。\n一共有3+5=8个。\n答案是\\boxed{8}。",
    "Step 1: There are 20 x 40 = 800 seeds.\nStep 2: The total is 800 + 800 = 1600. 😀 naïve ½\n",
] * 5


def make(kind: str, folder: Path):
    """A small tokenizer of this kind, in the folder."""
    folder.mkdir()
    if kind in ("sentencepiece", "its json"):
        train_sentencepiece(TEXTS, folder / "t.model", vocab_size=420, symbols=["\\boxed{"])
        if kind == "its json":
            write_tokenizer_json(folder / "t.model", folder)
    elif kind == "with a space in front":
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS), model_prefix=str(folder / "t"), model_type="bpe", vocab_size=440,
            byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        )  # fmt: skip
    else:
        {"gpt2": gpt2, "over newlines": over_newlines, "llama2": llama2}[kind]().save(
            str(folder / "tokenizer.json")
        )
    return load_tokenizer(folder)


def gpt2() -> tokenizers.Tokenizer:
    """Byte-level as GPT-2: words with the space before them."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return trained(made)


def over_newlines() -> tokenizers.Tokenizer:
    """Byte-level; single digits, and merges over white space, newlines and full stops: ".\\nThe" may be one token."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[。\n]+\S?"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return trained(made)


def trained(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_tokens(["<think> 思"])  # kept as it is, and no special token
    return made


def llama2() -> tokenizers.Tokenizer:
    """A space mark for the space, one more in front, bytes of rare characters, the first space decoded away."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *"▁abcde.思\n",
        "▁a",
        "b.",
        ".\n",
    ]
    merges = [("▁", "a"), ("b", "."), (".", "\n")]
    made = tokenizers.Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True
        )
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def vocabulary_bytes(kind: str, folder: Path) -> dict[int, bytes]:
    """The bytes of every id that is text."""
    if kind in ("sentencepiece", "with a space in front"):
        (file,) = folder.glob("*.model")
        model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        names = {
            i: model.id_to_piece(i)
            for i in range(len(model))
            if not model.is_control(i) and not model.is_unknown(i)
        }
    else:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        names = {i: name for name, i in content["model"]["vocab"].items()}
        names |= {one["id"]: one["content"] for one in content["added_tokens"]}
        names = {
            i: name
            for i, name in names.items()
            if i not in {one["id"] for one in content["added_tokens"] if one["special"]}
        }
    if kind in ("gpt2", "over newlines"):
        return {i: name.encode() if name == "<think> 思" else gpt2_bytes(name) for i, name in names.items()}
    return {
        i: bytes([int(name[3:5], 16)]) if name.startswith("<0x") else name.replace("▁", " ").encode()
        for i, name in names.items()
    }


def gpt2_bytes(name: str) -> bytes:
    """GPT-2's table: a byte that prints stands for itself, the others for the characters from 256 on, in order."""
    table, free = {}, 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            table[chr(byte)] = byte
        else:
            table[chr(free)] = byte
            free += 1
    return bytes(table[char] for char in name)
