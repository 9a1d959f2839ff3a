"""A file of labelled solutions in our own form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from dsm_jax.rl.steps.labelled import Labelled


def write_labelled(path: Path, rows: Iterable[Labelled]) -> None:
    lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", errors="replace")
