"""Tokenising a source of any size once: parts in parallel, each to its own ArrayRecord of packed windows.

Every part (texts.py) is one job, whose result is a function of the part, the tokenizer and the window alone: any number of
workers, killed and started again, leaves the same bytes. A part's file appears by rename and its manifest after it;
the folder's manifest comes last. Started again with other inputs, only the parts that differ are made anew.
A share of the documents, chosen by a hash of their text (so that copies stay together), is held out in a folder of its
own.
Left out on purpose: packing across parts, so that the last window of each is padded (one of thousands: a part is 64 MB of
small files, or a large one); several machines (give each its own files and folder: a mixture takes many folders).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.data.corpus import MANIFEST, TARGET_BYTES, StoredWindows, pack_window
from dsm_jax.data.texts import Part, find_parts, read_part
from dsm_jax.data.windows import Window, pack_documents
from dsm_jax.errors import UserError
from dsm_jax.records import write_records
from dsm_jax.run import atomic, progress, read_json, write_json
from dsm_jax.tokenizer import Tokenizer, load_tokenizer

WRITER = "group_size:1,zstd:1"  # random access; twice as fast to write as at the usual level, 4% larger
SAMPLES, SAMPLE = 5, 64 << 10  # pieces of a file that are looked at, and their bytes
HELD_OUT = "held_out"  # folder within the source's
DIE_WITH_PARENT = 1  # of prctl: a worker of a killed run must not go on writing beside the next one's


# (job, split, tokenizer, counts) -> windows; adds to the counts, all but "windows".
WindowsOf = Callable[["Job", str, Tokenizer, Counter[str]], Iterator[Window]]


@dataclass(frozen=True)
class Form:
    """What kind of data a source holds, in functions at the top of a module, which workers import."""

    name: str  # and all options that the windows depend on
    find_parts: Callable[[Sequence[Path]], list[Part]]
    windows: WindowsOf
    counts: tuple[str, ...]  # those in every manifest
    empty: str  # what is missing where there is no window


@dataclass(frozen=True)
class Job:
    """One part's work."""

    part: Part
    form: Form
    inputs: str  # digest of all that the result depends on
    tokenizer: Path
    window: int
    held_out: int  # documents of 10,000
    out: Path
    number: int

    def file(self, split: str) -> Path:
        """The ArrayRecord of a split, "" or HELD_OUT."""
        return self.out / split / f"part-{self.number:05}.array_record"

    @property
    def manifest(self) -> Path:
        return self.file("").with_suffix(".json")


def tokenize_source(
    paths: Sequence[Path],
    tokenizer: Path,
    window: int,
    out: Path,
    *,
    held_out: int = 0,
    workers: int = 0,
    form: Form | None = None,
) -> StoredWindows:
    """The windows of a source, in the folder `out`; documents are bos + text + eos.

    held_out: of 10,000 documents, how many go to out / HELD_OUT, which StoredWindows opens too. workers: processes; 0
    works in this one. form: TEXTS unless given. Raises UserError for what cannot be read, and where there is no text.
    """
    form = form or TEXTS
    fingerprint = load_tokenizer(tokenizer).fingerprint
    how = f"{form.name} {fingerprint} {window} {held_out}"
    jobs = [
        Job(part, form, _digest(part, how), tokenizer, window, held_out, out, number)
        for number, part in enumerate(form.find_parts(paths))
    ]
    _refuse_others(out, fingerprint, window)
    (out / HELD_OUT).mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs if not _is_done(job)]
    if waiting:
        (out / MANIFEST).unlink(missing_ok=True)
        _run(waiting, len(jobs), workers, out.name)
    made = [read_json(job.manifest) for job in jobs]
    if not sum(one[""]["windows"] for one in made):
        number = sum(len(job.part.paths) for job in jobs)
        found = _totals(form, "", made) | {"windows": 0}
        told = ", ".join(f"{count:,} {name}" for name, count in found.items() if count)
        raise UserError(
            f"{', '.join(map(str, paths))}: {form.empty} in {number} files{f' ({told})' if told else ''}; give others"
        )
    kept = {file for job in jobs for file in (job.file(""), job.file(HELD_OUT), job.manifest)}
    for stale in {*out.glob("part-*"), *out.glob(f"{HELD_OUT}/part-*")} - kept:
        stale.unlink()
    inputs = hashlib.sha256("\n".join(job.inputs for job in jobs).encode()).hexdigest()
    about: dict[str, Any] = {"inputs": inputs, "window": window, "tokenizer": fingerprint}
    for split in (HELD_OUT, ""):
        files = [job.file(split).name for job, one in zip(jobs, made, strict=True) if one[split]["windows"]]
        content = about | {"files": files} | _totals(form, split, made)
        if split == HELD_OUT:
            content[TARGET_BYTES] = [count for one in made for count in one[TARGET_BYTES]]
        write_json(out / split / MANIFEST, content)
    return StoredWindows(out)


def held_out_by_hash(data: bytes, of_10_000: int) -> bool:
    """Whether a document, by a hash of what stands for it, is among `of_10_000` in 10,000."""
    if not of_10_000:
        return False
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) % 10_000 < of_10_000


