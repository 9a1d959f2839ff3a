"""A sentencepiece model that we train, written as a tokenizer.json, which transformers reads without sentencepiece.

Only byte-pair models with byte fallback, without normalisation or a space in front: any other is told apart by encoding
its own pieces both ways. Left out on purpose: the character that stands for a space in the pieces (U+2581), which this
form reads as a space. (transformers 5 takes Qwen2's own tokenizer for every folder of model_type qwen2: there, load
it by PreTrainedTokenizerFast.)
"""

from __future__ import annotations

from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from dsm_jax.run import atomic, write_json
from dsm_jax.tokenizer import SPACE_MARK

ROLES = {
    "bos_token": 1,
    "eos_token": 2,
    "unk_token": 3,
    "pad_token": 0,
}  # as train_sentencepiece numbers them


def write_tokenizer_json(model: Path, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json in `folder`, where the model can be told in them exactly."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    numbered = [pieces.bos_id(), pieces.eos_id(), pieces.unk_id(), pieces.pad_id()] == [*ROLES.values()]
    if not numbered or not any(map(pieces.is_byte, range(len(pieces)))):
        return
    tokenizer = _convert(pieces)
    probe = "".join(map(pieces.id_to_piece, range(len(ROLES), len(pieces)))).replace(SPACE_MARK, " ")
    if tokenizer.encode(probe, add_special_tokens=False).ids != pieces.encode(probe):
        return
    with atomic(folder / "tokenizer.json") as tmp:
        tokenizer.save(str(tmp))
    names = {role: pieces.id_to_piece(i) for role, i in ROLES.items()}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"} | names)


def _convert(pieces: sentencepiece.SentencePieceProcessor) -> Tokenizer:
    vocab = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    control = [name for name, i in vocab.items() if pieces.is_control(i) or pieces.is_unknown(i)]
    learned = [name for name, i in vocab.items() if name not in control and not pieces.is_byte(i)]
    first_byte = min(i for i in vocab.values() if pieces.is_byte(i))
    whole = [name for name in learned if vocab[name] < first_byte]  # user-defined: never made by a merge
    merges = [pair for name in learned if name not in whole for pair in _splits(name, vocab)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=pieces.id_to_piece(3), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE_MARK)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in control])
    # A symbol with a space in it is never met: sentencepiece looks for it behind the replacement of spaces.
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in whole if " " not in name])
    bos = pieces.id_to_piece(ROLES["bos_token"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, ROLES["bos_token"])]
    )
    return tokenizer


def _splits(name: str, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs of pieces that make this one; of equal rank to sentencepiece, which looks at the whole only."""
    cuts = [(name[:at], name[at:]) for at in range(1, len(name))]
    return sorted(
        (pair for pair in cuts if set(pair) <= vocab.keys()), key=lambda pair: [*map(vocab.get, pair)]
    )
