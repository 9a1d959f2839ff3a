"""Files of a labelling run: chunks of problems that appear whole, and the whole run's rows behind one another.

A chunk's first line has its counts, each other line a row. One chunk is in memory at a time, however many there are.
Left out on purpose: sampling and labelling (run.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.rl.shepherd.labelling import StepLabels
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.run import atomic, write_text

Row = Mapping[str, Any]


def chunk_file(folder: Path, number: int) -> Path:
    return Path(folder) / f"{number:06d}.jsonl"


def chunk_files(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("*.jsonl"))


def write_chunk(file: Path, counts: object, rows: Iterable[Row]) -> None:
    """The file appears whole, or not at all; half characters of a model's text become question marks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    first: Row = {"counts": asdict(counts)}  # type: ignore[call-overload]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in (first, *rows))
    write_text(file, "".join(lines).encode("utf-8", "replace").decode())


def counts_in(file: Path) -> dict[str, int]:
    with file.open(encoding="utf-8") as lines:
        return _read(file, 1, next(lines, ""))["counts"]


def rows_in(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if number > 1:
                yield _read(file, number, line)


def _read(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or (number == 1 and "counts" not in value):
        raise UserError(f"{file}:{number}: damaged; delete the file, the same command makes it again")
    return value


def label_row(one: StepLabels) -> dict[str, Any]:
    """A labelled solution as a row: Labelled's fields, and `draws`."""
    return asdict(one.labelled) | {"draws": one.draws}


def labels_of(row: Row) -> StepLabels:
    fields = {name: row[name] for name in Labelled.__dataclass_fields__}
    labelled = Labelled(**fields | {"ends": tuple(row["ends"]), "labels": tuple(row["labels"])})
    return StepLabels(labelled, tuple(row["draws"]))


def join_chunks(folder: Path, file: Path, made: Callable[[Row], Row | None]) -> int:
    """Writes what is made of each row of the folder's chunks, a line each; how many rows nothing is made of."""
    left = 0
    with atomic(file) as tmp, tmp.open("w", encoding="utf-8", newline="\n") as out:
        for chunk in chunk_files(folder):
            for row in rows_in(chunk):
                if (found := made(row)) is None:
                    left += 1
                else:
                    out.write(json.dumps(found, ensure_ascii=False) + "\n")
    return left
