"""bench_mining.py's own worker: each step of mining, and the whole of it to the score, on one core."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_worker import serve

from dsm_jax.mine.corpus.decontaminate import Benchmarks, BenchmarkText
from dsm_jax.mine.crawl import Crawl, mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.loop import classify
from dsm_jax.mine.loop.score import score_pages
from dsm_jax.mine.near_duplicates import band_keys
from dsm_jax.mine.pages import make_shards
from dsm_jax.mine.tokens import fasttext_tokens
from dsm_jax.mine.web.read import Page, index_warc, read_block


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    warcs = sorted(Path(request["crawl"]).glob("*.warc.gz"))
    folder, model_file = Path(request["folder"]) / "ours", Path(request["model"])
    pages = list(_pages(warcs))
    html = [decode(page.body, page.charset) for page in pages]
    rows = {page.url: page_text(text) for page, text in zip(pages, html, strict=True)}
    texts = list(rows.values())
    tokens = [one for one in map(fasttext_tokens, texts) if one]
    model = classify.load(model_file)
    benchmarks = Benchmarks([BenchmarkText("problems", question) for question in request["questions"]])

    def whole() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_shards(list(map(str, warcs)), folder / "pages")
        find_duplicates(folder / "pages", folder / "duplicates.npy")
        first, scores = mapped_array(folder / "duplicates.npy"), folder / "scores.npy"
        score_pages(folder / "pages", first, model_file, scores)
        kept = mapped_array(scores) >= request["min_score"]
        for _ in Crawl(folder / "pages").rows(kept.nonzero()[0], "url", "text"):
            pass

    def score() -> None:
        found = (page_text(decode(page.body, page.charset)) for page in _pages(warcs))
        classify.predict(model, list(map(fasttext_tokens, found)))

    return {
        "whole": whole,
        "score": score,
        "text": lambda: [page_text(decode(page.body, page.charset)) for page in _pages(warcs)],
        "read": lambda: list(_pages(warcs)),
        "extract": lambda: list(map(page_text, html)),
        "tokens": lambda: list(map(fasttext_tokens, texts)),
        "near_duplicates": lambda: list(map(band_keys, texts)),
        "predict": lambda: classify.predict(model, tokens),
        "fasttext": lambda: model.predict(tokens, k=2),
        "decontaminate": lambda: list(map(benchmarks.clean, texts)),
        "texts": lambda: rows,
        "report": lambda: {
            "pages": len(pages),
            "with_tokens": len(tokens),
            "warc_mb": sum(warc.stat().st_size for warc in warcs) / 1e6,
            "html_mb": sum(len(page.body) for page in pages) / 1e6,
            "text_mb": sum(len(text.encode()) for text in texts) / 1e6,
        },
    }


def _pages(warcs: list[Path]) -> Iterator[Page]:
    for warc in warcs:
        for block in index_warc(warc)[0]:
            yield from read_block(block).pages


if __name__ == "__main__":
    serve(build)
