"""What the loop knows of every page in an iteration: seed, held out, judged, collected; arrays on disk, a value a page.

A duplicate's mark stands at its first page, which is trained on and collected in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.mine.crawl import Crawl, Shard, mapped_array, page_array
from dsm_jax.mine.loop.seed import NO_EXAMPLES, Examples, HeldOut, Inputs
from dsm_jax.run import DONE, atomic, is_done, mark_done, read_json

Which = Callable[[Shard], np.ndarray]
"""bool, one for each page of a shard."""
ACCEPTED, REJECTED = 1, -1


@dataclass(frozen=True)
class Marks:
    """The marks of one iteration, each an array of all pages, memory-mapped."""

    has_own_text: np.ndarray
    """bool: it has words, and is no duplicate."""
    held_out: np.ndarray
    seed: np.ndarray
    """bool: the user's seed, and what joined it up to this iteration."""
    of_negatives: np.ndarray
    """bool: among the user's negatives."""
    verdicts: np.ndarray
    """int8: ACCEPTED, REJECTED or 0, as the annotations stood when the iteration began."""
    collected: np.ndarray
    """bool: kept by the iteration before."""

    def positives(self, shard: Shard) -> np.ndarray:
        """Pages that may be positives."""
        return self._free(shard) & self.seed[shard.pages]

    def negatives(self, shard: Shard) -> np.ndarray:
        """Pages that may be negatives, besides rejected ones."""
        outside = self.uncollected(shard) & ~self.seed[shard.pages]
        return outside & (self.verdicts[shard.pages] != REJECTED)

    def own_negatives(self, shard: Shard) -> np.ndarray:
        """The user's negatives that may still be."""
        return self.negatives(shard) & self.of_negatives[shard.pages]

    def other_negatives(self, shard: Shard) -> np.ndarray:
        """Pages that may be negatives and are not the user's."""
        return self.negatives(shard) & ~self.of_negatives[shard.pages]

    def rejected(self, shard: Shard) -> np.ndarray:
        """Pages under rejected prefixes, which are negatives."""
        not_seed = self._free(shard) & ~self.seed[shard.pages]
        return not_seed & (self.verdicts[shard.pages] == REJECTED)

    def accepted(self, shard: Shard) -> np.ndarray:
        """Pages under accepted prefixes that were not collected, which join the seed, or that are in it and stay."""
        may = self._free(shard) & (self.seed[shard.pages] | ~self.collected[shard.pages])
        return may & (self.verdicts[shard.pages] == ACCEPTED)

    def uncollected(self, shard: Shard) -> np.ndarray:
        """Pages that may be trained on and were not collected."""
        return self._free(shard) & ~self.collected[shard.pages]

    def collectable(self, shard: Shard, *, rejected_too: bool) -> np.ndarray:
        """Pages that may be collected; held-out ones may."""
        own = self.has_own_text[shard.pages]
        return own if rejected_too else own & (self.verdicts[shard.pages] != REJECTED)

    def _free(self, shard: Shard) -> np.ndarray:
        return self.has_own_text[shard.pages] & ~self.held_out[shard.pages]


def mark_inputs(crawl: Crawl, first: np.ndarray, inputs: Inputs, folder: Path) -> Inputs:
    """Writes the marks that no iteration changes, unless they are there. Returns the inputs without texts that are pages
    of the crawl, which stand for them. Raises UserError where the seed has no text and no page."""
    if not is_done(folder):
        folder.mkdir(exist_ok=True)
        _mark_own_text(crawl, first, folder / "own_text.npy")
        found_held_out = _mark_held_out(crawl, first, inputs.held_out, folder / "held_out.npy")
        with page_array(folder / "nothing.npy", crawl.count, "bool"):
            pass
        _mark_examples(crawl, first, inputs.seed, folder, "seed")
        _mark_examples(crawl, first, inputs.negatives or NO_EXAMPLES, folder, "negatives")
        mark_done(folder, {"held_out": found_held_out})
    found, found_negatives = (np.load(folder / f"{name}_texts.npy") for name in ("seed", "negatives"))
    if not inputs.seed.texts and not mapped_array(folder / "seed.npy").any():
        raise UserError(
            f"--seed: none of its {len(inputs.seed.url_keys)} urls is a page of the crawl: give others, or texts"
        )
    _say_found("--seed", inputs.seed, folder / "seed.npy")
    if inputs.negatives:
        _say_found("--negatives", inputs.negatives, folder / "negatives.npy")
    if len(inputs.held_out.url_keys):
        _say_held_out(len(inputs.held_out.url_keys), **read_json(folder / DONE)["held_out"])
    negatives = inputs.negatives and inputs.negatives.without(found_negatives)
    return replace(inputs, seed=inputs.seed.without(found), negatives=negatives)


def _say_found(option: str, examples: Examples, marked: Path) -> None:
    """A list of urls of which the crawl has few makes a small training set: that is said."""
    found, urls, texts = np.count_nonzero(mapped_array(marked)), len(examples.url_keys), len(examples.texts)
    print(
        f"{option}: {urls:,} urls and {texts:,} texts; {found:,} pages of the crawl are these",
        file=sys.stderr,
    )


def _say_held_out(given: int, urls: int, labelled: int) -> None:
    print(
        f"--held-out: {given:,} urls; {urls:,} are pages of the crawl, {labelled:,} of these with a label",
        file=sys.stderr,
    )


def _mark_own_text(crawl: Crawl, first: np.ndarray, out: Path) -> None:
    """Writes bool [pages]: has words, and is nobody's duplicate."""
    with page_array(out, crawl.count, "bool") as marks:
        for shard in crawl.shards:
            own = first[shard.pages] == np.arange(shard.start, shard.start + shard.count)
            marks[shard.pages] = own & (shard.numbers("words") > 0)


def _mark_examples(crawl: Crawl, first: np.ndarray, examples: Examples, folder: Path, name: str) -> None:
    """Writes bool [pages]: a first page of which one is among the examples; and the keys of the texts that pages stand for."""
    urls, texts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    with page_array(folder / f"{name}.npy", crawl.count, "bool") as marks:
        for shard in crawl.shards:
            url_keys, tokens_keys = shard.numbers("url_key"), shard.numbers("tokens_key")
            by_url, by_text = examples.match_urls(url_keys), examples.match_texts(tokens_keys)
            marks[first[shard.pages][by_url | by_text]] = True
            urls.append(url_keys[by_url])
            texts.append(tokens_keys[by_text])
    with atomic(folder / f"{name}_texts.npy") as tmp, open(tmp, "wb") as file:
        np.save(file, examples.texts_of(np.concatenate(urls), np.concatenate(texts)))


def _mark_held_out(crawl: Crawl, first: np.ndarray, held_out: HeldOut, out: Path) -> dict[str, int]:
    """Writes bool [pages]: held out itself, or the first page of one. Returns how many of the urls the crawl has."""
    found = np.zeros(len(held_out.url_keys), bool)
    with page_array(out, crawl.count, "bool") as marks:
        for shard in crawl.shards:
            url_keys = shard.numbers("url_key")
            pages = np.flatnonzero(held_out.match(url_keys))
            found[np.searchsorted(held_out.url_keys, url_keys[pages])] = True
            marks[pages + shard.start] = True
            marks[first[shard.pages][pages]] = True
    return {"urls": int(found.sum()), "labelled": int((held_out.labels[found] >= 0).sum())}
