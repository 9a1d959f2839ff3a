"""Tokenising a source of any size once: parts in parallel, each to its own ArrayRecord of packed windows.

Every part (texts.py) is one job, whose result is a function of the part, the tokenizer and the window alone: any number of
workers, killed and started again, leaves the same bytes. A part's file appears by rename and its manifest after it;
the folder's manifest comes last. Started again with other inputs, only the parts that differ are made anew.
Left out on purpose: packing across parts, so that the last window of each is padded; several machines (give each its own
files and folder: a mixture takes many folders).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from dsm_jax.data.corpus import MANIFEST, StoredWindows, pack_window
from dsm_jax.data.texts import MINED, Part, find_parts, read_part
from dsm_jax.data.windows import pack_documents
from dsm_jax.errors import UserError
from dsm_jax.run import atomic, progress, read_json, write_json
from dsm_jax.tokenizer import Tokenizer, load_tokenizer

WRITER = "group_size:1,zstd:1"  # random access; twice as fast to write as at the usual level, 4% larger
COUNTS = ("documents", "text_bytes", "tokens", "windows")
DIE_WITH_PARENT = 1  # of prctl: a worker of a killed run must not go on writing beside the next one's


@dataclass(frozen=True)
class Job:
    """One part's work."""

    part: Part
    inputs: str  # digest of all that the result depends on
    tokenizer: Path
    window: int
    file: Path  # ArrayRecord to write; its manifest stands beside it


def tokenize_source(
    paths: Sequence[Path], tokenizer: Path, window: int, out: Path, *, workers: int = 0
) -> StoredWindows:
    """The windows of a source, in the folder `out`; documents are bos + text + eos.

    workers: processes; 0 works in this one. Raises UserError for what cannot be read, and where there is no text.
    """
    fingerprint = load_tokenizer(tokenizer).fingerprint
    jobs = [
        Job(part, _digest(part, fingerprint, window), tokenizer, window, out / f"part-{i:05}.array_record")
        for i, part in enumerate(find_parts(paths))
    ]
    out.mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs if not _is_done(job)]
    if waiting:
        (out / MANIFEST).unlink(missing_ok=True)
        _run(waiting, len(jobs), workers, out.name)
    made = [read_json(_manifest(job)) for job in jobs]
    totals = {name: sum(one[name] for one in made) for name in COUNTS}
    if not totals["windows"]:
        raise UserError(f"{', '.join(map(str, paths))}: no text in {len(jobs)} files; give others")
    for stale in set(out.glob("part-*")) - {file for job in jobs for file in (job.file, _manifest(job))}:
        stale.unlink()
    files = [job.file.name for job, one in zip(jobs, made, strict=True) if one["windows"]]
    inputs = hashlib.sha256("\n".join(job.inputs for job in jobs).encode()).hexdigest()
    about = {"inputs": inputs, "window": window, "tokenizer": fingerprint, "files": files}
    write_json(out / MANIFEST, about | totals)
    return StoredWindows(out)


def _run(jobs: list[Job], total: int, workers: int, name: str) -> None:
    with progress(total, f"tokenise {name} (files)", total - len(jobs)) as bar:
        for counts in _results(jobs, workers):
            bar.advance(1, f"{counts['tokens'] / 1e6:.1f}M tokens in the last")


def _results(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    if workers < 1:
        yield from map(_tokenize, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker) as pool:
        futures: list[Future[dict[str, Any]]] = [pool.submit(_tokenize, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for process in (pool._processes or {}).values():  # else leaving the block waits for whole parts
                process.terminate()
            raise


def _start_worker() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer


def _tokenize(job: Job) -> dict[str, Any]:
    """Writes a part's windows, and its manifest, which it returns."""
    tokenizer = _load(job.tokenizer)
    counts = dict.fromkeys(COUNTS, 0)
    with atomic(job.file) as tmp:
        writer = ArrayRecordWriter(str(tmp), WRITER)
        for window in pack_documents(_documents(job.part, tokenizer, counts), job.window):
            writer.write(pack_window(window))
            counts["windows"] += 1
            counts["tokens"] += int(np.count_nonzero(window["segment_ids"]))
        writer.close()
    made = {"inputs": job.inputs} | counts
    write_json(_manifest(job), made)
    return made


def _documents(part: Part, tokenizer: Tokenizer, counts: dict[str, int]) -> Iterator[list[int]]:
    for text in read_part(part):
        counts["documents"] += 1
        counts["text_bytes"] += len(text.encode("utf-8", "replace"))
        yield [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]


@lru_cache(maxsize=1)
def _load(tokenizer: Path) -> Tokenizer:
    return load_tokenizer(tokenizer)


def _manifest(job: Job) -> Path:
    return job.file.with_suffix(".json")


def _is_done(job: Job) -> bool:
    if not (_manifest(job).is_file() and job.file.is_file()):
        return False
    try:
        return json.loads(_manifest(job).read_text())["inputs"] == job.inputs
    except (ValueError, KeyError, TypeError):
        return False


def _digest(part: Part, fingerprint: str, window: int) -> str:
    """Of a file its name, size and time of change: its text is too much to read for that."""
    file = part.path / MINED if part.kind == "mined" else part.path
    stat = file.stat()
    seen = f"tokenize 1 {part.kind} {part.path.resolve()} {stat.st_size} {stat.st_mtime_ns} {fingerprint} {window}"
    return hashlib.sha256(seen.encode()).hexdigest()
