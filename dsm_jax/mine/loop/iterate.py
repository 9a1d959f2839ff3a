"""The loop: train on the seed, score the crawl, keep the top, find mathematical domains, grow the seed, again.

An iteration's folder holds all that it made, each file by rename; a finished one is not run again. Annotations count from
iteration 2, as they stand when it begins: pages under accepted prefixes that were not collected join the seed, pages under
rejected ones join the negatives. What joined so leaves once its acceptance no longer stands. Without any decision a URL
folder of a discovered domain joins when most of it was collected, and stays unless it is rejected: whole domains would bring
in everything else that a large mixed site has.
The loop stops when nearly all that an iteration kept was kept by the one before, and no annotation has changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import Annotations, read_standing, write_standing
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.crawl import Crawl, Shard, mapped_array, page_array
from dsm_jax.mine.loop import classify
from dsm_jax.mine.loop.domains import discover, mostly_collected
from dsm_jax.mine.loop.marks import REJECTED, Marks, Which, mark_inputs
from dsm_jax.mine.loop.measure import measure
from dsm_jax.mine.loop.rank import Cut, Ranked, find_cut
from dsm_jax.mine.loop.samples import write_candidates
from dsm_jax.mine.loop.score import score_pages
from dsm_jax.mine.loop.scores_file import ScoreRows
from dsm_jax.mine.loop.seed import Inputs
from dsm_jax.mine.loop.training_set import choose, write_training_file
from dsm_jax.mine.loop.verdicts import mark_verdicts
from dsm_jax.mine.tasks import HERE, Spread
from dsm_jax.run import DONE, is_done, mark_done, progress, read_json

STANDING = "annotations.json"  # of an iteration: the decisions that stood when it began
SCORE_BINS = 40  # of the report's histogram


def iteration_folder(out: Path, number: int) -> Path:
    return out / f"iteration-{number:02d}"


def finished_iterations(out: Path) -> int:
    """How many are done, one after the other."""
    number = 0
    while is_done(iteration_folder(out, number + 1)):
        number += 1
    return number


def is_finished(out: Path, annotations: Annotations, config: MineConfig) -> bool:
    """Whether run_loop would run no iteration: all are done, or nothing changes any more."""
    number = finished_iterations(out)
    return number >= config.iterations or _has_converged(out, number, annotations, config)


def run_loop(
    out: Path,
    inputs: Inputs,
    read_annotations: Callable[[], Annotations],
    config: MineConfig,
    spread: Spread = HERE,
) -> int:
    """Runs iterations in out/iteration-NN, up to config.iterations; returns the last one's number.

    out: holds pages/ and duplicates.npy. read_annotations: called before each iteration from the second one on. Raises
    UserError where the seed has no usable text, or a class is empty; the iterations that are done stay.
    """
    loop = Loop(out, inputs, config, spread)
    while (done := finished_iterations(out)) < config.iterations:
        annotations = read_annotations() if done else Annotations({})
        if _has_converged(out, done, annotations, config):
            break
        loop.iterate(done + 1, annotations)
    return finished_iterations(out)


def _has_converged(out: Path, number: int, annotations: Annotations, config: MineConfig) -> bool:
    if number < 2:
        return False
    folder = iteration_folder(out, number)
    return (
        read_standing(folder / STANDING).prefixes
        == annotations.prefixes  # not who: a vote more may change none
        and read_json(folder / DONE)["share_already_there"] >= config.stop_share
    )


class Loop:
    """The iterations of one run over its crawl."""

    def __init__(self, out: Path, inputs: Inputs, config: MineConfig, spread: Spread = HERE):
        self.out, self.config, self.spread = out, config, spread
        self.crawl = Crawl(out / "pages")
        self.first = mapped_array(out / "duplicates.npy")
        self.inputs = mark_inputs(self.crawl, self.first, inputs, out / "marks")

    def iterate(self, number: int, annotations: Annotations) -> None:
        """One iteration, in its folder."""
        folder = iteration_folder(self.out, number)
        folder.mkdir(exist_ok=True)
        marks = self._begin(folder, number, annotations)
        model = folder / "classifier.bin"
        counts = self._train(folder, number, marks, model)
        scores_path = folder / "scores.npy"
        score_pages(self.out / "pages", self.first, model, scores_path, self.spread.beam)
        scores = mapped_array(scores_path)
        cut = self._cut(marks, scores, number)
        kept = self._keep(folder, marks, scores, cut)
        statistics = self._statistics(marks, scores, kept)
        write_candidates(self.crawl, marks, statistics["domains"], scores, kept, folder)
        ScoreRows(self.out / "pages", self.out / "duplicates.npy", folder, number).write(self.spread)
        measured = measure(self.crawl, self.inputs.held_out, scores)
        mark_done(folder, {"iteration": number, **counts, "cut": asdict(cut), **statistics, **measured})

    def _begin(self, folder: Path, number: int, annotations: Annotations) -> Marks:
        """The iteration's marks. What annotations say is written down first: they may change while it runs."""
        if not (folder / STANDING).exists():
            write_standing(folder / STANDING, annotations)
        annotations = read_standing(folder / STANDING)
        mark_verdicts(self.crawl, self.first, annotations, folder / "verdicts.npy")
        marks_folder = self.out / "marks"
        before = iteration_folder(self.out, number - 1)
        nothing, own_seed = (mapped_array(marks_folder / name) for name in ("nothing.npy", "seed.npy"))
        marks = Marks(
            has_own_text=mapped_array(marks_folder / "own_text.npy"),
            held_out=mapped_array(marks_folder / "held_out.npy"),
            of_negatives=mapped_array(marks_folder / "negatives.npy"),
            seed=mapped_array(before / "seed.npy") if number > 1 else own_seed,
            collected=mapped_array(before / "kept.npy") if number > 1 else nothing,
            verdicts=mapped_array(folder / "verdicts.npy"),
        )
        joins: Which = marks.accepted
        if number > 1 and not annotations.prefixes:
            discovered = {row["domain"] for row in read_json(before / DONE)["domains"]}
            joins = mostly_collected(self.crawl, marks, discovered, self.config.accept_share)
        self._write_seed(folder / "seed.npy", number, marks, joins)
        return replace(marks, seed=mapped_array(folder / "seed.npy"))

    def _write_seed(self, out: Path, number: int, marks: Marks, joins: Which) -> None:
        """Writes bool [pages]: the user's seed, what joined before anybody annotated, and what `joins` now, or stays by an
        acceptance; of the last two without rejected pages."""
        own = mapped_array(self.out / "marks" / "seed.npy")
        stays = self._unannotated_seed(number)
        with page_array(out, self.crawl.count, "bool") as seed:
            for shard in self.crawl.shards:
                joined = stays[shard.pages] | joins(shard)
                seed[shard.pages] = own[shard.pages] | joined & (marks.verdicts[shard.pages] != REJECTED)

    def _unannotated_seed(self, number: int) -> np.ndarray:
        """bool [pages]: the seed of the last iteration before `number` that had no annotation; the user's where none was."""
        for earlier in range(number - 1, 0, -1):
            folder = iteration_folder(self.out, earlier)
            if not read_standing(folder / STANDING).prefixes:
                return mapped_array(folder / "seed.npy")
        return mapped_array(self.out / "marks" / "seed.npy")

    def _train(self, folder: Path, number: int, marks: Marks, model: Path) -> dict[str, Any]:
        """The classifier, and what it was trained on."""
        chosen = choose(self.crawl, marks, self.inputs.seed, self.inputs.negatives, self.config, number)
        training_file = folder / "train.txt"
        if not model.exists():
            write_training_file(self.crawl, chosen, training_file, f"{self.config.rng_seed} {number}")
            with progress(1, f"train classifier {number}") as bar:
                classify.train(training_file, model, self.config.classifier)
                bar.advance()
        return chosen.counts() | {
            "training_accuracy": round(classify.accuracy(classify.load(model), training_file), 6)
        }

    def _cut(self, marks: Marks, scores: np.ndarray, number: int) -> Cut:
        """Where the ranking ends: at the budget's end, or without a budget at the least score."""

        def ranked() -> Iterator[Ranked]:
            for shard in self.crawl.shards:
                inside = self._collectable(marks, shard)
                yield (
                    scores[shard.pages][inside],
                    shard.numbers("words")[inside],
                    shard.numbers("url_key")[inside],
                )

        budget = self.config.budget(number, lambda: sum(int(words.sum()) for _, words, _ in ranked()))
        return Cut(self.config.min_score) if budget is None else find_cut(ranked, budget)

    def _collectable(self, marks: Marks, shard: Shard) -> np.ndarray:
        return marks.collectable(shard, rejected_too=self.config.collect_rejected)

    def _keep(self, folder: Path, marks: Marks, scores: np.ndarray, cut: Cut) -> np.ndarray:
        """bool [pages]: what this iteration collects."""
        with page_array(folder / "kept.npy", self.crawl.count, "bool") as kept:
            for shard in self.crawl.shards:
                pages = (scores[shard.pages], shard.numbers("words"), shard.numbers("url_key"))
                kept[shard.pages] = self._collectable(marks, shard) & cut.keeps(*pages)
        return mapped_array(folder / "kept.npy")

    def _statistics(self, marks: Marks, scores: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
        pages = tokens = already = 0
        histogram = {"all": np.zeros(SCORE_BINS, np.int64), "kept": np.zeros(SCORE_BINS, np.int64)}
        for shard in self.crawl.shards:
            inside = kept[shard.pages]
            pages += int(inside.sum())
            tokens += int(shard.numbers("words")[inside].sum())
            already += int((inside & marks.collected[shard.pages]).sum())
            for name, some in (("all", marks.has_own_text[shard.pages]), ("kept", inside)):
                histogram[name] += np.histogram(scores[shard.pages][some], SCORE_BINS, (0, 1))[0]
        if not pages:
            raise UserError(
                "the corpus is empty: no page fits into the budget of --keep-tokens and --keep-share, or where neither is "
                "set, has the score of --min-score: raise the former, lower the latter"
            )
        domains = discover(
            self.crawl,
            lambda shard: marks.has_own_text[shard.pages],
            lambda shard: kept[shard.pages],
            self.config.domain_share,
            self.config.domain_min_pages,
        )
        return {
            "pages_kept": pages,
            "tokens_kept": tokens,
            "share_already_there": round(already / pages, 6),
            "domains": [asdict(count) for count in domains],
            "score_histogram": {name: counts.tolist() for name, counts in histogram.items()},
        }
