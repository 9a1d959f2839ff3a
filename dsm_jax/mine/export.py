"""The corpus as a TFDS dataset in ArrayRecord shards, written and read back without TensorFlow.

`tfds.builder_from_directory(folder).as_data_source("train")` reads it too. Every record carries its
provenance: url, WARC file and offset, score, iteration.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from dsm_jax.errors import UserError

NAME, SPLIT = "math_corpus", "train"
SHARD_RECORDS = 50_000
FEATURES = tfds.features.FeaturesDict(
    {
        "text": tfds.features.Text(),
        "url": tfds.features.Text(),
        "warc": tfds.features.Text(),
        "offset": np.int64,
        "score": np.float32,
        "iteration": np.int32,
    }
)


class Corpus:
    """Random access to a corpus's records {text, url, warc, offset, score, iteration}, texts as str."""

    def __init__(self, folder: Path):
        self._source = tfds.builder_from_directory(str(folder)).as_data_source(SPLIT)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        position = range(len(self))[index]  # negative from the end; IndexError beyond it ends a for loop
        return {name: _plain(value) for name, value in self._source[position].items()}


def read_corpus(path: Path) -> Corpus:
    """Opens the corpus that write_corpus made. Raises UserError where there is none."""
    if not (Path(path) / "dataset_info.json").is_file():
        raise UserError(f"{path}: no corpus there: mine one first")
    return Corpus(Path(path))


def write_corpus(records: Iterable[Mapping[str, Any]], folder: Path) -> int:
    """Writes records of FEATURES to `folder`, which appears whole by rename; returns their number.

    Raises UserError when there is none.
    """
    tmp = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    lengths, total_bytes = _write_parts(iter(records), tmp)
    if not lengths:
        raise UserError(
            "the corpus is empty after filtering: give more pages, or raise keep_tokens or keep_share, and give "
            "another --out"
        )
    names = tfds.core.ShardedFileTemplate(
        data_dir=str(tmp), dataset_name=NAME, split=SPLIT, filetype_suffix="array_record"
    )
    for i in range(len(lengths)):
        _part(tmp, i).rename(names.sharded_filepath(shard_index=i, num_shards=len(lengths)))
    split = tfds.core.SplitInfo(
        name=SPLIT, shard_lengths=lengths, num_bytes=total_bytes, filename_template=names
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(tmp),
        features=FEATURES,
        split_infos=[split],
        version="1.0.0",
        check_data=False,  # its check reads through TensorFlow
        description="Mathematical web pages, mined and decontaminated.",
    )
    shutil.rmtree(folder, ignore_errors=True)
    tmp.rename(folder)
    return sum(lengths)


def _write_parts(records: Iterator[Mapping[str, Any]], folder: Path) -> tuple[list[int], int]:
    serializer = ExampleSerializer(FEATURES.get_serialized_info())
    lengths: list[int] = []
    total_bytes = 0
    while shard := list(islice(records, SHARD_RECORDS)):
        writer = ArrayRecordWriter(str(_part(folder, len(lengths))), "group_size:1")
        for record in shard:
            example = serializer.get_tf_example(FEATURES.encode_example(dict(record)))
            # By default protobuf orders a map anew in every process.
            serialized = example.SerializeToString(deterministic=True)
            writer.write(serialized)
            total_bytes += len(serialized)
        writer.close()
        lengths.append(len(shard))
    return lengths, total_bytes


def _part(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}"


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if hasattr(value, "item") else value
