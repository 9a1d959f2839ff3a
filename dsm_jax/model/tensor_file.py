"""Safetensors files read a few rows at a time, without mapping them: what is read is all the memory that it takes.

The library's own reader maps the file, so that reading a model once leaves all of it in the process's memory.
Left out on purpose: writing (the library does that), dtypes of quantised weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np

from dsm_jax.errors import UserError

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
CHUNK_BYTES = 4 * 2**20  # of a tensor, read at once
LENGTH_BYTES = 8  # of the header's length, in front of it
LFS_POINTER = b"version https://git-lfs"  # what stands in a clone without git-lfs
LONGEST_HEADER = 100 * 10**6  # bytes; the format's own limit


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: where it lies, and its numbers on demand."""

    path: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # bytes from the file's start

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, start: int, count: int) -> np.ndarray:
        """`count` rows along the first axis from `start` on: [count, ...]. Raises UserError where the file ends."""
        shape = (count, *self.shape[1:])
        row = prod(self.shape[1:]) * self.dtype.itemsize
        buffer = np.empty(count * row, np.uint8)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start * row)
            view = buffer.data
            while view and (read := file.readinto(view)):
                view = view[read:]
        if view:
            raise UserError(f"{self.path} ends inside {self.name}; fetch it again")
        return buffer.view(self.dtype).reshape(shape)


def open_tensors(path: Path) -> Iterator[Tensor]:
    """The tensors of a safetensors file, from its header alone.

    Raises UserError where the file is damaged or cut short, or a dtype is none of float32, float16 and bfloat16.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(LENGTH_BYTES)
            length = int.from_bytes(first, "little")
            header = file.read(length) if length <= min(size, LONGEST_HEADER) else b""
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if first == LFS_POINTER[:LENGTH_BYTES]:
        raise UserError(f"{path} is a pointer of git-lfs, not the weights: run git lfs pull in its folder")
    start = LENGTH_BYTES + length
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        found = [
            (name, entry["dtype"], tuple(map(int, entry["shape"])), *map(int, entry["data_offsets"]))
            for name, entry in entries.items()
        ]
        known = all(isinstance(kind, str) and len(place) == 2 for _, kind, _, *place in found)
        if not known or any(min(*shape, 0) < 0 for _, _, shape, *_ in found):
            raise ValueError
    except (ValueError, AttributeError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged (no safetensors header); fetch it again") from error
    for name, kind, shape, begin, end in found:
        if kind not in DTYPES:
            raise UserError(
                f"{path}: {name} is stored as {kind}, which is not supported; it must be one of {', '.join(DTYPES)}"
            )
        tensor = Tensor(path, name, DTYPES[kind], shape, start + begin)
        if end - begin != tensor.nbytes or begin < 0:
            raise UserError(
                f"{path} is damaged ({name} has {end - begin} bytes, its shape {shape} needs {tensor.nbytes}); fetch it again"
            )
        if start + end > size:
            raise UserError(
                f"{path} is cut short ({name} ends at byte {start + end} of {size}); fetch it again"
            )
        yield tensor
