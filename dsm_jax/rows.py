"""The rows of a file of JSON lines, of JSON or of parquet, each with its place for error messages.

NAME.jsonl, .ndjson and .json, also packed (.gz, .zst); a .json may be lines, one list of rows, or one row over several
lines. A list is read whole: it takes a few times its size in memory. Left out on purpose: what the rows mean.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from dsm_jax.errors import UserError

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")
DOCUMENTS = (".json", ".json.gz", ".json.zst")
ROWS = LINES + DOCUMENTS
PARQUET = (".parquet",)
READ = 1 << 16  # bytes of a .zst at once


def read_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of every row that is not blank; places are FILE:LINE, or "FILE, row N" in a list.

    Raises UserError naming the place of what is no JSON, or damaged.
    """
    if file.name.endswith(DOCUMENTS) and not _has_lines(file):
        yield from _document_rows(file)
        return
    with _opened(file) as lines:
        for number, line in _numbered(lines, file):
            if line.strip():
                yield f"{file}:{number}", _parsed(line, f"{file}:{number}")


def read_parquet(file: Path, columns: list[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a parquet file; only `columns` of it where they are given. Raises UserError where it is damaged."""
    import pyarrow

    row = 0
    try:
        for batch in _parquet(file).iter_batches(batch_size=256, columns=columns):
            for value in batch.to_pylist():
                row += 1
                yield f"{file}, row {row}", value
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}, row {row + 1}: damaged ({error}); fetch it again") from error


def parquet_columns(file: Path) -> list[str]:
    """The names of its columns. Raises UserError for what is no parquet file."""
    return _parquet(file).schema_arrow.names


def _parquet(file: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file}: not a parquet file, or damaged; fetch it again") from error


def _has_lines(file: Path) -> bool:
    """Whether the first line that is not blank is a row of its own."""
    with _opened(file) as lines:
        for _, line in _numbered(lines, file):
            if line.strip():
                if line.lstrip().startswith(
                    b"["
                ):  # a list, perhaps on one line of gigabytes: parsed once only
                    return False
                try:
                    return isinstance(json.loads(line), dict)
                except (ValueError, RecursionError):
                    return False
    return True


def _document_rows(file: Path) -> Iterator[tuple[str, Any]]:
    with _opened(file) as lines:
        text = b"".join(line for _, line in _numbered(lines, file))
    value = _parsed(text, str(file))
    if not isinstance(value, list):
        yield f"{file}:1", value
        return
    for number, row in enumerate(value, start=1):
        yield f"{file}, row {number}", row


def _numbered(lines: io.BufferedIOBase, file: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{file}:{number + 1}: damaged ({error}); fetch it again") from error


def _parsed(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f":{error.lineno}" if b"\n" in text.strip() else ""
        raise UserError(f"{place}{where}: not a row of JSON ({error}); mend or remove it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not a row of JSON ({error}); mend or remove it") from error


def _opened(file: Path) -> io.BufferedIOBase:
    """The file's bytes, unpacked."""
    if file.suffix == ".gz":
        return gzip.open(file)
    if file.suffix == ".zst":
        return io.BufferedReader(_Zstd(file.open("rb")), READ)
    return file.open("rb")


class _Zstd(io.RawIOBase):
    """What a .zst of one or more frames unpacks to. EOFError where the last one is cut: zstandard's own reader, which is
    silent about that, would make a short file of it."""

    def __init__(self, packed: io.BufferedIOBase):
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._within_frame = False
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked and (data := self._next()):
            self._unpacked = memoryview(self._frame.decompress(data))
            self._within_frame = not self._frame.eof
        size = min(len(buffer), len(self._unpacked))
        buffer[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

    def _next(self) -> bytes:
        """Packed bytes; b"" at the end."""
        left = b""
        if self._frame.eof:
            left = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        data = left or self._packed.read(READ)
        if not data and self._within_frame:
            raise EOFError("it ends within a frame")
        return data

    def close(self) -> None:
        self._packed.close()
        super().close()
