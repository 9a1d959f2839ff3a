"""Decisions about URL prefixes: what is accepted joins the seed, what is rejected the negatives.

People, a file or a language model decide, and every decision says who and when. Several annotators merge:
of each the last decision for a prefix counts, between them the majority. As many for as against is a
conflict: the prefix is undecided, and no shorter one decides in its place.

Left out on purpose: where prefixes come from (prefixes.py, candidates.py); what a run does with a verdict.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.mine.web.urls import canonical_url
from dsm_jax.run import read_json, write_json

FILE = "annotations.jsonl"  # in the run's folder
_LONGEST = 1 << 20  # bytes of a row
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WORDS = {"true": True, "false": False, "null": None, "": None}  # of a CSV's column accept


@dataclass(frozen=True)
class Decision:
    """One annotator's word on a prefix; `accept` None withdraws an earlier one. `at` is UTC, "" = unknown."""

    prefix: str
    accept: bool | None
    by: str
    at: str = ""


@dataclass(frozen=True)
class Annotations:
    """URL prefixes ("mathoverflow.net/questions"): accepted, rejected or None: conflict; the longest wins.

    A host alone, or a prefix with a last slash, stands for that host or folder and what is in it. `votes` has
    the decisions that stand, by prefix.
    """

    prefixes: Mapping[str, bool | None]
    votes: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)

    def verdict(self, url: str) -> bool | None:
        """True accepted, False rejected, None where no prefix says or annotators disagree."""
        prefix = next(self.covering(url), None)
        return None if prefix is None else self.prefixes[prefix]

    def covering(self, url: str) -> Iterator[str]:
        """The prefixes that the URL is under, the longest first."""
        url = slashed(url)
        for length in self._lengths.get(host_of(url), ()):
            if url[:length] in self.prefixes:
                yield url[:length]

    @property
    def conflicts(self) -> list[str]:
        """Prefixes that as many annotators accept as reject."""
        return sorted(prefix for prefix, accept in self.prefixes.items() if accept is None)

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """Each host's lengths of prefixes, the longest first: what a URL is cut to."""
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for prefix in self.prefixes:
            lengths[host_of(prefix)].add(len(prefix))
        return {host: sorted(found, reverse=True) for host, found in lengths.items()}


def slashed(url: str) -> str:
    """The canonical URL with a slash behind its path: what starts with a canonical prefix is under it."""
    return _slashed(canonical_url(url))


def _slashed(canonical: str) -> str:
    path, mark, query = canonical.partition("?")
    return (path if path.endswith("/") else path + "/") + mark + query


def canonical_prefix(prefix: str) -> str:
    """The one spelling of a prefix: without scheme, www and the host's case; a host alone gets its slash."""
    canonical = canonical_url("https://" + _without_scheme(prefix))
    if "?" in canonical:
        return _slashed(canonical)
    return canonical + "/" if prefix.endswith("/") or "/" not in canonical else canonical


def _without_scheme(prefix: str) -> str:
    scheme = _SCHEME.match(prefix)
    return prefix[scheme.end() :] if scheme else prefix


def host_of(prefix: str) -> str:
    """The host of a canonical prefix or a slashed URL."""
    return prefix.partition("/")[0]


def now() -> str:
    """This second in UTC, as decisions have it."""
    return datetime.now(UTC).strftime(_TIME)


# Reading and merging


def read_annotations(paths: Iterable[Path]) -> Annotations:
    """Merges files of decisions: JSONL {prefix, accept, by, at}, or CSV with these columns (named .csv).

    The annotator of rows without `by` is the file, by its name. Raises UserError with file:line for a row
    that is none; a last line torn by a kill is left out, aloud.
    """
    return merge(read_decisions(path) for path in paths)


def merge(files: Iterable[Sequence[Decision]]) -> Annotations:
    """The decisions that stand: of each annotator, in a file the last line, between files the latest time."""
    last: dict[tuple[str, str], Decision] = {}
    for decisions in files:
        own = {(decision.prefix, decision.by): decision for decision in decisions}
        for key, decision in own.items():
            if key not in last or decision.at >= last[key].at:
                last[key] = decision
    votes: defaultdict[str, list[Decision]] = defaultdict(list)
    for (prefix, _), decision in sorted(last.items()):
        if decision.accept is not None:
            votes[prefix].append(decision)
    return Annotations(
        {prefix: _majority(those) for prefix, those in votes.items()},
        {prefix: tuple(those) for prefix, those in votes.items()},
    )


def _majority(votes: Sequence[Decision]) -> bool | None:
    lead = sum(1 if vote.accept else -1 for vote in votes)
    return None if lead == 0 else lead > 0


