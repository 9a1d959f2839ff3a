"""A corpus from the package documentation, and how good it is: the whole of mining on text that every machine has.

The crawl's domains are known, so precision can be counted; benchmark texts are planted into its pages, and each must be
caught.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.mine import package_docs
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus.decontaminate import Benchmarks, BenchmarkText
from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.loop.scores_file import NAME as SCORES
from dsm_jax.mine.package_docs import MATH_HOSTS, DocsConfig
from dsm_jax.mine.pipeline import Examples, MineResult, Sources, mine
from dsm_jax.mine.tasks import HERE, Spread
from dsm_jax.run import DONE, read_json, write_json

JUDGED = "judged.json"


def mine_package_docs(
    config: MineConfig,
    docs: DocsConfig,
    out: Path,
    benchmarks: Sequence[BenchmarkText],
    planted: Sequence[str] = (),
    spread: Spread = HERE,
) -> MineResult:
    """Crawls the installed packages into out/crawl and mines them into out.

    planted: texts of `benchmarks` that are put into pages, to show that they are caught. The funnel has besides: the
    precision outside the seed, by domain, of each iteration, and what became of the planted texts. Raises UserError for one
    that was not caught, and as mine does.
    """
    warcs = package_docs.crawl(out / "crawl", docs, planted)
    examples = Examples((out / "crawl" / package_docs.SEED,))
    result = mine(
        config, out, Sources(tuple(map(str, warcs))), examples, benchmarks=benchmarks, spread=spread
    )
    if not (out / JUDGED).exists():
        write_json(out / JUDGED, _judge(out, result.funnel, benchmarks, planted, config.grams_need_words))
    judged = read_json(out / JUDGED)
    iterations = [
        row | more for row, more in zip(result.funnel["iterations"], judged.pop("iterations"), strict=True)
    ]
    return replace(result, funnel=result.funnel | judged | {"iterations": iterations})


def _judge(
    out: Path,
    funnel: Mapping[str, Any],
    benchmarks: Sequence[BenchmarkText],
    planted: Sequence[str],
    need_words: bool,
) -> dict[str, Any]:
    rounds = [_precisions(out, number + 1) for number in range(len(funnel["iterations"]))]
    names = ("precision_outside_seed", "precision_outside_seed_hosts")
    judged = {
        "iterations": rounds,
        "math_hosts": list(MATH_HOSTS),
        **{name: rounds[-1][name] for name in names},
    }
    if planted:
        text_of = dict(zip(read_json(out / "crawl" / DONE)["planted"], planted, strict=True))
        caught = _caught(out, Benchmarks(benchmarks, need_words), text_of)
        kept = {row["url"] for row in _scores(out, len(rounds)) if row["kept"]}
        judged["planted"] = {
            "texts": len(text_of),
            "caught": caught,
            "in_kept_pages": len(kept & text_of.keys()),
        }
    return judged


def _precisions(out: Path, number: int) -> dict[str, Any]:
    """The share of collected pages outside the seed that are on mathematical domains, and that of domains without seed."""
    outside = [
        row["domain"] for row in _scores(out, number) if row["kept"] and not package_docs.is_seed(row["url"])
    ]
    others = [domain for domain in outside if domain != package_docs.SEED_HOST]
    return {
        "kept_outside_seed": len(outside),
        "precision_outside_seed": _share(outside),
        "kept_outside_seed_hosts": len(others),
        "precision_outside_seed_hosts": _share(others),
    }


def _share(domains: Sequence[str]) -> float | None:
    return round(sum(domain in MATH_HOSTS for domain in domains) / len(domains), 6) if domains else None


def _scores(out: Path, number: int) -> Iterator[dict[str, Any]]:
    with gzip.open(iteration_folder(out, number) / SCORES, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _caught(out: Path, index: Benchmarks, text_of: Mapping[str, str]) -> int:
    """How many planted texts are gone from their pages once they are cleaned, collected or not: all, or UserError."""
    crawl, pages = Crawl(out / "pages"), []
    for shard in crawl.shards:
        urls = shard.columns("url")["url"].to_pylist()
        pages += [shard.start + i for i, url in enumerate(urls) if url in text_of]
    for _, row in crawl.rows(np.array(pages, np.int64), "url", "text"):
        text, cleaned = text_of[row["url"]], index.clean(row["text"])
        left = Benchmarks([BenchmarkText("planted", text)], need_words=False).clean(cleaned.text or "")
        if not cleaned.hits or left.hits:
            raise UserError(
                f"decontamination missed a planted text: {text!r}; plant texts that are benchmark texts, of three words or "
                "numbers or more, and give another --out"
            )
    return len(pages)
