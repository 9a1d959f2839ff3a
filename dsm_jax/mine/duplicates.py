"""Which pages are duplicates, and of which first page: by canonical URL, by exact text, by MinHash bands.

A page is a duplicate when an earlier page has one of its keys. Each column of keys is sorted on disk, as far as fits in
memory at once: runs of neighbouring shards, each sorted by key; then a range of keys from every run, in which all pages but
the first of a key are its duplicates, however many they are. Last, every page follows its earliest such page until one that
is none. On disk: duplicates.npy, for each page its first page's number, or its own; until it is there, 16 bytes a page and
column, and 16 a duplicate and column.

Left out on purpose: components of pages that are alike only through a later page, and 8 bytes a page on one machine for
the table that the last step follows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from dsm_jax.mine.crawl import Crawl, Shard, page_array
from dsm_jax.mine.pages import KEYS
from dsm_jax.mine.tasks import HERE, Spread, for_each
from dsm_jax.run import atomic

SORT_PAGES = 1 << 20  # of a run, and of a range, at least: some 120 MB
MOST_RUNS = 1 << 10  # of a crawl of billions of pages, each longer: every range opens every run
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
    runs, ranges = len(_runs(crawl)), max(1, -(-crawl.count // _sort_pages(crawl)))
    pending = [run for run in range(runs) if not _run_file(work, run, len(KEYS) - 1).exists()]
    for_each(partial(_sort_run, folder, work), pending, "sort keys (runs of shards)", spread)
    tasks = range(len(KEYS) * ranges)
    pending = [task for task in tasks if not _edges_file(work, task).exists()]
    for_each(
        partial(_find_edges, work, runs, ranges), pending, "look for duplicates (ranges of keys)", spread
    )
    with page_array(out, crawl.count, "int64") as first:
        _resolve(first, [_edges_file(work, task) for task in tasks])


def _sort_pages(crawl: Crawl) -> int:
    return max(SORT_PAGES, crawl.count // MOST_RUNS)


def _runs(crawl: Crawl) -> list[list[Shard]]:
    """Neighbouring shards of so many pages together, or one larger shard."""
    most = _sort_pages(crawl)
    runs: list[list[Shard]] = []
    for shard in crawl.shards:
        if not runs or shard.start + shard.count - runs[-1][0].start > most:
            runs.append([])
        runs[-1].append(shard)
    return runs


def _run_file(folder: Path, run: int, column: int) -> Path:
    return folder / f"run-{run:06d}-{column:02d}.npy"


def _edges_file(folder: Path, task: int) -> Path:
    return folder / f"{task:06d}.edges"


def _sort_run(folder: Path, work: Path, run: int) -> None:
    """Writes for each column uint64 [2, n]: its keys in order, and their pages."""
    shards = _runs(Crawl(folder))[run]
    for column, name in enumerate(KEYS):
        keys = np.concatenate([shard.numbers(name) for shard in shards])
        inside = np.flatnonzero(keys)
        order = inside[np.argsort(keys[inside], kind="stable")]  # pages of a key stay in order
        pages = (order + shards[0].start).astype(np.uint64)
        with atomic(_run_file(work, run, column)) as tmp, open(tmp, "wb") as file:
            np.save(file, np.stack([keys[order], pages]))


def _find_edges(work: Path, runs: int, ranges: int, task: int) -> None:
    """Writes int64 [n, 2]: pages whose key an earlier page has, and the first such page; for one column and range."""
    column, part = divmod(task, ranges)
    least, most = 2**64 * part // ranges, 2**64 * (part + 1) // ranges - 1
    parts = [_between(_run_file(work, run, column), least, most) for run in range(runs)]
    keys, firsts = first_pages([pages[:, is_first(pages[0])] for pages in parts])
    with atomic(_edges_file(work, task)) as tmp, open(tmp, "wb") as file:
        for run_keys, pages in parts:
            edges = np.stack([pages, firsts[np.searchsorted(keys, run_keys)]], axis=1)
            file.write(edges[edges[:, 0] != edges[:, 1]].astype(np.int64).tobytes())


def _between(run: Path, least: int, most: int) -> np.ndarray:
    """uint64 [2, n], memory-mapped: a run's keys in this range and their pages."""
    keys_and_pages = np.load(run, mmap_mode="r")
    start = np.searchsorted(keys_and_pages[0], np.uint64(least))
    return keys_and_pages[:, start : np.searchsorted(keys_and_pages[0], np.uint64(most), side="right")]


def first_pages(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(keys in order, each once; the first page of each) of some uint64 [2, n], whose pages ascend from part to part."""
    keys, pages = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), np.uint64)
    order = np.argsort(keys, kind="stable")
    keys, pages = keys[order], pages[order]
    return keys[is_first(keys)], pages[is_first(keys)]


def is_first(keys: np.ndarray) -> np.ndarray:
    """bool: the first of each of these keys, which are in order."""
    changes = np.ones(len(keys), bool)
    changes[1:] = keys[1:] != keys[:-1]
    return changes


def _resolve(first: np.ndarray, edge_files: list[Path]) -> None:
    """Fills `first` from the edges: each page's earliest page, followed to one that has none."""
    for start in range(0, len(first), CHUNK):
        first[start : start + CHUNK] = np.arange(start, min(start + CHUNK, len(first)))
    for file in edge_files:
        for later, earlier in _edges(file):
            first[later] = np.minimum(first[later], earlier)
    for start in range(0, len(first), CHUNK):  # in order: what lies before is resolved
        _follow(first, start, min(start + CHUNK, len(first)))


def _edges(file: Path) -> Iterator[np.ndarray]:
    """The edges of a file, int64 [2, n], a part at a time."""
    with open(file, "rb") as content:
        while part := content.read(16 * CHUNK):
            yield np.frombuffer(part, np.int64).reshape(-1, 2).T


def _follow(first: np.ndarray, start: int, stop: int) -> None:
    chunk = first[start:stop]
    while not np.array_equal(chunk, followed := first[chunk]):
        chunk = followed
        first[start:stop] = chunk