def read_decisions(path: Path) -> list[Decision]:
    """A file's rows in their order. Raises UserError where it, or one of them, cannot be read."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"--annotations {path}: no such file") from None
    except OSError as error:
        raise UserError(f"--annotations {path}: cannot be read ({error.strerror})") from None
    rows = _csv_rows if Path(path).suffix.lower() == ".csv" else _json_rows
    return list(rows(content, Path(path)))


def _json_rows(content: bytes, path: Path) -> Iterator[Decision]:
    *lines, last = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate([*lines, last], start=1):
        if number > len(lines) and is_torn(line):
            print(f"{path}:{number}: the last line was torn by a kill and is left out", file=sys.stderr)
        elif line.strip():
            with _naming(path, number):
                yield _json_decision(line, path.name)


@lru_cache(maxsize=1 << 17)  # the page reads its file again after each decision
def _json_decision(line: bytes, name: str) -> Decision:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    return _decision(row, name)


def is_torn(line: bytes) -> bool:
    """True for the beginning of a JSON object: what a kill leaves of a row, no line break behind it."""
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:
        unterminated = not line.endswith(b"}") or str(error).startswith("Unterminated")
        return line.startswith(b"{") and unterminated
    return False


def _csv_rows(content: bytes, path: Path) -> Iterator[Decision]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{number}: not UTF-8: save the table as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        if not {"prefix", "accept"} <= set(reader.fieldnames or ()):
            raise UserError(f"{path}:1: the header must be prefix,accept or prefix,accept,by,at")
        for row in reader:
            word = (row["accept"] or "").strip().lower()
            with _naming(path, reader.line_num):
                yield _decision({**row, "accept": _WORDS.get(word, word)}, path.name)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num + 1}: not a line of CSV ({error})") from None


@contextmanager
def _naming(path: Path, number: int) -> Iterator[None]:
    try:
        yield
    except _BadRow as error:
        raise UserError(f"{path}:{number}: {error}") from None


class _BadRow(Exception):
    """A row that is no decision, and what one is."""


def _decision(row: Any, name: str) -> Decision:
    if not isinstance(row, dict) or not {"prefix", "accept"} <= row.keys():
        raise _BadRow('not a row {"prefix": "host/path", "accept": true}')
    prefix, accept, by, at = row["prefix"], row["accept"], row.get("by"), row.get("at")
    if not isinstance(prefix, str) or not prefix.strip():
        raise _BadRow(f"prefix is {prefix!r:.40}: give one such as host/path")
    if not (accept is None or isinstance(accept, bool)):
        raise _BadRow(f"accept is {accept!r:.40}: give true or false (null: withdrawn)")
    if not isinstance(by or "", str) or not isinstance(at or "", str):
        raise _BadRow("by must be a name and at a time such as 2024-05-31T12:00:00Z")
    return Decision(canonical_prefix(prefix.strip(" \t\r")), accept, by or name, _utc(at) if at else "")


def _utc(at: str) -> str:
    try:
        time = datetime.fromisoformat(at)
        time = time.astimezone(UTC) if time.tzinfo else time
    except (ValueError, OverflowError):
        raise _BadRow("at must be a time such as 2024-05-31T12:00:00Z") from None
    return time.strftime(_TIME)


def read_standing(path: Path) -> Annotations:
    """What write_standing wrote."""
    rows = read_json(path)
    return Annotations(
        {prefix: row["accept"] for prefix, row in rows.items()},
        {prefix: tuple(Decision(**vote) for vote in row["votes"]) for prefix, row in rows.items()},
    )


# Writing


def write_standing(path: Path, annotations: Annotations) -> None:
    """Writes {prefix: {accept, votes: [{prefix, accept, by, at}]}}: what stands, and who decided it when."""
    rows = {
        prefix: {"accept": accept, "votes": annotations.votes.get(prefix, ())}
        for prefix, accept in annotations.prefixes.items()
    }
    write_json(path, rows)


def append_decision(path: Path, decision: Decision) -> None:
    """Adds a row; it is on the disk when this returns. What a kill left of a row before it is removed.

    Raises OSError where the row cannot be written whole: nothing of it stays.
    """
    is_new = not path.exists()
    with _locked(path) as file:
        size = _whole_rows(file)
        try:
            _write_all(file, (json.dumps(asdict(decision)) + "\n").encode())
            os.fsync(file)
        except BaseException:
            os.ftruncate(file, size)
            raise
    if is_new:
        with _opened(path.parent, os.O_RDONLY) as folder:
            os.fsync(folder)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, to append to, for this process alone: two annotators may share a run."""
    with _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def _whole_rows(file: int) -> int:
    """Ends a last line that has no line break, or removes it where it is torn; the size after that."""
    size = os.fstat(file).st_size
    content = os.pread(file, _LONGEST, max(0, size - _LONGEST))
    last = content[content.rfind(b"\n") + 1 :]
    if is_torn(last):
        os.ftruncate(file, size - len(last))
    elif last.strip():
        _write_all(file, b"\n")
    return os.fstat(file).st_size


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
