"""An iteration's files for annotators as the loop leaves them, with invented pages."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm_jax.mine.annotate.prefixes import prefix_counts
from dsm_jax.mine.json_lines import gzip_lines, json_line
from dsm_jax.run import write_json

SENTENCES = {
    True: (
        "Let $G$ be a finite group and $p$ a prime that divides its order.",
        "Then $\\sum_{k=1}^n k = \\frac{n(n+1)}{2}$ by induction on $n$.",
        "Proof. Suppose that $f$ is continuous on $[a, b]$; it attains its maximum there.",
        "An ideal $I$ of a ring $R$ is prime when $R/I$ is an integral domain.",
    ),
    False: (
        "The committee met in the old town hall to plan the summer fair.",
        "Log in to leave a comment, or follow the thread by mail.",
        "Our shop ships worldwide; returns are free within thirty days.",
        "He was born the third son of a miller and moved to the city at twelve.",
    ),
}


def page(url: str, score: float, kept: bool, text: str) -> dict[str, Any]:
    return {"url": url, "score": score, "kept": kept, "words": len(text.split()), "text": text}


def invented_pages(
    host: str, folders: Mapping[str, tuple[int, float]], rng: random.Random
) -> list[dict[str, Any]]:
    """folders: path -> (number of pages, their mean score); above 0.5 they are mathematics."""
    pages = []
    for folder, (count, mean) in folders.items():
        for i in range(count):
            score = min(1.0, max(0.0, rng.gauss(mean, 0.12)))
            text = " ".join(rng.choices(SENTENCES[mean > 0.5], k=12))
            pages.append(page(f"https://{host}/{folder}{i}.html", round(score, 6), score > 0.6, text))
    return pages


def write_iteration(
    run: Path, number: int, pages: Mapping[str, Sequence[Mapping[str, Any]]], sampled: int = 200
) -> Path:
    """pages: by domain, in the form of page()."""
    folder = run / f"iteration-{number:02d}"
    folder.mkdir(parents=True)
    rows = [
        {
            "domain": domain,
            "pages": len(own),
            "collected": sum(one["kept"] for one in own),
            "words": sum(one["words"] for one in own if one["kept"]),
        }
        for domain, own in pages.items()
    ]
    write_json(
        folder / "domains.json",
        sorted(rows, key=lambda row: (row["collected"] - row["pages"], row["domain"])),
    )
    triples = (
        (domain, one["url"], one["score"], one["kept"]) for domain, own in pages.items() for one in own
    )
    with gzip_lines(folder / "prefixes.jsonl.gz") as file:
        file.writelines(map(json_line, prefix_counts(triples)))
    with gzip_lines(folder / "samples.jsonl.gz") as file:
        for domain, own in pages.items():
            chosen = random.Random(domain).sample(range(len(own)), min(sampled, len(own)))
            file.writelines(json_line({"domain": domain, **own[i]}) for i in chosen)
    return folder
