"""A TFDS dataset of ArrayRecord shards, written and read back by index without TensorFlow.

The folder is what `tfds.builder_from_directory(folder).as_data_source(split)` opens. Importing this file does not import
TFDS, which takes seconds. Left out on purpose: features other than text and numbers, and downloads (whoever has the
rows writes them).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsm_jax.errors import UserError
from dsm_jax.records import write_records

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SHARD_RECORDS = 50_000
INFO = "dataset_info.json"  # what makes a folder a dataset


class Dataset:
    """Random access to one split's records, texts as str, numbers as Python's. Raises UserError where there is none."""

    def __init__(self, folder: Path, split: str = "train"):
        if not (Path(folder) / INFO).is_file():
            raise UserError(f"{folder}: no dataset there (no {INFO})")
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(str(folder))
        except Exception as error:  # of TFDS, of protobuf, of JSON: whatever its files are damaged in
            raise _damaged(folder, error) from error
        if split not in builder.info.splits:
            raise UserError(f"{folder}: no split {split}; it has {', '.join(builder.info.splits)}")
        self._folder, self._source = folder, builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        position = range(len(self))[index]  # negative from the end; IndexError beyond it ends a for loop
        try:
            record = self._source[position]
        except (OSError, RuntimeError) as error:  # the reader's, for a missing or a cut file
            raise _damaged(self._folder, error) from error
        return {name: _plain(value) for name, value in record.items()}


def _damaged(folder: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{folder}: its dataset is damaged ({reason:.200}); make it again")


def write_dataset(
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    folder: Path,
    *,
    name: str,
    features: tfds.features.FeaturesDict,
    description: str,
) -> dict[str, int]:
    """Writes each split's records to `folder`, which appears whole by rename; returns how many there are of each.

    A dataset that is there is replaced. Raises UserError for a folder of anything else, and a split without any record.
    """
    folder = Path(folder)
    old = folder.with_name(folder.name + ".old.tmp")
    if (old / INFO).is_file() and not folder.exists():  # a kill came between the two renames
        old.rename(folder)
    _refuse_others(folder)
    import tensorflow_datasets as tfds

    tmp = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    infos = [_write_split(split, iter(rows), tmp, name, features) for split, rows in splits.items()]
    tfds.folder_dataset.write_metadata(
        data_dir=str(tmp),
        features=features,
        split_infos=infos,
        version="1.0.0",
        check_data=False,  # its check reads through TensorFlow
        description=description,
    )
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # whole: what a kill leaves of a folder that is being removed is no dataset
    tmp.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return {info.name: sum(info.shard_lengths) for info in infos}


def _refuse_others(folder: Path) -> None:
    """UserError where something stands that is no dataset, and would be lost."""
    if (folder / INFO).is_file() or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise UserError(
        f"{folder}: holds other files, and no dataset (no {INFO}) that could be replaced; give a folder of its own"
    )


def _write_split(
    split: str,
    records: Iterator[Mapping[str, Any]],
    folder: Path,
    name: str,
    features: tfds.features.FeaturesDict,
) -> tfds.core.SplitInfo:
    import tensorflow_datasets as tfds

    lengths, total_bytes = _write_parts(records, folder, split, features)
    if not lengths:
        raise UserError(f"{folder.with_suffix('')}: no record for the split {split}")
    names = tfds.core.ShardedFileTemplate(
        data_dir=str(folder), dataset_name=name, split=split, filetype_suffix="array_record"
    )
    for i in range(len(lengths)):
        _part(folder, split, i).rename(names.sharded_filepath(shard_index=i, num_shards=len(lengths)))
    return tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=total_bytes, filename_template=names
    )


def _write_parts(
    records: Iterator[Mapping[str, Any]], folder: Path, split: str, features: tfds.features.FeaturesDict
) -> tuple[list[int], int]:
    """The records in each part, and the bytes of all."""
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    serializer = ExampleSerializer(features.get_serialized_info())
    lengths: list[int] = []
    total_bytes = 0

    def serialized(shard: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        nonlocal total_bytes
        for record in shard:
            example = serializer.get_tf_example(features.encode_example(dict(record)))
            # By default protobuf orders a map anew in every process.
            data = example.SerializeToString(deterministic=True)
            total_bytes += len(data)
            yield data

    while (first := next(records, None)) is not None:
        shard = chain(
            [first], islice(records, SHARD_RECORDS - 1)
        )  # as they come: a shard may not fit in memory
        lengths.append(write_records(_part(folder, split, len(lengths)), serialized(shard)))
    return lengths, total_bytes


def _part(folder: Path, split: str, index: int) -> Path:
    return folder / f"part-{split}-{index:05d}"


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if hasattr(value, "item") else value
