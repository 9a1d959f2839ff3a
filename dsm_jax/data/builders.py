"""GSM8K and MATH as TFDS datasets, built from files that the user has; ArrayRecord, without TensorFlow.

    python -c "from dsm_jax.data.builders import build_gsm8k; build_gsm8k('FOLDER', 'OUT')"

and then `tfds.builder_from_directory(OUT).as_data_source("train")`, or tfds_folder.Dataset(OUT, "train"); instructions.py
reads OUT as finetuning examples. Rows stay as they are published. The folder appears whole; equal files give equal
bytes. Left out on purpose: downloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from dsm_jax.data.instructions import find_split, read_rows_of
from dsm_jax.data.texts import Part
from dsm_jax.errors import UserError
from dsm_jax.tfds_folder import write_dataset

SPLITS = ("train", "test")
GSM8K = ("question", "answer")
MATH = ("problem", "solution", "level", "type")


def build_gsm8k(folder: str | Path, out: str | Path) -> dict[str, int]:
    """Rows {question, answer} of FOLDER/train.jsonl and test.jsonl (or .json, .gz, .zst); returns the counts by split."""
    return _build(
        Path(folder), Path(out), "gsm8k", GSM8K, "Grade-school problems, openai/grade-school-math (MIT)."
    )


def build_math(folder: str | Path, out: str | Path) -> dict[str, int]:
    """Rows {problem, solution, level, type} of FOLDER/train and FOLDER/test: files as of GSM8K, or a folder with one
    .json a problem, as published. Returns the counts by split."""
    return _build(
        Path(folder), Path(out), "math", MATH, "Competition problems in the form of hendrycks/math."
    )


def _build(folder: Path, out: Path, name: str, fields: Sequence[str], description: str) -> dict[str, int]:
    sources = {split: find_split(folder, split) for split in SPLITS}
    rows = {split: _rows(found, fields) for split, found in sources.items() if found}
    if not rows:
        shown = ", ".join(f"{split}.jsonl" for split in SPLITS)
        raise UserError(f"{folder}: no {shown} (or .json, .gz, .zst) and no folder train or test in it")
    features = tfds.features.FeaturesDict({field: tfds.features.Text() for field in fields})
    return write_dataset(rows, out, name=name, features=features, description=description)


def _rows(parts: Sequence[Part], fields: Sequence[str]) -> Iterator[dict[str, str]]:
    for part in parts:
        for place, row in read_rows_of(part):
            yield _fields(row, fields, place)


def _fields(row: Any, fields: Sequence[str], place: str) -> dict[str, str]:
    wrong = [name for name in fields if not isinstance(row, dict) or not isinstance(row.get(name), str)]
    if wrong:
        raise UserError(f"{place}: no text in {', '.join(wrong)}; a row must have {', '.join(fields)}")
    return {name: row[name] for name in fields}
