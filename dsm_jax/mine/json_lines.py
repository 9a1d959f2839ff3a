"""JSON lines in gzip files whose bytes depend on their content only; read with dsm_jax.rows."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsm_jax.run import atomic


@contextmanager
def gzip_lines(path: Path) -> Iterator[gzip.GzipFile]:
    """A gzip file to write, which appears whole."""
    with atomic(path) as tmp, open(tmp, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        yield file


def join(parts: Sequence[Path], out: Path) -> None:
    """Writes `out`: gzip files one after the other, which is a gzip file too."""
    with atomic(out) as tmp, open(tmp, "wb") as file:
        for part in parts:
            with open(part, "rb") as content:
                shutil.copyfileobj(content, file)


def json_line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
