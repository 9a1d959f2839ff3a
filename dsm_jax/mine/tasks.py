"""A stage's tasks, one a shard: here, in Grain's worker processes, or on many machines by Apache Beam.

A task is a function of a shard, or its number, that reads files of the run's folder and writes files there, by rename; a task
whose files are there is not given. So who runs it changes no byte, and a stage killed anywhere goes on. On many machines
the run's folder lies where all of them have it (NFS, Lustre, Filestore).
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grain
from absl import flags

from dsm_jax.errors import UserError
from dsm_jax.run import as_attempt, progress

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Who runs tasks. workers: processes of Grain, 0 = this one. beam: a pipeline's options ("--runner=DirectRunner");
    none: no Beam."""

    workers: int = 0
    beam: tuple[str, ...] = ()


HERE = Spread()


def for_each(do: Callable[[T], object], shards: Sequence[T], description: str, spread: Spread) -> None:
    """Calls do(shard) for every shard. `do` must be picklable where others run it."""
    if not shards:
        return
    if spread.beam:
        _by_beam(do, shards, description, spread.beam)
        return
    with progress(len(shards), description) as bar:
        for _ in _by_workers(do, shards, spread.workers) if spread.workers else map(do, shards):
            bar.advance()


def _by_workers(do: Callable[[T], object], shards: Sequence[T], workers: int) -> grain.IterDataset:
    return mapped(grain.MapDataset.source(list(shards)).map(_Silent(do)), workers)


@dataclass(frozen=True)
class _Silent:
    """Grain wants a value of every element."""

    do: Callable[[Any], object]

    def __call__(self, shard: Any) -> bool:
        self.do(shard)
        return True


def mapped(dataset: grain.MapDataset, workers: int) -> grain.IterDataset:
    """The elements of a Grain data set in order, made in this process or by its worker processes."""
    if not (workers and len(dataset)):
        return dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags, which only an absl app parses
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers)
    return stream.mp_prefetch(options, worker_init_fn=partial(_end_with, os.getpid()))


def _end_with(parent: int, worker: int, workers: int) -> None:
    """Has this worker process end when its parent was killed: Grain's would wait for it for ever, and others write on.

    A thread looks: the kernel's own signal comes when the thread ends that started the worker.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_beam(options: Sequence[str]) -> None:
    """UserError where Beam is asked for and not installed, or has no pipeline of these options."""
    if not options:
        return
    try:
        import apache_beam as beam
    except ImportError:
        raise UserError("--runner: Apache Beam is not installed; pip install -e '.[beam]'") from None
    from apache_beam.options.pipeline_options import PipelineOptions

    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            parsed = PipelineOptions(list(options))
            parsed.get_all_options()
            beam.Pipeline(options=parsed)
    except SystemExit:  # argparse's, after a page of usage
        reason = complaint.getvalue().rpartition("error: ")[2]
    except (AttributeError, ImportError, ValueError) as error:
        reason = str(error)
    else:
        return
    given = " ".join(options).replace("--runner=", "--runner ", 1)
    raise UserError(f"{given}: {' '.join(reason.split()).rstrip('.')}; correct --runner or --runner-options")


def forget_attempts(folder: Path) -> None:
    """Removes what killed attempts have left below the folder, once no one writes there."""
    for tmp in Path(folder).rglob("*.tmp"):
        if re.fullmatch(r"[0-9a-f]{32}", tmp.stem.rpartition(".")[2]):
            tmp.unlink(missing_ok=True)


def _by_beam(
    do: Callable[[T], object], shards: Sequence[T], description: str, options: Sequence[str]
) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(list(shards))
            | "spread" >> beam.Reshuffle()
            | description >> beam.Map(partial(_attempt, do))
        )


def _attempt(do: Callable[[T], object], shard: T) -> None:
    """Beam may have two machines try a task at once, or again where it has not heard of one."""
    with as_attempt():
        do(shard)
