"""Run directories: one configuration, files that appear whole, metrics that survive a kill, and progress.

Leaves out on purpose: checkpoints of arrays (train/checkpoint.py), and locks. Two processes must not write
one run directory at once.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

import rich.console
import rich.markup
import rich.progress
from tensorboardX import SummaryWriter

from dsm_jax.errors import Preempted, UserError

CONFIG = "config.json"
DONE = "done.json"
EXPORTS = "exports.json"  # folders that --export has named, once something was written there
METRICS = "metrics.jsonl"
LONGEST_VALUE = 200  # characters of an option's value in a message
PLAIN_INTERVAL_S = 10.0  # between progress lines where stderr is not a terminal


# Files


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a path to write in the same folder; renames it to `path` when the block ends without an error.

    On one machine its name is always the same: killed writes leave one file and not many. Where other machines may try a
    task twice at once, each attempt has its own (as_attempt): none tears another's, and the last whole file stays.
    """
    path = Path(path)
    tmp = path.with_name(f"{path.name}{attempt()}.tmp")
    try:
        yield tmp
        with open(tmp, "rb") as file:
            os.fsync(file.fileno())
        os.replace(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


_ATTEMPT = ContextVar("attempt", default="")


def attempt() -> str:
    """What the names of unfinished files have of the attempt that this thread is in; "" where there is only one."""
    return _ATTEMPT.get()


@contextmanager
def as_attempt() -> Iterator[None]:
    """In the block this thread is one of several attempts at a task."""
    token = _ATTEMPT.set(f".{uuid.uuid4().hex}")
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def require_writable(path: Path, option: str) -> None:
    """UserError where no file can be written to `path`: for what is written at the end of long work."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written; give a file in a folder that is there")


def require_writable_folder(folder: Path, option: str) -> None:
    """Makes the folder; UserError where that or writing in it is not possible."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {folder}: cannot be made ({error.strerror}); give another") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{option} {folder}: cannot be written; give another")


def require_export_folder(folder: Path, run: Path) -> None:
    """Makes the folder that --export names. UserError where it cannot be written, or holds a model that is not the run's."""
    require_writable_folder(folder, "--export")
    there, own = (Path(folder) / "config.json").exists(), str(Path(folder).resolve())
    if there and own not in _exports(run):
        raise UserError(f"--export {folder}: a model is there already; give another folder, or delete it")


def claim_export_folder(folder: Path, run: Path) -> None:
    """Before a run exports: from now on the model there is its own, whole or not."""
    require_export_folder(folder, run)
    write_json(Path(run) / EXPORTS, sorted({*_exports(run), str(Path(folder).resolve())}))


def _exports(run: Path) -> list[str]:
    file = Path(run) / EXPORTS
    return read_json(file) if file.exists() else []


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text; readers see the old file or the whole new one."""
    with atomic(path) as tmp:
        tmp.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, obj: Any) -> None:
    """Writes canonical JSON (sorted keys, one space of indent): equal objects give equal bytes."""
    write_text(path, json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False, default=_plain) + "\n")


def read_json(path: Path, remedy: str = "delete it and start again") -> Any:
    """The JSON value in `path`. Raises UserError for a missing, unreadable or damaged file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): {remedy}") from None


def _plain(value: Any) -> Any:
    """JSON form of what configurations and metrics hold besides JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # numpy and jax scalars
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


# Run directories and stages


def open_run(out: Path, config: Any, free: Collection[str] = ()) -> None:
    """Creates the run directory `out` for `config`, a frozen dataclass, or goes on in it.

    free: options ("--mesh") that a second start may give other values; every other counts. Raises UserError where `out`
    holds another configuration or cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / CONFIG).exists():
            return write_json(out / CONFIG, config)
    except OSError as error:
        raise UserError(f"--out {out}: cannot write there ({error.strerror}): give another folder") from None
    differing = _differences(read_json(out / CONFIG), json.loads(json.dumps(config, default=_plain)), free)
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{out} holds a run of another configuration: {', '.join(differing[:3])}{more}; "
            "give the same options, another --out, or delete that folder"
        )


