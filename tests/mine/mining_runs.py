"""Runs of the whole of mining on the small crawl, and what they left."""

import gzip
import json
from pathlib import Path

from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.loop.classify import FastTextConfig
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.pipeline import Examples, Sources, mine

CONFIG = MineConfig(
    classifier=FastTextConfig(dim=8, lr=0.5, epoch=10, bucket=2000),
    iterations=3,
    negatives_by="domain",
    keep_tokens=(),
    keep_share=0.35,
    domain_min_pages=10,
    grams_need_words=True,
)


def run(out, crawl, config=CONFIG, *, warcs=None, seed=None, negatives=(), held_out=None, **options):
    sources = Sources(tuple(map(str, warcs or crawl[0])))
    return mine(config, out, sources, Examples((seed or crawl[1],), negatives, held_out), **options)


def read_rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def page_rows(out, *names):
    crawl = Crawl(out / "pages")
    return [row for _, row in crawl.rows(range(crawl.count), *names)]


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def training_lines(out, number, label):
    lines = (iteration_folder(out, number) / "train.txt").read_text().splitlines()
    start = f"__label__{label} "
    return {line.removeprefix(start) for line in lines if line.startswith(start)}
