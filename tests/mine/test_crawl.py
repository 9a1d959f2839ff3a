"""Pages on disk: numbers, columns and rows of any shards are what was written; arrays appear whole."""

import errno
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mine.crawl import Crawl, mapped_array, page_array


@pytest.fixture
def four_shards(write_crawl, tmp_path):
    """Of 4, 0, 7 and 1 pages, in row groups of 3; page i has the URL "i" and i words."""
    sizes, rows = (4, 0, 7, 1), [{"url": str(i), "words": i, "url_key": 2**63 + i} for i in range(12)]
    starts = np.cumsum([0, *sizes]).tolist()
    return write_crawl(tmp_path / "pages", [rows[a:b] for a, b in pairwise(starts)])


def test_pages_are_numbered_over_all_shards(four_shards):
    assert four_shards.count == 12
    assert [(shard.start, shard.count) for shard in four_shards.shards] == [(0, 4), (4, 0), (4, 7), (11, 1)]
    numbers = np.arange(12)
    for shard in four_shards.shards:
        assert shard.numbers("words").tolist() == numbers[shard.pages].tolist()
        assert shard.columns("url")["url"].to_pylist() == [str(i) for i in numbers[shard.pages]]
        groups = [(start, table["words"].to_pylist()) for start, table in shard.groups("words")]
        assert all(words == list(range(start, start + len(words))) for start, words in groups)
        assert sum(len(words) for _, words in groups) == shard.count
    keys = four_shards.shards[2].numbers("url_key")
    assert keys.dtype == np.uint64 and keys.tolist() == [2**63 + i for i in range(4, 11)]


def test_rows_come_once_in_their_order_on_disk(four_shards):
    rows = list(four_shards.rows([11, 3, 4, 3, 10, 0], "url", "words"))
    assert rows == [(i, {"url": str(i), "words": i}) for i in (0, 3, 4, 10, 11)]
    assert list(four_shards.rows([], "url")) == []
    assert list(four_shards.rows(np.arange(12), "words")) == [(i, {"words": i}) for i in range(12)]


def test_only_row_groups_with_a_wanted_page_are_read(four_shards, monkeypatch):
    import pyarrow.parquet as pq

    read, real = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, i, **kwargs: (read.append(i), real(self, i, **kwargs))[1],
    )
    list(four_shards.rows([4, 6, 10], "url"))
    assert read == [0, 2]


def test_files_that_are_no_whole_shard_do_not_count(four_shards):
    for name in ("00004.parquet.tmp", "00004.json", "other.parquet"):
        (four_shards.folder / name).write_bytes(b"half a shard")
    assert Crawl(four_shards.folder).count == 12


@settings(max_examples=30)
@given(
    st.lists(st.integers(-(2**62), 2**62), max_size=9), st.sampled_from(["int64", "bool", "int8", "float64"])
)
def test_an_array_is_what_was_filled_in_and_zero_elsewhere(tmp_path_factory, values, dtype):
    path = tmp_path_factory.mktemp("arrays") / "values.npy"
    values = np.array(values).astype(dtype)
    with page_array(path, len(values) + 2, dtype) as array:
        array[: len(values)] = values
        assert not path.exists()
    there = mapped_array(path)
    assert there.dtype == np.dtype(dtype) and not there.flags.writeable
    assert there.tolist() == [*values.tolist(), 0, 0]


def test_an_array_of_no_page(tmp_path):
    with page_array(tmp_path / "none.npy", 0, "bool"):
        pass
    assert mapped_array(tmp_path / "none.npy").shape == (0,)


def test_an_array_of_a_failed_stage_does_not_appear_and_the_old_one_stays(tmp_path):
    path = tmp_path / "values.npy"
    with page_array(path, 2, "int64") as array:
        array[:] = 1
    with pytest.raises(KeyboardInterrupt), page_array(path, 2, "int64") as array:
        array[0] = 2
        raise KeyboardInterrupt
    assert mapped_array(path).tolist() == [1, 1] and [one.name for one in tmp_path.iterdir()] == [
        "values.npy"
    ]


def test_a_new_array_has_its_room_on_disk_before_it_is_filled(tmp_path):
    with page_array(tmp_path / "a.npy", 100_000, "int64"):
        taken = 512 * (tmp_path / "a.npy.tmp").stat().st_blocks
    assert taken >= 800_000  # else a full disk is met as a bus error, which no handler sees


def test_an_array_without_room_is_an_error_that_names_it(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(OSError, match=r"No space left on device: .*a\.npy"),
        page_array(tmp_path / "a.npy", 3, "int8"),
    ):
        pass
    assert not any(tmp_path.iterdir())
