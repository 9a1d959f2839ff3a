"""Ten times the pages take at most 1.3 times the memory: duplicates and an iteration of the loop, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsm_jax.mine.pages import KEYS, SCHEMA, shard_file

SHARD_PAGES, WORDS = 4_000, 50
SHARDS = (10, 100)

RUN = """
import resource, sys
from pathlib import Path
from dsm_jax.mine.annotate.annotations import Annotations
from dsm_jax.mine.loop.classify import FastTextConfig
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.loop.iterate import run_loop
from dsm_jax.mine.loop.seed import read_examples, Inputs

out = Path(sys.argv[1])
config = MineConfig(
    classifier=FastTextConfig(dim=16, lr=0.5, epoch=5, bucket=10_000),
    iterations=1, max_seed_pages=500, keep_tokens=(int(sys.argv[2]),), negatives_by=sys.argv[3],
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
find_duplicates(out / "pages", out / "duplicates.npy")
run_loop(out, Inputs(read_examples("--seed", [out / "seed.jsonl"], 500)), lambda: Annotations({}), config)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_shards(folder: Path, count: int) -> None:
    """Pages of random words, a tenth of them of mathematical ones; a third share a key with others."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"{kind}{i}" for kind in ("word", "lemma") for i in range(500)])
    vocabulary = np.char.translate(vocabulary, str.maketrans("0123456789", "abcdefghij"))
    for number in range(count):
        is_math = rng.random(SHARD_PAGES) < 0.1
        words = vocabulary[rng.integers(0, 500, (SHARD_PAGES, WORDS)) + 500 * is_math[:, None]]
        texts = [" ".join(row) for row in words.tolist()]
        urls = [
            f"https://{'math' if one else 'site'}{i % 97}.org/{number}/{i}" for i, one in enumerate(is_math)
        ]
        columns = {name: rng.integers(1, 2**64, SHARD_PAGES, np.uint64) for name in (*KEYS, "tokens_key")}
        shared = rng.integers(1, count * SHARD_PAGES // 10, SHARD_PAGES, np.uint64)
        columns["band_00"] = np.where(rng.random(SHARD_PAGES) < 0.33, shared, columns["band_00"])
        columns |= {
            "url": urls,
            "domain": [url.split("/")[2] for url in urls],
            "text": texts,
            "tokens": texts,
        }
        columns |= {
            name: np.full(SHARD_PAGES, WORDS if name == "words" else 0) for name in ("words", "offset")
        }
        columns |= {name: [""] * SHARD_PAGES for name in ("language", "record_id", "source")}
        pq.write_table(pa.table(columns, SCHEMA), shard_file(folder, number), row_group_size=1024)
    seed = [" ".join(vocabulary[500 + rng.integers(0, 500, WORDS)].tolist()) for _ in range(400)]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in seed)
    (folder.parent / "seed.jsonl").write_text(rows)


def peak(out: Path, count: int, negatives_by: str) -> list[float]:
    """MB of a process after its imports, and at most."""
    write_shards(out / "pages", count)
    budget = count * SHARD_PAGES * WORDS // 20
    command = [sys.executable, "-c", RUN, str(out), str(budget), negatives_by]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return [int(line) / 1024 for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("negatives_by", ["page", "domain"])
def test_ten_times_the_pages_take_hardly_more_memory(tmp_path, negatives_by):
    peaks = [peak(tmp_path / str(count), count, negatives_by) for count in SHARDS]
    shown = [
        f"{count * SHARD_PAGES:,} pages: {most:.0f} MB ({start:.0f} MB of them imports)"
        for count, (start, most) in zip(SHARDS, peaks, strict=True)
    ]
    print(*shown, sep="\n")
    assert peaks[1][1] <= 1.3 * peaks[0][1], shown
