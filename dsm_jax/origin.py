"""What a run's files are made from: noted when it begins, held against what is given when it goes on.

Options are in config.json (run.py); this is for what a path does not tell: a model's parameters, a file's rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.run import read_json, write_json


def require_same_origin(file: Path, given: Mapping[str, Any]) -> None:
    """Notes in `file` what is given, by name, beside what stands there. UserError where one of these was another."""
    there = read_json(file) if file.exists() else {}
    for name, value in given.items():
        if there.get(name, value) != value:
            raise UserError(
                f"{file.parent}: {name}: not what this run began with; give the same, or another --out"
            )
    write_json(file, {**there, **given})


def hash_of(rows: Any) -> str:
    """Of what JSON can hold."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
