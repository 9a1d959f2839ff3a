"""What an iteration's classifier is trained on: pages drawn from the crawl and texts that the user gave.

Positives: the seed's pages and texts, and pages that joined the seed. Negatives: random pages of the crawl outside the
seed, or the user's own, to which random ones are added where the seed outgrows them; from iteration 2 none that was
collected, or the loop with a fixed budget loses mathematics round by round, and pages under rejected prefixes join them.
Held-out pages are in neither. The file is written in random order without holding its texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.crawl import Crawl, Shard
from dsm_jax.mine.loop.classify import MATH, OTHER
from dsm_jax.mine.loop.draw import Draw, DrawByDomain, random_keys
from dsm_jax.mine.loop.marks import Marks, Which
from dsm_jax.mine.loop.seed import Examples
from dsm_jax.mine.web.urls import key_of
from dsm_jax.run import atomic

BUCKETS = 64  # files that the training lines are spread over to be shuffled


@dataclass(frozen=True)
class TrainingSet:
    """Pages (numbers of the crawl) and texts of each class; `rejected` of the negative pages are an annotator's."""

    positives: np.ndarray
    positive_texts: tuple[str, ...]
    negatives: np.ndarray
    negative_texts: tuple[str, ...]
    rejected: int

    def counts(self) -> dict[str, int]:
        """How many there are, for the iteration's table."""
        return {
            "positives": len(self.positives) + len(self.positive_texts),
            "negatives": len(self.negatives) + len(self.negative_texts),
            "rejected_negatives": self.rejected,
        }


def choose(
    crawl: Crawl, marks: Marks, seed: Examples, negatives: Examples | None, config: MineConfig, number: int
) -> TrainingSet:
    """Draws iteration `number`'s training set. Raises UserError where a class is empty."""
    salt = f"{config.rng_seed} {number}"
    positives, positive_texts = _draw(
        crawl, marks.positives, seed.texts, config.max_seed_pages, f"{salt} positive"
    )
    count = len(positives) + len(positive_texts)
    rejected, _ = _draw(
        crawl, marks.rejected, (), math.ceil(count * config.most_rejected), f"{salt} rejected"
    )
    rest = count - len(rejected)
    if negatives is not None:
        others, other_texts = _draw(crawl, marks.own_negatives, negatives.texts, rest, f"{salt} negative")
    elif config.negatives_by == "domain":
        others, other_texts = _draw_by_domain(crawl, marks.negatives, rest, f"{salt} negative"), ()
    else:
        others, other_texts = _draw(crawl, marks.negatives, (), rest, f"{salt} negative")
    if negatives is not None and number > 1:  # a short file would leave the classes unequal as the seed grows
        more = _draw_by_domain(
            crawl, marks.other_negatives, rest - len(others) - len(other_texts), f"{salt} more"
        )
        others = np.concatenate([others, more])
    _require("seed", positives, positive_texts)
    _require("negative", rejected, others, other_texts)
    return TrainingSet(
        positives, positive_texts, np.concatenate([rejected, others]), other_texts, len(rejected)
    )


def _require(kind: str, *examples: object) -> None:
    if not any(len(some) for some in examples):  # type: ignore[arg-type]
        raise UserError(
            f"classifier: no {kind} page with text to train on: give a larger seed or crawl, hold out or keep less, or give "
            "--negatives"
        )


def _draw(
    crawl: Crawl, may: Which, texts: tuple[str, ...], count: int, salt: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Up to `count` pages and texts, drawn together."""
    draw, salted = Draw(count), key_of(salt)
    text_keys = np.array([key_of(text) for text in texts], np.uint64)
    draw.add(random_keys(text_keys, salted), -1 - np.arange(len(texts)))
    for shard in crawl.shards:
        inside = np.flatnonzero(may(shard))
        draw.add(random_keys(shard.numbers("url_key")[inside], salted), inside + shard.start)
    drawn = draw.pages()
    return drawn[drawn >= 0], tuple(texts[-1 - i] for i in drawn[drawn < 0])


def _draw_by_domain(crawl: Crawl, may: Which, count: int, salt: str) -> np.ndarray:
    draw, salted = DrawByDomain(count), key_of(salt)
    for shard in crawl.shards:
        inside = np.flatnonzero(may(shard))
        draw.add(
            random_keys(shard.numbers("url_key")[inside], salted),
            inside + shard.start,
            _domain_keys(shard, salt)[inside],
        )
    return draw.pages()


def _domain_keys(shard: Shard, salt: str) -> np.ndarray:
    domains = shard.columns("domain")["domain"].combine_chunks().dictionary_encode()
    keys = np.array([key_of(f"{salt} {name}") for name in domains.dictionary.to_pylist()], np.uint64)
    return keys[domains.indices.to_numpy()] if len(keys) else keys


def write_training_file(crawl: Crawl, chosen: TrainingSet, file: Path, salt: str) -> None:
    """fastText's format, a line a text, in a random order that the texts decide."""
    with atomic(file) as tmp, open(tmp, "w", encoding="utf-8", errors="replace", newline="\n") as out:
        out.writelines(_shuffled(_lines(crawl, chosen), file.with_suffix(".buckets"), salt))


def _lines(crawl: Crawl, chosen: TrainingSet) -> Iterator[str]:
    for label, pages, texts in (
        (MATH, chosen.positives, chosen.positive_texts),
        (OTHER, chosen.negatives, chosen.negative_texts),
    ):
        yield from (f"{label} {text}\n" for text in texts)
        yield from (f"{label} {row['tokens']}\n" for _, row in crawl.rows(pages, "tokens"))


def _shuffled(lines: Iterable[str], folder: Path, salt: str) -> Iterator[str]:
    """The lines ordered by a hash, a bucket of them in memory at a time."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02d}" for i in range(BUCKETS)]
    buckets = [open(path, "w", encoding="utf-8", errors="replace", newline="\n") for path in paths]  # noqa: SIM115
    for line in lines:
        key = key_of(salt + line)
        buckets[key * BUCKETS >> 64].write(f"{key:016x} {line}")
    for path, bucket in zip(paths, buckets, strict=True):
        bucket.close()
        for line in sorted(path.read_text(encoding="utf-8").split("\n")[:-1]):
            yield line[17:] + "\n"
        path.unlink()
    folder.rmdir()
