"""What a model answered: a row for each sample, in JSONL files that appear whole, one for each chunk of problems.

Left out on purpose: asking, judging, scoring. Rows are text of models: they are read as data only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.run import write_text


@dataclass(frozen=True)
class Sample:
    """One answer to a problem of a benchmark, under a protocol, and what the graders say of it."""

    benchmark: str
    protocol: str
    id: str
    subject: str
    level: str
    language: str
    gold: str
    sample: int  # 0 to n - 1
    prompt: str
    response: str
    finish: str  # stop, length (cut at max_new_tokens), error
    tokens: int
    executed: str  # how the program ended that gave the answer: ok, error, timeout, ...; "" without one
    extracted: str | None  # the answer as written
    correct: Mapping[str, bool | None]  # by the grader's mode; None: the gold answer cannot be scored
    reason: str  # why, in mode strict
    vote: int | None  # equal answers of a problem have the same number; None: no answer


NAMES = {field.name for field in fields(Sample)}


def chunk_file(folder: Path, number: int) -> Path:
    return Path(folder) / f"{number:06d}.jsonl"


def rows_in(file: Path) -> int:
    """How many rows a file has; 0 where it is not there."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def write_samples(path: Path, rows: Iterable[Sample]) -> None:
    """The file appears whole, or not at all; half characters of a model's text become question marks."""
    lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines).encode("utf-8", "replace").decode())


def read_samples(folder: Path) -> list[Sample]:
    """All rows of a benchmark's folder. Raises UserError for a row that is none (file:line)."""
    return [row for file in sorted(Path(folder).glob("*.jsonl")) for row in read_chunk(file)]


def read_chunk(file: Path) -> list[Sample]:
    """The rows of one file."""
    rows = []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]  # splitlines() would also split inside answers
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or values.keys() != NAMES:
            raise UserError(
                f"{file}:{number}: not a sample's row; delete the file, the same command makes it again"
            )
        rows.append(Sample(**values))
    return rows


def by_problem(rows: Sequence[Sample]) -> list[list[Sample]]:
    """The rows problem by problem, in their order."""
    found: dict[str, list[Sample]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row)
    return list(found.values())
