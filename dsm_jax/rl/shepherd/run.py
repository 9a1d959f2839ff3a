"""A labelling run in a folder: pools of solutions chunk by chunk, then their labels; what is there is not made again.

A run that is killed at any moment and started again ends in the same bytes: chunks are cut the same way each time, and of
the chunk under way the rounds that were drawn are kept. Of several processes all sample; the first one grades and writes.
Left out on purpose: which models and problems, and the report (experiments/label_steps_7b.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.processes import first_process_finds, is_first_process, json_from_first_process, on_first_process
from dsm_jax.rl.shepherd.chunks import (
    chunk_file,
    chunk_files,
    counts_in,
    join_chunks,
    label_row,
    labels_of,
    rows_in,
    write_chunk,
)
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.counts import Counts, PoolCounts
from dsm_jax.rl.shepherd.labelling import Labelling
from dsm_jax.rl.shepherd.pool import Pool, fingerprint, pool_of, pool_row, read_pools, sample_pools
from dsm_jax.rl.steps.labelled import math_shepherd_record
from dsm_jax.run import DONE, Progress, is_done, mark_done, progress, read_json, write_json
from dsm_jax.sample.sampler import Sampler

POOL, LABELLED, ROUNDS = "pool", "labelled", "rounds.json"
FILES = "files"  # in the pool's done.json, of solutions that people have
LABELS, RECORDS = "labels.jsonl", "math_shepherd.jsonl"


def fill_pools(sampler: Sampler, problems: Sequence[Mapping[str, Any]], out: Path, config: Shepherd) -> None:
    """Samples the solutions of problems, rows {question, answer, prompt, task}, that out/pool does not hold yet."""
    folder, size = out / POOL, config.chunk
    count = -(-len(problems) // size)
    missing = json_from_first_process(lambda: [n for n in range(count) if not chunk_file(folder, n).exists()])
    done = len(problems) - sum(len(problems[n * size : (n + 1) * size]) for n in missing)
    with _shown(len(problems), "solutions", done) as bar:
        for number in missing:
            part = problems[number * size : (number + 1) * size]
            pools, counts = sample_pools(sampler, part, config, first=number * size)
            on_first_process(lambda: _keep_pools(folder, number, pools, counts))  # noqa: B023
            if bar:
                bar.advance(len(part))
    on_first_process(lambda: mark_done(folder))


def copy_pools(paths: Sequence[Path], out: Path, config: Shepherd, instruction: str = "") -> None:
    """Reads solutions that people have into out/pool, row by row; call it in the first process. UserError where out/pool has
    been read from other files."""
    folder, found, number = out / POOL, read_pools(paths, instruction), 0
    if is_done(folder):
        return require_same_pool(paths, out)
    for cut_short in chunk_files(folder):  # maybe of other files
        cut_short.unlink()
    while part := list(islice(found, config.chunk)):
        counts = sum((of for _, of in part), PoolCounts())
        _keep_pools(folder, number, [pool for pool, _ in part if pool], counts)
        number += 1
    mark_done(folder, {FILES: fingerprint(paths)})


def require_same_pool(paths: Sequence[Path], out: Path) -> None:
    """UserError where out/pool has been read whole, and from other files; call it in the first process."""
    there = read_json(out / POOL / DONE).get(FILES) if is_done(out / POOL) else None
    if there and there != fingerprint(paths):
        raise UserError(
            f"{out} labels other solutions: the files of --pool have changed since they were read; give the same ones, or "
            "another --out"
        )


def label_chunks(sampler: Sampler, out: Path, config: Shepherd) -> None:
    """Labels the pools in out/pool that out/labelled does not hold yet; then out's labels.jsonl and math_shepherd.jsonl.

    Raises UserError where there is no solution, where none leaves room for completions, and where no completion is ever right.
    """
    pools = PoolCounts(**json_from_first_process(lambda: asdict(pool_counts(out))))
    if not pools.kept:
        raise UserError(_nothing_left(pools, out))
    with _shown(pools.problems - pools.without, "labels", _labelled_so_far(out).problems) as bar:
        for number, total in _to_label(out, config):
            before = total.problems
            _label_chunk(sampler, out, number, config, bar)
            total = _labelled_so_far(out)
            _require_hits(total, out, config)
            if bar:
                bar.advance(total.problems - before)
    total = _labelled_so_far(out)
    _require_hits(total, out, config, at_end=True)
    if not total.solutions:
        raise UserError(_none_short(total, out))
    on_first_process(lambda: _join(out))


def pool_counts(out: Path) -> PoolCounts:
    """Of all chunks in out/pool; read where it is called."""
    return sum((PoolCounts(**counts_in(file)) for file in chunk_files(out / POOL)), PoolCounts())


def label_counts(out: Path) -> Counts:
    """Of all chunks in out/labelled; read where it is called."""
    return sum((Counts(**counts_in(file)) for file in chunk_files(out / LABELLED)), Counts())


def _labelled_so_far(out: Path) -> Counts:
    """As the first process reads it, in all."""
    return Counts(**json_from_first_process(lambda: asdict(label_counts(out))))


def _to_label(out: Path, config: Shepherd) -> Iterator[tuple[int, Counts]]:
    """(number, what those before took) of each chunk that is to be labelled, up to the limit of decoded tokens."""
    count = int(json_from_first_process(lambda: len(chunk_files(out / POOL))))
    for number in range(count):
        if first_process_finds(chunk_file(out / LABELLED, number).exists):
            continue
        total = _labelled_so_far(out)
        if config.max_decoded and total.decoded >= config.max_decoded:
            return
        yield number, total


def _label_chunk(sampler: Sampler, out: Path, number: int, config: Shepherd, bar: Progress | None) -> None:
    labelling = Labelling(sampler, [pool_of(row) for row in rows_in(chunk_file(out / POOL, number))], config)
    rounds = out / LABELLED / ROUNDS
    saved = json_from_first_process(lambda: read_json(rounds) if rounds.exists() else {})
    if saved.get("chunk") == number:
        labelling.restore(saved)

    def note() -> None:
        on_first_process(lambda: _write_rounds(rounds, labelling.saved() | {"chunk": number}))
        if bar:
            bar.advance(0, f"chunk {number + 1}, round {labelling.rounds}")

    labelling.run(note)
    rows = (label_row(one) for one in labelling.labels())
    on_first_process(lambda: write_chunk(chunk_file(out / LABELLED, number), labelling.counts(), rows))


def _write_rounds(file: Path, saved: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, saved)


def _join(out: Path) -> None:
    folder = out / LABELLED
    join_chunks(folder, out / LABELS, lambda row: row)
    left = join_chunks(folder, out / RECORDS, lambda row: math_shepherd_record(labels_of(row).labelled))
    if left:
        print(f"{RECORDS}: left out {left:,} solutions with the format's own mark or without text in a step")
    (folder / ROUNDS).unlink(missing_ok=True)


def _keep_pools(folder: Path, number: int, pools: Sequence[Pool], counts: PoolCounts) -> None:
    write_chunk(chunk_file(folder, number), counts, map(pool_row, pools))


def _require_hits(total: Counts, out: Path, config: Shepherd, *, at_end: bool = False) -> None:
    if not config.patience or total.hits or not total.completions:
        return
    if at_end or total.problems >= config.patience:
        raise UserError(
            f"no completion is right: {total.completions:,} of {total.problems:,} problems, {total.cut:,} of them cut; give "
            f"another --completer or more --max-new-tokens, and another --out, or --patience 0, which goes on in {out}"
        )


def _nothing_left(pools: PoolCounts, out: Path) -> str:
    return (
        f"{out / POOL}: no solution to label: {pools.sampled:,} of {pools.problems:,} problems, "
        f"{pools.unfinished:,} never ended, {pools.repeated:,} repeated, {pools.too_long:,} problems too long, "
        f"{pools.unscored:,} that cannot be scored; give another --generator, more --max-new-tokens, or other files, and "
        "another --out"
    )


def _none_short(total: Counts, out: Path) -> str:
    return (
        f"{out}: none of {total.too_long:,} solutions leaves room for a completion: give a larger --max-new-tokens or a --completer "
        "that reads more, and another --out"
    )


def _shown(total: int, description: str, done: int) -> AbstractContextManager[Progress | None]:
    return progress(total, description, done) if is_first_process() else nullcontext()
