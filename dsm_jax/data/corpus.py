"""Packed windows in ArrayRecord files, read back by index; and texts in memory to such a folder.

A folder holds windows.array_record (or the parts that tokenize.py makes of sources of any size) and, written last,
manifest.json: its presence says that the folder is complete, its digest of what it was made from.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource

from dsm_jax.data.windows import Window, pack_documents
from dsm_jax.errors import UserError
from dsm_jax.records import write_records
from dsm_jax.run import METRICS, atomic, progress, read_json, write_json
from dsm_jax.tokenizer import Tokenizer

RECORDS = "windows.array_record"
MANIFEST = "manifest.json"
TARGET_BYTES = "target_bytes"  # in a manifest: UTF-8 bytes that the targets of each window spell
SEEN = "windows.json"  # of a run: the identity of its windows


class StoredWindows:
    """Random access to the windows in a folder made by `tokenize_to_windows` or tokenize.py's `tokenize_source`.

    `manifest` holds inputs (digest), window (tokens), documents, tokens (bos and eos included) and windows; of a source
    also files, tokenizer (its fingerprint) and text_bytes; of held-out windows target_bytes. Errors: UserError where the
    folder is not complete.
    """

    def __init__(self, folder: Path):
        self.manifest: dict[str, Any] = read_json(folder / MANIFEST)
        files = [str(folder / name) for name in self.manifest.get("files", [RECORDS])]
        damaged = UserError(f"{folder}: its windows are damaged: delete it and start again")
        try:
            self._records = ArrayRecordDataSource(files) if files else ()
        except (OSError, RuntimeError) as error:  # the reader's, for a missing or a cut file
            raise damaged from error
        if len(self._records) != self.manifest["windows"]:
            raise damaged

    def identity(self) -> str:
        """What tells these windows from others, wherever they lie: how many, of what, and some of them."""
        digest = hashlib.sha256(
            f"{self.manifest['tokenizer']} {self.manifest['tokens']} {len(self)}".encode()
        )
        for index in sorted({0, len(self) // 3, len(self) // 2, len(self) - 1}) if len(self) else ():
            digest.update(self._records[index])
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Window:
        return _unpack(self._records[index])


class Identified(Protocol):
    """Windows that can be told from others."""

    def identity(self) -> str: ...


def require_same_windows(run: Path, sources: Mapping[str, Identified]) -> None:
    """UserError where a run that has begun goes on with other windows than it began with; a new run's are noted."""
    here = {name: windows.identity() for name, windows in sources.items()}
    if not (run / METRICS).exists() or not (run / SEEN).exists():
        return write_json(run / SEEN, here)
    there = read_json(run / SEEN)
    differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if differing:
        raise UserError(
            f"{run} began with other windows of {', '.join(differing)}: their files have changed since; bring them back, or "
            "take another --out"
        )


def tokenize_to_windows(
    texts: Collection[str], tokenizer: Tokenizer, window: int, out: Path
) -> StoredWindows:
    """Packs the documents bos + text + eos into windows of `window` tokens, in the folder `out`.

    A folder complete for the same texts, tokenizer and window is used as it is; any other is replaced.
    Errors: UserError where there is no text.
    """
    if not texts:
        raise UserError(f"no text to tokenise into {out}: the corpus is empty")
    inputs = _digest(texts, tokenizer, window)
    if (out / MANIFEST).exists():
        if read_json(out / MANIFEST)["inputs"] == inputs:
            return StoredWindows(out)
        (out / MANIFEST).unlink()
    out.mkdir(parents=True, exist_ok=True)
    tokens = 0

    def records() -> Iterator[bytes]:
        nonlocal tokens
        for packed in pack_documents(_documents(texts, tokenizer, out.name), window):
            tokens += int(np.count_nonzero(packed["segment_ids"]))
            yield pack_window(packed)

    with atomic(out / RECORDS) as tmp:
        windows = write_records(tmp, records())
    counts = {"documents": len(texts), "tokens": tokens, "windows": windows}
    write_json(out / MANIFEST, {"inputs": inputs, "window": window, **counts})
    return StoredWindows(out)


def _documents(texts: Collection[str], tokenizer: Tokenizer, name: str) -> Iterator[np.ndarray]:
    with progress(len(texts), f"tokenise {name}") as bar:
        for text in texts:
            yield tokenizer.document(text)
            bar.advance()


def _digest(texts: Collection[str], tokenizer: Tokenizer, window: int) -> str:
    digest = hashlib.sha256(f"windows 1 {tokenizer.fingerprint} {window}\n".encode())
    for text in texts:
        data = text.encode("utf-8", "replace")
        digest.update(f"{len(data)} ".encode() + data)
    return digest.hexdigest()


def pack_window(window: Window) -> bytes:
    """A record: tokens as little-endian int32, then segment ids as uint16, then the loss mask as uint8."""
    tokens = window["tokens"].astype("<i4", copy=False)
    segment_ids, loss_mask = window["segment_ids"].astype("<u2"), window["loss_mask"].astype("u1")
    return tokens.tobytes() + segment_ids.tobytes() + loss_mask.tobytes()


def _unpack(record: bytes) -> Window:
    length = len(record) // 7
    return {
        "tokens": np.frombuffer(record, "<i4", length).astype(np.int32),
        "segment_ids": np.frombuffer(record, "<u2", length, 4 * length).astype(np.int32),
        "loss_mask": np.frombuffer(record, "u1", length, 6 * length).astype(np.float32),
    }
