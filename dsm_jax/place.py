"""A run's folder anywhere: on a disk, in gs:// or s3://, or in any other place that fsspec knows.

A run whose --out is a URL works in a local folder, and a thread copies there what is complete: metrics.jsonl in numbered
parts (an object cannot grow), every other file whole, and last a list of all that belongs together (LIST). Only what the
list names counts, so that a copy which was killed changes nothing. Started again on another machine, the run takes the
newer of the two, and the place's where it is another run's. Of several processes the first one has the folder.
Checkpoints in gs:// and s3:// are not copied: every process writes its parts there itself.
Left out on purpose: two machines that work on one run at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.run import ENDING, METRICS, write_json

# In the place: {"run": random, "version": copies made so far, "files": {path: [bytes, mtime_ns]}}; in the folder too, with
# "sent": files that a copy has brought there without having ended.
LIST = "files.json"
LAST = ("done.json", "results.json")  # copied after all that they speak of
UNCHANGING = (
    "checkpoints/",
    "model/",
    "metrics-",
)  # others may be newer than the list, where a copy was killed
DIRECT = ("gs", "s3")  # where checkpoints are written to without a copy here
EVERY_S = 20.0  # between two copies
CACHE = Path("~/.cache/dsm_jax/runs")
TORN = ".orbax-checkpoint-tmp"  # part of the name of a checkpoint that is being written
UNFINISHED = re.compile(rf"\.tmp$|{re.escape(TORN)}|^lock$")
URL = re.compile(r"([a-z][a-z0-9+.-]+)://.+")


class Changed(Exception):
    """A file grew, or an old checkpoint went, during a copy: the next one has it."""


@dataclass(frozen=True)
class Place:
    """Where a run works, and where its checkpoints are."""

    folder: Path
    checkpoints: str | Path


@contextmanager
def open_place(out: str | Path, *, copies: bool = True) -> Iterator[Place]:
    """The place of a run for a `with` block, which ends with a last copy, whatever ends it.

    copies: whether this process keeps the copy; of several only one does.
    Raises UserError where fsspec does not know the URL, or the place cannot be read.
    """
    place = _place(str(out))
    if not copies or place.folder == Path(out):
        yield place
        return
    mirror = Mirror(place.folder, str(out), _is_direct(str(out)))
    mirror.fetch()
    print(f"{out}: works in {place.folder}, copied every {EVERY_S:.0f} s", file=sys.stderr)
    ended = threading.Event()
    thread = threading.Thread(target=_keep_copying, args=(mirror, ended), daemon=True)
    thread.start()
    try:
        yield place
    except BaseException:
        ENDING.set()
        _stop_copying(thread, ended)
        try:
            _last_copy(mirror)
        except UserError as error:  # what ended the run is told by whoever catches it
            print(error, file=sys.stderr)
        raise
    _stop_copying(thread, ended)
    _last_copy(mirror)


def require_shared(out: str | Path, windows: Path | None, processes: int) -> None:
    """UserError where several processes cannot work on a run there: all must see its checkpoints and windows."""
    if processes == 1 or not URL.fullmatch(str(out)):
        return
    if not _is_direct(str(out)):
        raise UserError(
            f"--out {out}: {processes} processes cannot share it; give gs://, s3://, or a folder that all of them see"
        )
    if windows is None:
        raise UserError(
            f"--out {out}: {processes} processes need --windows too, a folder that all of them see; tokenise into it with "
            "one process before"
        )


def working_folder(url: str) -> Path:
    """The local folder of a run that is elsewhere."""
    digest = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:8]
    return CACHE.expanduser() / f"{url.rstrip('/').rpartition('/')[2]}-{digest}"


def find_place(path_or_url: str | Path) -> Place:
    """A run to read: of a URL, what its place holds now is fetched. Raises UserError where no run is there."""
    url, place = str(path_or_url), _place(str(path_or_url))
    if URL.fullmatch(url):
        with _alone_in(place.folder):
            found = Mirror(place.folder, url, _is_direct(url)).fetch()
        if not found:
            raise UserError(f"{url}: no run there ({LIST} is missing)")
    return place


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Of several processes with one home, one at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _place(out: str) -> Place:
    if not URL.fullmatch(out):
        return Place(Path(out), Path(out) / "checkpoints")
    folder = working_folder(out)
    return Place(folder, f"{out}/checkpoints" if _is_direct(out) else folder / "checkpoints")


def _is_direct(out: str) -> bool:
    return out.partition("://")[0] in DIRECT


@dataclass
class Mirror:
    """A local folder and its copy."""

    folder: Path
    url: str
    skip_checkpoints: bool = False
    _files: Any = field(init=False, repr=False)
    _root: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import fsspec  # type: ignore[import-untyped]  # not where training runs without a place elsewhere

        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url.rstrip("/"))
        except (ValueError, ImportError) as error:
            raise UserError(f"{self.url}: {error}") from error

    def fetch(self) -> bool:
        """Makes the local folder what the place holds, where that is newer or another run's; whether there is anything."""
        there, here = self._list(), _read_list(self.folder / LIST)
        if not there["run"] or (there["run"] == here["run"] and there["version"] <= here["version"]):
            return bool(there["files"])
        shutil.rmtree(self.folder, ignore_errors=True)
        metrics = []
        for name, (size, _) in sorted(there["files"].items()):
            local = self.folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{self._root}/{name}", str(local))
            if local.stat().st_size != size and name.startswith(UNCHANGING):
                raise UserError(f"{self.url}/{name} is damaged: {local.stat().st_size} bytes of {size}")
            if _is_part(name):
                metrics.append(local.read_bytes())
                local.unlink()
        if metrics:
            (self.folder / METRICS).write_bytes(b"".join(metrics))
        files = {
            name: known if _is_part(name) else _stamp(self.folder / name)
            for name, known in there["files"].items()
        }
        write_json(self.folder / LIST, there | {"files": files})
        return bool(files)

    def push(self) -> None:
        """Copies what has changed, then the list, then removes what the list no longer names."""
        known = self._agreed()
        files = {name: stamp for name, stamp in known["files"].items() if _is_part(name)}
        for path in self._complete():
            name = path.relative_to(self.folder).as_posix()
            if name == METRICS:
                files = self._push_metrics(path.read_bytes(), files)
                continue
            stamp = _stamp(path)
            if stamp not in (known["files"].get(name), known["sent"].get(name)):
                self._send(path, name)
                known["sent"][name] = stamp
                write_json(self.folder / LIST, known)
            files[name] = stamp
        if files == known["files"]:
            return
        for name, stamp in files.items():
            if not _is_part(name) and _stamp(self.folder / name) != stamp:
                raise Changed(name)
        self._publish({"run": known["run"], "version": known["version"] + 1, "files": files})
        for name in (known["files"] | known["sent"]).keys() - files.keys():
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")

    def _agreed(self) -> dict[str, Any]:
        """The list that the place and the folder have in common; a new run's where the place has none."""
        there, here = self._list(), _read_list(self.folder / LIST)
        if not there["run"]:
            return self._publish({"run": secrets.token_hex(8), "version": 1, "files": {}})
        if there["run"] != here["run"]:
            raise UserError(f"{self.url}: another run writes there; give another --out")
        return here if here["version"] == there["version"] else there

    def _publish(self, listed: dict[str, Any]) -> dict[str, Any]:
        self._put(json.dumps(listed).encode(), LIST)
        write_json(self.folder / LIST, listed)
        return _full(listed)

    def _complete(self) -> list[Path]:
        """The files to copy, in order; what is being written, or has gone since, is left out."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and not self._is_left_out(path)]
        return sorted(found, key=lambda path: (path.name in LAST, path))

    def _is_left_out(self, path: Path) -> bool:
        parts = path.relative_to(self.folder).parts
        direct = self.skip_checkpoints and parts[0] == "checkpoints" and parts[1].isdigit()
        return direct or parts == (LIST,) or parts[0] == "windows" or any(map(UNFINISHED.search, parts))

    def _push_metrics(self, rows: bytes, files: dict[str, list[int]]) -> dict[str, list[int]]:
        """The list with the rows since the last copy as one more part; from the beginning where they are others now."""
        parts = {name: stamp for name, stamp in files.items() if _is_part(name)}
        others = {name: stamp for name, stamp in files.items() if name not in parts}
        done, digest = sum(size for size, _ in parts.values()), [stamp[1] for stamp in parts.values()]
        number = int(max(parts, default="metrics-00000.jsonl")[8:13])
        if digest and digest[-1] != _digest(rows[:done]):
            parts, done = {}, 0
        whole = rows[: rows.rfind(b"\n") + 1]  # a row that is being written waits
        if len(whole) > done:
            name = f"metrics-{number + 1:05}.jsonl"
            self._put(whole[done:], name)
            parts[name] = [len(whole) - done, _digest(whole)]
        return others | parts

    def _send(self, path: Path, name: str) -> None:
        try:
            self._put(path.read_bytes() if path.stat().st_size < 1 << 20 else path, name)
        except FileNotFoundError:
            if path.exists():
                raise
            raise Changed(name) from None

    def _put(self, content: bytes | Path, name: str) -> None:
        place = f"{self._root}/{name}"
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        if isinstance(content, bytes):
            self._files.pipe_file(place, content)
        else:
            self._files.put_file(str(content), place)

    def _list(self) -> dict[str, Any]:
        try:
            return _full(json.loads(self._files.cat_file(f"{self._root}/{LIST}")))
        except FileNotFoundError:
            return _full({})
        except Exception as error:  # of whatever library serves the place
            raise UserError(f"{self.url}: cannot be read: {error}") from error


def _keep_copying(mirror: Mirror, ended: threading.Event) -> None:
    while not ended.wait(EVERY_S):
        try:
            mirror.push()
        except Changed:
            continue
        except Exception as error:  # noqa: BLE001 (the place's library's; the run goes on, and the next copy has it all)
            print(f"{mirror.url}: not copied this time: {error}", file=sys.stderr)


def _stop_copying(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    thread.join()


def _last_copy(mirror: Mirror) -> None:
    try:
        mirror.push()
    except Exception as error:
        raise UserError(
            f"{mirror.url}: could not be copied to: {error}; all is in {mirror.folder}, and the same command copies it"
        ) from error


def _read_list(path: Path) -> dict[str, Any]:
    try:
        return _full(json.loads(path.read_text()))
    except (OSError, ValueError):
        return _full({})


def _full(listed: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": "", "version": 0, "files": {}, "sent": {}, **listed}


def _is_part(name: str) -> bool:
    return bool(re.fullmatch(r"metrics-\d{5}\.jsonl", name))


def _stamp(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise Changed(path.name) from None
    return [stat.st_size, stat.st_mtime_ns]


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:6])
