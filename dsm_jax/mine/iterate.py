"""The loop: train on the seed, rank the crawl, keep the top, find mathematical domains, grow the seed, again.

From iteration 2 negatives exclude what was collected, or a fixed budget loses mathematics round by round;
pages under rejected prefixes join them. Pages under accepted prefixes that were not collected join the seed.
The loop stops when nearly all that an iteration kept was kept by the one before. A finished iteration is read
back, not run again.

Left out on purpose: held-out scores and calibration, bounded memory (one PageInfo a page and the training
texts are held).
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import grain

from dsm_jax.errors import UserError
from dsm_jax.mine import classify
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.domains import Annotations, discover, url_folder
from dsm_jax.mine.pages import (
    PageInfo,
    canonical_url,
    gzip_lines,
    json_line,
    read_shard,
    read_shards,
    shard_files,
    text_key,
)
from dsm_jax.mine.rank import keep_top
from dsm_jax.mine.seed import Seed
from dsm_jax.run import DONE, is_done, mark_done, progress, read_json


@dataclass(frozen=True)
class Crawl:
    """The readable pages: their shards' folder and what is held of them in memory, in the same order."""

    folder: Path
    infos: Sequence[PageInfo]


@dataclass(frozen=True)
class Collected:
    """An iteration's outcome: its counts, every page's score, and whether it was kept."""

    stats: dict[str, Any]
    scores: list[float]
    kept: list[bool]


def run_loop(
    crawl: Crawl, seed: Seed, annotations: Annotations | None, config: MineConfig, out: Path
) -> list[Collected]:
    """Runs up to config.iterations rounds in out/iteration-NN; returns each one's outcome.

    Raises UserError when the seed has no usable text, or training has one class only.
    """
    seed_pages = find_seed_pages(crawl.infos, seed)
    if not seed_pages and not seed.texts:
        raise UserError(
            f"--seed: none of its {len(seed.urls)} urls is a page of the crawl: give others, or "
            "texts, and another --out"
        )
    seed = _without_texts_of(crawl.infos, seed_pages, seed)  # those pages stand for their texts
    grown: set[int] = set()
    rounds: list[Collected] = []
    for number in range(1, config.iterations + 1):
        folder = scores_file(out, number).parent
        before = rounds[-1].kept if rounds else [False] * len(crawl.infos)
        if rounds:
            grown |= _accepted_pages(crawl.infos, rounds[-1], annotations, config.accept_share)
        if not is_done(folder):
            folder.mkdir(parents=True, exist_ok=True)
            counts = _train(crawl, seed, seed_pages | grown, before, annotations, config, folder, number)
            scores = _score(crawl, folder)
            kept = _keep(crawl.infos, scores, config, number)
            _write_scores(folder, crawl.infos, scores, kept, number)
            mark_done(
                folder, {"iteration": number, **counts, **_statistics(crawl.infos, kept, before, config)}
            )
        rounds.append(_read_back(folder))
        if not any(rounds[-1].kept):
            raise UserError(
                "the corpus is empty: the best page is over the budget; raise keep_tokens or keep_share and "
                "give another --out"
            )
        if number > 1 and rounds[-1].stats["share_already_there"] >= config.stop_share:
            break
    return rounds


def scores_file(out: Path, number: int) -> Path:
    """Where iteration `number` of the run in `out` has its scores."""
    return out / f"iteration-{number:02d}" / "scores.jsonl.gz"


def find_seed_pages(infos: Sequence[PageInfo], seed: Seed) -> set[int]:
    """Indices of the seed's pages that have text, by URL or text, a duplicate standing for its first page."""
    texts = set(map(text_key, seed.texts))
    found = {
        i if info.duplicate_of is None else info.duplicate_of
        for i, info in enumerate(infos)
        if canonical_url(info.url) in seed.urls or info.tokens in texts
    }
    return {i for i in found if infos[i].words}


def _without_texts_of(infos: Sequence[PageInfo], pages: Iterable[int], seed: Seed) -> Seed:
    there = {infos[i].tokens for i in pages}
    return replace(seed, texts=tuple(text for text in seed.texts if text_key(text) not in there))


def draw_by_domain(candidates: Iterable[tuple[str, int]], count: int, rng: Random) -> list[int]:
    """Draws up to `count` (domain, page) candidates: a page of every domain, then a second one, and so on."""
    pages_of: defaultdict[str, list[int]] = defaultdict(list)
    for domain, page in candidates:
        pages_of[domain].append(page)
    for domain in sorted(pages_of):
        rng.shuffle(pages_of[domain])
    drawn: list[int] = []
    while len(drawn) < count and pages_of:
        domains = sorted(pages_of)
        rng.shuffle(domains)
        drawn += [pages_of[domain].pop() for domain in domains][: count - len(drawn)]
        pages_of = defaultdict(list, {domain: rest for domain, rest in pages_of.items() if rest})
    return drawn