def target_bytes(window: Window, tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the text that a window's targets spell: by them losses of different tokenizers compare.

    They are counted in what the tokenizer decodes: a character whose bytes two windows share counts as U+FFFD.
    """
    edges = np.flatnonzero(np.diff(window["loss_mask"], prepend=0, append=0))
    runs = zip(edges[::2], edges[1::2], strict=True)  # each within a segment, whose first token is no target
    texts = (tokenizer.decode(window["tokens"][start:end].tolist()) for start, end in runs)
    return sum(len(text.encode()) for text in texts)


def _refuse_others(out: Path, fingerprint: str, window: int) -> None:
    """UserError where the folder holds windows that another run may need: of another tokenizer or length."""
    if not (out / MANIFEST).is_file():
        return
    there = read_json(out / MANIFEST)
    if (there.get("tokenizer"), there.get("window")) != (fingerprint, window):
        tokenizer = "this" if there.get("tokenizer") == fingerprint else "another"
        raise UserError(
            f"{out} holds windows of {there.get('window')} tokens by {tokenizer} tokenizer, and {window} by this one are "
            "asked for: give another folder, or delete that one"
        )


def _totals(form: Form, split: str, made: Sequence[dict[str, Any]]) -> dict[str, int]:
    totals = Counter(dict.fromkeys((*form.counts, "tokens", "windows"), 0))
    for one in made:
        totals.update(one[split])
    return dict(totals)


def _run(jobs: list[Job], total: int, workers: int, name: str) -> None:
    with progress(total, f"tokenise {name} (parts)", total - len(jobs)) as bar:
        for counts in _results(jobs, workers):
            bar.advance(1, f"{counts['']['tokens'] / 1e6:.1f}M tokens in the last")


def _results(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    if workers < 1:
        yield from map(_tokenize, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (os.getpid(),)) as pool:
        try:
            futures: list[Future[dict[str, Any]]] = [pool.submit(_tokenize, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for process in (pool._processes or {}).values():  # else leaving the block waits for whole parts
                process.terminate()
            raise


def _start_worker(parent: int) -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # killed before it could take this one with it
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer


def _tokenize(job: Job) -> dict[str, Any]:
    """Writes a part's windows, and its manifest, which it returns: counts by split."""
    job.manifest.unlink(
        missing_ok=True
    )  # it told of other windows, and a kill may come behind the first rename
    made: dict[str, Any] = {"inputs": job.inputs}
    for split in ("", HELD_OUT):
        counts = Counter(dict.fromkeys((*job.form.counts, "tokens", "windows"), 0))
        spelled: list[int] = []
        if not split or job.held_out:
            with atomic(job.file(split)) as tmp:
                counts["windows"] = write_records(tmp, _packed(job, split, counts, spelled), WRITER)
        made[split], made[TARGET_BYTES] = dict(counts), spelled
    write_json(job.manifest, made)
    return made


def _packed(job: Job, split: str, counts: Counter[str], spelled: list[int]) -> Iterator[bytes]:
    """A split's windows as records; adds the bytes of each that is held out to `spelled`."""
    tokenizer = _load(job.tokenizer)
    for window in job.form.windows(job, split, tokenizer, counts):
        if split == HELD_OUT:
            spelled.append(target_bytes(window, tokenizer))
        yield pack_window(window)


def _text_windows(job: Job, split: str, tokenizer: Tokenizer, counts: Counter[str]) -> Iterator[Window]:
    return pack_documents(_documents(job, split, tokenizer, counts), job.window)


def _documents(job: Job, split: str, tokenizer: Tokenizer, counts: Counter[str]) -> Iterator[np.ndarray]:
    for text in read_part(job.part):
        data = text.encode("utf-8", "replace")
        if (split == HELD_OUT) != held_out_by_hash(data, job.held_out):
            continue
        counts["documents"] += 1
        counts["text_bytes"] += len(data)
        document = tokenizer.document(text)
        counts["tokens"] += len(document)
        yield document


@lru_cache(maxsize=1)
def _load(tokenizer: Path) -> Tokenizer:
    return load_tokenizer(tokenizer)


def _is_done(job: Job) -> bool:
    splits = ("", HELD_OUT) if job.held_out else ("",)
    if not (job.manifest.is_file() and all(job.file(split).is_file() for split in splits)):
        return False
    try:
        return json.loads(job.manifest.read_text())["inputs"] == job.inputs
    except (ValueError, KeyError, TypeError):
        return False


def _digest(part: Part, how: str) -> str:
    """Of a file its name, its size and SAMPLES pieces of it, so that a copy elsewhere is the same; a large one is too much
    to read for that."""
    digest = hashlib.sha256(f"tokenize 4 {part.kind} {how}".encode())
    files = [
        file
        for path in part.paths
        for file in (sorted(path.glob("*.array_record*")) if path.is_dir() else [path])
    ]
    for file in files:
        size = file.stat().st_size
        digest.update(f"\n{file.name} {size}\n".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            for start in sorted({max(0, (size - SAMPLE) * i // (SAMPLES - 1)) for i in range(SAMPLES)}):
                content.seek(start)
                digest.update(content.read(SAMPLE))
    return digest.hexdigest()


TEXTS = Form("texts", find_parts, _text_windows, ("documents", "text_bytes"), "no text")