def forget_unfinished(out: Path, *made: str) -> None:
    """Removes these folders of a run that has no configuration yet: a start that failed made them, maybe of other options."""
    if not (Path(out) / CONFIG).exists():
        for name in made:
            shutil.rmtree(Path(out) / name, ignore_errors=True)


@contextmanager
def preparing(out: Path) -> Iterator[None]:
    """For the work between open_run and the first update: a mistake that is found there leaves no configuration behind
    in a run that has not begun, so that the corrected command may run."""
    try:
        yield
    except UserError:
        if not (Path(out) / METRICS).exists():
            (Path(out) / CONFIG).unlink(missing_ok=True)
        raise


def _differences(old: Any, new: Any, free: Collection[str]) -> list[str]:
    """One text for each option with another value, the option spelled as on the command line."""
    olds, news = options(old), options(new)
    names = sorted(name for name in olds | news if name not in free)
    pairs = {name: (olds.get(name, "absent"), news.get(name, "absent")) for name in names}
    return [
        f"{name} (there {_cut(there)}, now {_cut(now)})"
        for name, (there, now) in pairs.items()
        if there != now
    ]


def _cut(text: str) -> str:
    """A list of thousands of files is no line."""
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + ".."


def options(tree: Any, prefix: str = "") -> dict[str, str]:
    """{"--a.b-c": JSON text} for every leaf of a config.json's content: options as on the command line."""
    if not isinstance(tree, dict) or not tree:
        return {"--" + prefix.replace("_", "-"): json.dumps(tree, ensure_ascii=False)}
    leaves: dict[str, str] = {}
    for name, value in tree.items():
        leaves |= options(value, f"{prefix}.{name}" if prefix else name)
    return leaves


def is_done(stage_dir: Path) -> bool:
    """True where mark_done was called: the stage's files are complete."""
    return (Path(stage_dir) / DONE).exists()


def mark_done(stage_dir: Path, payload: Mapping[str, Any] | None = None) -> None:
    """Marks a stage complete; `payload` lies in its done.json (read_json(stage_dir / DONE))."""
    write_json(Path(stage_dir) / DONE, dict(payload or {}))


# Metrics


class MetricsWriter:
    """metrics.jsonl, one row {"step": ..., name: value} per write, and TensorBoard events in tb/.

    Rows at or after `resume_step` are dropped when it opens (the resumed run writes them again), and so is a
    last line torn by a kill. wandb: a project of Weights & Biases that gets the numbers too.
    """

    def __init__(self, folder: Path, resume_step: int = 0, wandb: str = ""):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        kept = [row for row in read_metrics(path) if row["step"] < resume_step] if path.exists() else []
        write_text(path, "".join(map(_row_text, kept)))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (close() closes it)
        self._events = SummaryWriter(str(folder / "tb"), purge_step=resume_step)
        self._wandb = _open_wandb(wandb, folder) if wandb else None

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one row; numbers also go to TensorBoard."""
        row = json.loads(_row_text({"step": int(step), **metrics}))
        self._file.write(_row_text(row))
        self._file.flush()
        numbers = {
            name: value for name, value in row.items() if name != "step" and isinstance(value, int | float)
        }
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(numbers, step=step)

    def close(self) -> None:
        self._file.close()
        self._events.close()
        if self._wandb:
            self._wandb.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _open_wandb(project: str, folder: Path) -> Any:
    """A run of Weights & Biases; the same folder goes on with the same one."""
    import wandb  # type: ignore[import-not-found]

    name = str(folder.resolve())
    config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
    own = hashlib.sha256(name.encode()).hexdigest()[:16]
    return wandb.init(
        project=project, id=own, name=folder.name, dir=str(folder), config=config, resume="allow"
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line without its newline (torn by a kill) is left out."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path} line {number} is damaged: delete that line") from None
    return rows


def _row_text(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=_plain) + "\n"


# SIGTERM


class Sigterm:
    """`requested` becomes True when SIGTERM (or Ctrl-C, then `interrupted` too) has come."""

    requested = interrupted = False

    def end(self, message: str) -> BaseException:
        """What a loop raises once it has saved."""
        return KeyboardInterrupt(message) if self.interrupted else Preempted(message)


class Stopping(Exception):
    """Work inside a loop was cut short because a signal has come: the loop saves and ends."""


RECEIVED = Sigterm()  # of this process, whatever answers it
_caught: list[Sigterm] = []  # by the catch_sigterm blocks that the program is in
ENDING = threading.Event()  # set where a process has begun to end early: what it still does is waited for


@contextmanager
def catch_sigterm(*, interrupts: bool = False) -> Iterator[Sigterm]:
    """Holds SIGTERM back for a loop, which looks at `.requested`, saves, and raises `.end(message)`.

    interrupts: the first Ctrl-C too; the second one ends at once. A signal that the block did not answer ends it at its
    end. Outside the main thread signals cannot be caught: there `.requested` stays False.
    """
    sigterm = Sigterm()

    def note(signum: int, frame: object) -> None:
        sigterm.requested = True

    def interrupt(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sigterm.requested = sigterm.interrupted = True
        print(
            "stopping: the step under way is saved; again Ctrl-C stops at once", file=sys.stderr, flush=True
        )

    _caught.append(sigterm)
    try:
        with handling_sigterm(note), _handling(signal.SIGINT, interrupt) if interrupts else nullcontext():
            yield sigterm
    finally:
        _caught.remove(sigterm)
    if sigterm.requested:
        raise sigterm.end("stopped by a signal")


def stop_if_asked() -> None:
    """Raises Stopping where a signal has come that a catch_sigterm block is to answer: for long work inside a loop's step."""
    if any(one.requested for one in _caught):
        raise Stopping


