"""What an iteration leaves for annotators: the discovered domains, their prefixes and sampled pages.

DIR/iteration-NN/domains.json: a list of {domain, pages, collected, words}; prefixes.jsonl.gz: rows {domain,
prefix, pages, collected, mean_score}; samples.jsonl.gz: rows {domain, url, score, kept, words, text}. Rows of
thousands of domains may not fit into memory: they lie in unnamed temporary files until they are asked for.

Left out on purpose: writing these files, which is the loop's.
"""

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import host_of, slashed
from dsm_jax.run import CONFIG, progress, read_json

DOMAINS, PREFIXES, SAMPLES = "domains.json", "prefixes.jsonl.gz", "samples.jsonl.gz"
_REMEDY = "delete its iteration's folder and mine again"
_DOMAIN = {"domain": str, "pages": int, "collected": int, "words": int}
_PREFIX = {"domain": str, "prefix": str, "pages": int, "collected": int, "mean_score": float}
_SAMPLE = {"domain": str, "url": str, "score": float, "kept": bool, "words": int, "text": str}


@dataclass(frozen=True)
class Domain:
    """A discovered domain: its pages in the crawl, those collected, and their words."""

    domain: str
    pages: int
    collected: int
    words: int

    @property
    def gain(self) -> int:
        """Pages not collected: what accepting all of it may add to the seed."""
        return self.pages - self.collected


class RowsByDomain:
    """JSON lines by their domain, on disk; read from several threads."""

    def __init__(self, lines: Iterable[tuple[str, bytes]]):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this)
        self._spans: dict[str, list[tuple[int, int]]] = {}
        start = 0
        for domain, line in lines:
            self._file.write(line)
            spans, end = self._spans.setdefault(domain, []), start + len(line)
            spans.append((spans.pop()[0] if spans and spans[-1][1] == start else start, end))
            start = end
        self._file.flush()

    def __getitem__(self, domain: str) -> list[dict[str, Any]]:
        """The domain's rows in the order they came; a domain may have none."""
        file, spans = self._file.fileno(), self._spans.get(domain, ())
        content = b"".join(os.pread(file, end - start, start) for start, end in spans)
        return [json.loads(line) for line in content.splitlines()]


@dataclass(frozen=True)
class Candidates:
    """An iteration's domains, most gain first, and their rows of prefixes and samples."""

    iteration: int
    domains: Mapping[str, Domain]
    prefixes: RowsByDomain
    samples: RowsByDomain

    def domain_of(self, prefix: str) -> str | None:
        """The domain that a canonical prefix belongs to: that of its host, or of a host above it."""
        name = host_of(prefix).rpartition("@")[2].partition(":")[0]
        while name and name not in self.domains:
            name = name.partition(".")[2]
        return name or None

    def samples_under(self, domain: str, prefix: str) -> list[dict[str, Any]]:
        """The domain's sampled pages that a decision on the prefix is about."""
        return [row for row in self.samples[domain] if slashed(row["url"]).startswith(prefix)]


def newest_iteration(run: Path) -> int:
    """The last iteration that has left all its files; 0 where none has."""
    folders = Path(run).glob("iteration-[0-9][0-9]")
    whole = [path for path in folders if all((path / name).exists() for name in (DOMAINS, PREFIXES, SAMPLES))]
    return max((int(path.name.removeprefix("iteration-")) for path in whole), default=0)


def load_candidates(run: Path) -> Candidates:
    """Reads the newest iteration. Raises UserError where `run` is no run's folder or has no iteration yet, or a row is
    damaged (file:line)."""
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such folder: give the folder that mine_corpus.py had as --out")
    iteration = newest_iteration(run)
    if not iteration and not (Path(run) / CONFIG).exists():
        raise UserError(f"{run} is no mining run: give the folder that mine_corpus.py had as --out")
    if not iteration:
        raise UserError(
            f"{run} holds no finished iteration: let mine_corpus.py --out {run} come so far first"
        )
    folder = Path(run) / f"iteration-{iteration:02d}"
    domains = _read_domains(folder / DOMAINS)
    return Candidates(
        iteration,
        {one.domain: one for one in sorted(domains, key=lambda one: (-one.gain, one.domain))},
        RowsByDomain(_read_rows(folder / PREFIXES, _PREFIX)),
        RowsByDomain(_read_rows(folder / SAMPLES, _SAMPLE)),
    )


def _read_domains(path: Path) -> list[Domain]:
    rows = read_json(path, _REMEDY)
    if not isinstance(rows, list):
        raise UserError(f"{path} is no list of domains: {_REMEDY}")
    for number, row in enumerate(rows, start=1):
        _check(row, _DOMAIN, f"{path}, domain {number}")
    return [Domain(**{name: row[name] for name in _DOMAIN}) for row in rows]


def _read_rows(path: Path, fields: Mapping[str, type]) -> Iterator[tuple[str, bytes]]:
    number = 0
    try:
        with gzip.open(path, "rb") as file, progress(None, f"read {path.name} (rows)") as bar:
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                _check(row, fields, f"{path}:{number}")
                yield row["domain"], line
                bar.advance()
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        raise UserError(f"{path}:{number}: the file is damaged: {_REMEDY}") from None


def _check(row: Any, fields: Mapping[str, type], where: str) -> None:
    for name, kind in fields.items():
        value = row.get(name) if isinstance(row, dict) else None
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"{where}: {name} is no {kind.__name__}: {_REMEDY}")
