"""Which pages are duplicates, and of which first page: by canonical URL, by exact text, by MinHash bands.

A page is a duplicate when an earlier page has one of its keys. Each column of keys is sorted on disk, as far as fits in
memory at once: runs of neighbouring shards, each sorted by key; then a range of keys from every run, in which all pages but
the first of a key are its duplicates. Last, every page follows its earliest such page until one that is none. On disk:
duplicates.npy, for each page its first page's number, or its own; until it is there, 16 bytes a page and column.

Left out on purpose: components of pages that are alike only through a later page, and 8 bytes a page on one machine for
the table that the last step follows.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from dsm_jax.mine.crawl import Crawl, Shard, page_array
from dsm_jax.mine.pages import KEYS
from dsm_jax.mine.tasks import HERE, Spread, for_each
from dsm_jax.run import atomic

SORT_PAGES = (
    1 << 20
)  # of a run, and of a range: some 120 MB. For billions of pages more, or the files are too many
CHUNK = 1 << 20


def find_duplicates(folder: Path, out: Path, spread: Spread = HERE) -> None:
    """Writes `out`, int64 [pages], for the crawl in `folder`, unless it is there."""
    work = out.with_suffix(".parts")
    if not out.exists():
        work.mkdir(exist_ok=True)
        _write_duplicates(folder, work, out, spread)
    shutil.rmtree(work, ignore_errors=True)  # a kill may have left it beside `out`


def _write_duplicates(folder: Path, work: Path, out: Path, spread: Spread) -> None:
    crawl = Crawl(folder)
    runs, ranges = len(_runs(crawl)), max(1, -(-crawl.count // SORT_PAGES))
    pending = [run for run in range(runs) if not _run_file(work, run, len(KEYS) - 1).exists()]
    for_each(partial(_sort_run, folder, work), pending, "sort keys (runs of shards)", spread)
    tasks = range(len(KEYS) * ranges)
    pending = [task for task in tasks if not _edges_file(work, task).exists()]
    for_each(
        partial(_find_edges, work, runs, ranges), pending, "look for duplicates (ranges of keys)", spread
    )
    with page_array(out, crawl.count, "int64") as first:
        _resolve(first, [_edges_file(work, task) for task in tasks])


def _runs(crawl: Crawl) -> list[list[Shard]]:
    """Neighbouring shards of SORT_PAGES pages together, or one larger shard."""
    runs: list[list[Shard]] = []
    for shard in crawl.shards:
        if not runs or shard.start + shard.count - runs[-1][0].start > SORT_PAGES:
            runs.append([])
        runs[-1].append(shard)
    return runs


def _run_file(folder: Path, run: int, column: int) -> Path:
    return folder / f"run-{run:06d}-{column:02d}.npy"


def _edges_file(folder: Path, task: int) -> Path:
    return folder / f"{task:06d}.npy"


def _save(file: Path, values: np.ndarray) -> None:
    with atomic(file) as tmp, open(tmp, "wb") as out:
        np.save(out, values)


def _sort_run(folder: Path, work: Path, run: int) -> None:
    """Writes for each column uint64 [2, n]: its keys in order, and their pages."""
    shards = _runs(Crawl(folder))[run]
    for column, name in enumerate(KEYS):
        keys = np.concatenate([shard.numbers(name) for shard in shards])
        inside = np.flatnonzero(keys)
        order = inside[np.argsort(keys[inside], kind="stable")]  # pages of a key stay in order
        pages = (order + shards[0].start).astype(np.uint64)
        _save(_run_file(work, run, column), np.stack([keys[order], pages]))


def _find_edges(work: Path, runs: int, ranges: int, task: int) -> None:
    """Writes int64 [n, 2]: pages whose key an earlier page has, and the first such page; for one column and range."""
    column, part = divmod(task, ranges)
    least, most = 2**64 * part // ranges, 2**64 * (part + 1) // ranges - 1
    parts = []
    for run in range(runs):
        sorted_run = np.load(_run_file(work, run, column), mmap_mode="r")
        start = np.searchsorted(sorted_run[0], np.uint64(least))
        stop = np.searchsorted(sorted_run[0], np.uint64(most), side="right")
        parts.append(sorted_run[:, start:stop])
    keys, pages = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), np.uint64)
    _save(_edges_file(work, task), later_and_first(keys, pages))


def later_and_first(keys: np.ndarray, pages: np.ndarray) -> np.ndarray:
    """int64 [n, 2]: (page, first page with its key) of every page that is not the first; a key's pages ascend."""
    order = np.argsort(keys, kind="stable")
    keys, pages = keys[order], pages[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    firsts = pages[is_first][np.cumsum(is_first) - 1]
    return np.stack([pages[~is_first], firsts[~is_first]], axis=1).astype(np.int64)


def _resolve(first: np.ndarray, edge_files: list[Path]) -> None:
    """Fills `first` from the edges: each page's earliest page, followed to one that has none."""
    for start in range(0, len(first), CHUNK):
        first[start : start + CHUNK] = np.arange(start, min(start + CHUNK, len(first)))
    for file in edge_files:
        later, earlier = np.load(file, mmap_mode="r").T
        first[later] = np.minimum(first[later], earlier)
    for start in range(0, len(first), CHUNK):  # in order: what lies before is resolved
        _follow(first, start, min(start + CHUNK, len(first)))


def _follow(first: np.ndarray, start: int, stop: int) -> None:
    chunk = first[start:stop]
    while not np.array_equal(chunk, followed := first[chunk]):
        chunk = followed
        first[start:stop] = chunk
