"""The readable pages of a run as they lie on disk: read by columns, a shard at a time, never all at once.

A page's number is its place among all rows of all shards. What is known of every page is an array on disk with a value a
page (PageArray), so that memory does not grow with the crawl.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsm_jax.mine.pages import ROWS, shard_file
from dsm_jax.run import atomic, read_json


@dataclass(frozen=True)
class Shard:
    """One shard's rows and their numbers: `start` is its first page's."""

    file: Path
    start: int
    count: int

    @property
    def number(self) -> int:
        return int(self.file.stem)

    @property
    def pages(self) -> slice:
        return slice(self.start, self.start + self.count)

    def columns(self, *names: str) -> pa.Table:
        """Whole columns."""
        return pq.read_table(self.file, columns=list(names))

    def numbers(self, name: str) -> np.ndarray:
        """One column of numbers, [count]."""
        return self.columns(name)[name].to_numpy()

    def of_domains(self, domains: Collection[str]) -> np.ndarray:
        """bool [count]: whether a page is of one of these."""
        found = pc.is_in(self.columns("domain")["domain"], value_set=pa.array(sorted(domains), pa.string()))
        return found.to_numpy()

    def groups(self, *names: str) -> Iterator[tuple[int, pa.Table]]:
        """(number of its first page, columns) of each row group: for long texts."""
        start = self.start
        with pq.ParquetFile(self.file) as file:
            for i in range(file.num_row_groups):
                table = file.read_row_group(i, columns=list(names))
                yield start, table
                start += len(table)

    def rows(self, pages: np.ndarray, *names: str) -> Iterator[tuple[int, dict]]:
        """(page, its columns) of these pages of its own, which ascend; reads only the row groups that hold one."""
        start = self.start
        with pq.ParquetFile(self.file) as file:
            for i in range(file.num_row_groups):
                count = file.metadata.row_group(i).num_rows
                inside = pages[np.searchsorted(pages, start) : np.searchsorted(pages, start + count)]
                if len(inside):
                    table = file.read_row_group(i, columns=list(names)).take(inside - start)
                    yield from zip(inside.tolist(), table.to_pylist(), strict=True)
                start += count


class Crawl:
    """The pages of a folder that make_shards wrote: shards in the order of their source files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.shards: list[Shard] = []
        self.count = 0
        for number, rows in enumerate(_row_counts(folder)):
            self.shards.append(Shard(shard_file(folder, number), self.count, rows))
            self.count += rows

    def rows(self, pages: Sequence[int] | np.ndarray, *names: str) -> Iterator[tuple[int, dict]]:
        """(page, its columns) of these pages, in their order on disk; reads only the row groups that hold one."""
        wanted = np.unique(np.asarray(pages, np.int64))
        for shard in self.shards:
            inside = wanted[
                np.searchsorted(wanted, shard.start) : np.searchsorted(wanted, shard.start + shard.count)
            ]
            if len(inside):
                yield from shard.rows(inside, *names)


def _row_counts(folder: Path) -> list[int]:
    if (folder / ROWS).exists():
        return read_json(folder / ROWS)
    count = len(list(folder.glob("[0-9]*.parquet")))
    return [pq.read_metadata(shard_file(folder, number)).num_rows for number in range(count)]


@contextmanager
def page_array(path: Path, count: int, dtype: str) -> Iterator[np.ndarray]:
    """A new array on disk with a value for each of `count` pages, to fill; appears whole by rename. Raises OSError where
    the disk has no room for it."""
    with atomic(path) as tmp:
        values = np.lib.format.open_memmap(tmp, mode="w+", dtype=np.dtype(dtype), shape=(count,))
        _take_room(tmp)  # it has holes, and a full disk that is met through the mapping kills the process
        yield values
        values.flush()
        del values


def _take_room(path: Path) -> None:
    with open(path, "rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def mapped_array(path: Path) -> np.ndarray:
    """What page_array wrote, memory-mapped for reading."""
    return np.load(path, mmap_mode="r")