@contextmanager
def handling_sigterm(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Installs a SIGTERM handler for the block (in the main thread only) and puts the old one back."""

    def receive(signum: int, frame: object) -> None:
        RECEIVED.requested = True
        handler(signum, frame)

    with _handling(signal.SIGTERM, receive):
        yield


@contextmanager
def _handling(number: int, handler: Callable[[int, Any], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, old)


# Progress


class Progress:
    """Counts done units of work, for a terminal (a live bar) or a log (a plain line every ten seconds)."""

    def __init__(self, show: Callable[[int, str], None], done: int):
        self._show = show
        self.done = done

    def advance(self, units: int = 1, note: str = "") -> None:
        """`units` more are done; `note` (a loss, a file name) stands beside the bar until the next call."""
        self.done += units
        self._show(self.done, note)


def progress(total: int | None, description: str, done: int = 0) -> AbstractContextManager[Progress]:
    """Shows how far `description` is on stderr, with the time left. total None: the end is not known.

    `done` units come from an earlier run: they count for the share, not for the speed.
    """
    return (_bar if sys.stderr.isatty() else _plain_lines)(total, description, done)


@contextmanager
def _bar(total: int | None, description: str, done: int) -> Iterator[Progress]:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task(rich.markup.escape(description), total=total, completed=done, note="")
        yield Progress(lambda n, note: bar.update(task, completed=n, note=rich.markup.escape(note)), done)


@contextmanager
def _plain_lines(total: int | None, description: str, done: int) -> Iterator[Progress]:
    start = last = time.monotonic()
    latest = ""

    def line(units: int, note: str) -> str:
        seconds = time.monotonic() - start
        text = f"{description}: {units}" + (f"/{total}" if total is not None else "") + f", {seconds:.0f} s"
        if total is not None and units > done and units < total:
            text += f", {seconds / (units - done) * (total - units):.0f} s left"
        return text + (f", {note}" if note else "")

    def show(units: int, note: str) -> None:
        nonlocal last, latest
        latest = note
        if time.monotonic() - last >= PLAIN_INTERVAL_S:
            last = time.monotonic()
            print(line(units, note), file=sys.stderr, flush=True)

    shown = Progress(show, done)
    yield shown
    print(line(shown.done, latest), file=sys.stderr, flush=True)
