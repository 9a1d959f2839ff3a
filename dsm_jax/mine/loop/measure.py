"""What an iteration's scores are worth on the held-out pages that have labels: average precision and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.loop.held_out import average_precision, average_precision_by_site, calibration
from dsm_jax.mine.loop.seed import HeldOut


def measure(crawl: Crawl, held_out: HeldOut, scores: np.ndarray) -> dict[str, Any]:
    """{"average_precision", "held_out": {"pages", "by_site", "calibration"}}; {} without labels of both kinds."""
    rows = list(_labelled(crawl, held_out, scores))
    sites, labels, values = zip(*rows, strict=True) if rows else ((), (), ())
    if len(set(labels)) < 2:
        return {}
    return {
        "average_precision": average_precision(labels, values),
        "held_out": {
            "pages": len(rows),
            "by_site": average_precision_by_site(sites, labels, values),
            "calibration": [asdict(one) for one in calibration(labels, values)],
        },
    }


def _labelled(crawl: Crawl, held_out: HeldOut, scores: np.ndarray) -> Iterator[tuple[str, bool, float]]:
    """(domain, label, score) of the crawl's pages that have a label."""
    for shard in crawl.shards:
        labels = held_out.labels_of(shard.numbers("url_key"))
        inside = np.flatnonzero(labels >= 0)
        domains = shard.columns("domain")["domain"].take(inside).to_pylist()
        yield from zip(
            domains, (labels[inside] == 1).tolist(), scores[inside + shard.start].tolist(), strict=True
        )
