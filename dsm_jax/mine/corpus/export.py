"""The corpus as a TFDS dataset in ArrayRecord shards, written and read back without TensorFlow.

`tfds.builder_from_directory(folder).as_data_source("train")` reads it too. Every record carries its
provenance: url, WARC file and offset, score, iteration, language.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dsm_jax.errors import UserError
from dsm_jax.tfds_folder import INFO, Dataset, write_dataset

NAME, SPLIT = "math_corpus", "train"
FEATURES = tfds.features.FeaturesDict(
    {
        "text": tfds.features.Text(),
        "url": tfds.features.Text(),
        "warc": tfds.features.Text(),
        "offset": np.int64,
        "score": np.float32,
        "iteration": np.int32,
        "language": tfds.features.Text(),
    }
)


def read_corpus(path: Path) -> Dataset:
    """Random access to the records {text, url, warc, offset, score, iteration, language} that write_corpus wrote.

    Raises UserError where there is none.
    """
    if not (Path(path) / INFO).is_file():
        raise UserError(f"{path}: no corpus there: mine one first")
    return Dataset(Path(path), SPLIT)


def write_corpus(records: Iterable[Mapping[str, Any]], folder: Path) -> int:
    """Writes records with FEATURES to `folder`, which appears whole by rename; returns their number.

    Raises UserError when there is none.
    """
    counts = write_dataset(
        {SPLIT: _not_empty({name: row[name] for name in FEATURES} for row in records)},
        folder,
        name=NAME,
        features=FEATURES,
        description="Mathematical web pages, mined and decontaminated.",
    )
    return counts[SPLIT]


def _not_empty(records: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    first = next(records, None)
    if first is None:
        raise UserError(
            "the corpus is empty after filtering: give more pages, or raise --keep-tokens or --keep-share, and give another "
            "--out"
        )
    yield from chain([first], records)
