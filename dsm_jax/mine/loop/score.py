"""A score for every page, a shard at a time: an iteration's classifier over pages with text of their own.

fastText holds the GIL and a worker process would load the model anew, so one process scores, by lists.
"""

from __future__ import annotations

import shutil
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.mine.crawl import Crawl, Shard, page_array
from dsm_jax.mine.loop import classify
from dsm_jax.mine.tasks import Spread, for_each
from dsm_jax.run import atomic

_LOADING = threading.Lock()


def score_pages(pages: Path, first: np.ndarray, model: Path, out: Path, beam: tuple[str, ...] = ()) -> None:
    """Writes float64 [pages] to `out`, unless it is there: P(mathematics); 0 without text; a duplicate has its first page's."""
    parts = out.with_suffix(".parts")
    if not out.exists():
        parts.mkdir(exist_ok=True)
        _write_scores(Crawl(pages), first, model, parts, out, beam)
    shutil.rmtree(parts, ignore_errors=True)  # a kill may have left them beside `out`
    _loaded.cache_clear()  # gigabytes, when the next one is trained


def _write_scores(
    crawl: Crawl, first: np.ndarray, model: Path, parts: Path, out: Path, beam: tuple[str, ...]
) -> None:
    pending = [shard for shard in crawl.shards if not _part(parts, shard.number).exists()]
    score = partial(_score_shard, model, parts)
    for_each(score, pending, "score (files)", Spread(beam=beam))
    with page_array(out, crawl.count, "float64") as scores:
        for shard in crawl.shards:
            scores[shard.pages] = np.load(_part(parts, shard.number))
        for shard in crawl.shards:
            scores[shard.pages] = scores[first[shard.pages]]


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def _score_shard(model: Path, folder: Path, shard: Shard) -> None:
    scores = np.zeros(shard.count)
    for start, group in shard.groups("tokens"):
        inside = slice(start - shard.start, start - shard.start + len(group))
        scores[inside] = classify.predict(_shared(model), group["tokens"].to_pylist())
    with atomic(_part(folder, shard.number)) as tmp, open(tmp, "wb") as file:
        np.save(file, scores)


def _shared(model: Path) -> Any:
    """The model, loaded once by a process: Beam runs several threads in one."""
    with _LOADING:
        return _loaded(model, model.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(model: Path, written: int) -> Any:
    return classify.load(model)