def _accepted_pages(
    infos: Sequence[PageInfo], collected: Collected, annotations: Annotations | None, accept_share: float
) -> set[int]:
    """Pages not collected that join the seed: in a discovered domain, under an accepted prefix."""
    discovered = {row["domain"] for row in collected.stats["domains"]}
    folders = [url_folder(info.url) for info in infos]
    mostly = {count.domain for count in discover(folders, collected.kept, accept_share, min_pages=1)}

    def accepted(i: int) -> bool:
        return folders[i] in mostly if annotations is None else annotations.verdict(infos[i].url) is True

    return {
        i
        for i, info in enumerate(infos)
        if info.domain in discovered and not collected.kept[i] and _has_own_text(info) and accepted(i)
    }


def _has_own_text(info: PageInfo) -> bool:
    return info.words > 0 and info.duplicate_of is None


def _train(
    crawl: Crawl,
    seed: Seed,
    positives: set[int],
    collected: Sequence[bool],
    annotations: Annotations | None,
    config: MineConfig,
    folder: Path,
    number: int,
) -> dict[str, Any]:
    """Draws the training set and trains; returns its counts and the training accuracy."""
    rng = Random(f"{config.rng_seed} {number}")
    drawn = rng.sample(
        [*range(-len(seed.texts), 0), *sorted(positives)],
        min(config.max_seed_pages, len(seed.texts) + len(positives)),
    )
    negatives = _draw_negatives(crawl.infos, positives, collected, annotations, len(drawn), config, rng)
    tokens = _tokens_of(crawl, {*drawn, *negatives})
    texts = [seed.texts[i] if i < 0 else tokens[i] for i in drawn]
    with progress(1, f"train classifier {number}") as bar:
        accuracy = classify.train(texts, [tokens[i] for i in negatives], folder, config.classifier, rng)
        bar.advance(note=f"training accuracy {accuracy:.3f}")
    return {"positives": len(drawn), "negatives": len(negatives), "training_accuracy": round(accuracy, 6)}


def _draw_negatives(
    infos: Sequence[PageInfo],
    positives: set[int],
    collected: Sequence[bool],
    annotations: Annotations | None,
    count: int,
    config: MineConfig,
    rng: Random,
) -> list[int]:
    free = [i for i, info in enumerate(infos) if _has_own_text(info) and i not in positives]
    rejected = [i for i in free if annotations and annotations.verdict(infos[i].url) is False]
    drawn = rng.sample(rejected, min(count, len(rejected)))
    taken = set(rejected)
    others = [i for i in free if not collected[i] and i not in taken]
    if config.negatives_by == "domain":
        return drawn + draw_by_domain(((infos[i].domain, i) for i in others), count - len(drawn), rng)
    return drawn + rng.sample(others, min(count - len(drawn), len(others)))


def _tokens_of(crawl: Crawl, wanted: set[int]) -> dict[int, str]:
    return {i: row["tokens"] for i, row in enumerate(read_shards(crawl.folder)) if i in wanted}


def _score(crawl: Crawl, folder: Path) -> list[float]:
    """A score for every page; a duplicate has its first page's."""
    model = classify.load(folder)

    def score_shard(path: Path) -> list[float]:
        return list(classify.score(model, (row["tokens"] for row in read_shard(path))))

    # One thread and no worker process: fastText holds the GIL, and every worker would load the model.
    dataset = grain.MapDataset.source(shard_files(crawl.folder)).map(score_shard)
    scores: list[float] = []
    with progress(len(crawl.infos), "score (pages)") as bar:
        for block in dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)):
            scores += block
            bar.advance(len(block))
    firsts = (i if info.duplicate_of is None else info.duplicate_of for i, info in enumerate(crawl.infos))
    return [scores[i] for i in firsts]


def _keep(infos: Sequence[PageInfo], scores: Sequence[float], config: MineConfig, number: int) -> list[bool]:
    words = [info.words if info.duplicate_of is None else 0 for info in infos]
    budget = min(
        config.keep_tokens[min(number, len(config.keep_tokens)) - 1], int(config.keep_share * sum(words))
    )
    return keep_top(scores, words, [info.url for info in infos], budget)


def _statistics(
    infos: Sequence[PageInfo], kept: Sequence[bool], before: Sequence[bool], config: MineConfig
) -> dict[str, Any]:
    found = discover([info.domain for info in infos], kept, config.domain_share, config.domain_min_pages)
    pages = sum(kept)
    already = sum(now and then for now, then in zip(kept, before, strict=True))
    return {
        "pages_kept": pages,
        "tokens_kept": sum(info.words for info, is_kept in zip(infos, kept, strict=True) if is_kept),
        "share_already_there": round(already / pages, 6) if pages else 0.0,
        "domains": [asdict(count) for count in found],
    }


def _write_scores(
    folder: Path, infos: Sequence[PageInfo], scores: Sequence[float], kept: Sequence[bool], number: int
) -> None:
    with gzip_lines(folder / "scores.jsonl.gz") as file:
        for info, score, is_kept in zip(infos, scores, kept, strict=True):
            row = {
                "url": info.url,
                "score": score,
                "iteration": number,
                "domain": info.domain,
                "kept": is_kept,
            }
            if info.duplicate_of is not None:
                row["duplicate_of"] = infos[info.duplicate_of].url
            file.write(json_line(row))


def _read_back(folder: Path) -> Collected:
    with gzip.open(folder / "scores.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Collected(read_json(folder / DONE), [row["score"] for row in rows], [row["kept"] for row in rows])
