"""How good mining is: labelled real pages, three kinds of negatives, several seeds; the tables of docs/mining.md.

    DSM_DATA=DATA python experiments/measure_mining.py --json docs/mining.json

DATA/web holds WARC files of pages from mathematical sites and from others, and labels.jsonl {url, label, source}. Held out
are the pages with int(sha256(url), 16) % 10 < 3: scored, in no training set. The seed is 150 random pages of planetmath's
number theory. Negatives: random pages of the crawl (default), a file sampled from the crawl thinned to 5% mathematics
(thinned), a file of other sites (unrelated). The budget is the words of the pages labelled mathematical. After iteration 1
an annotator that reads page texts only judges the URL folders of the domains that were found, after each iteration again.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.report import markdown
from dsm_jax.mine.annotate.annotations import FILE, Decision, append_decision, read_annotations
from dsm_jax.mine.annotate.candidates import SAMPLES
from dsm_jax.mine.annotate.prefixes import folders
from dsm_jax.mine.config import PRESETS as MINE
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.loop.held_out import MATH_WORD, average_precision, math_marks
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.pages import make_shards
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.run import require_writable, write_json

SEED_SOURCE, SEED_PAGES = "html_math_planetmath_number", 150
UNSEEN = "html_math_bookofproofs"  # the site that no seed page is of
UNSEEN_DOMAIN = "bookofproofs.github.io"
KINDS = ("default", "thinned", "unrelated")
THINNED = 0.05  # mathematics in the crawl that negatives are sampled from
ACCEPT, REJECT = 0.6, 0.4  # shares of a folder's sampled pages that look mathematical
FORMULAS, WORDS = 2, 4  # different ones, either of which makes a page look mathematical


@dataclass(frozen=True)
class Measure:
    """Options."""

    preset: str
    mine: MineConfig = MINE["default"]
    seeds: int = 3
    kinds: tuple[str, ...] = KINDS
    out: Path | None = None
    """Folder for the runs; none: a temporary one."""
    json: Path | None = None
    """File for the numbers."""


@dataclass(frozen=True)
class Labelled:
    """The crawl: its WARC files, and of each URL its label, source, text and words."""

    warcs: tuple[str, ...]
    label: Mapping[str, str]
    source: Mapping[str, str]
    text: Mapping[str, str]
    words: Mapping[str, int]

    def budget(self) -> int:
        return sum(self.words[url] for url, label in self.label.items() if label == "math")


def main(config: Measure) -> None:
    if "DSM_DATA" not in os.environ:
        raise UserError("DSM_DATA is not set: it must name the folder with web/ and its labels")
    if config.json:
        require_writable(config.json, "--json")
    with tempfile.TemporaryDirectory() as name:
        folder = config.out or Path(name)
        web = prepare(Path(os.environ["DSM_DATA"]) / "web", folder)
        runs = [
            one_run(config.mine, web, folder, kind, seed) | {"kind": kind, "seed": seed}
            for kind in config.kinds
            for seed in range(config.seeds)
        ]
    results = {
        "runs": runs,
        "count_of_marks": precisions(web, {url: math_marks(t) for url, t in web.text.items()}),
    }
    show(results)
    if config.json:
        write_json(config.json, results)


def is_held_out(url: str) -> bool:
    return int(sha256(url.encode()).hexdigest(), 16) % 10 < 3


def prepare(web: Path, folder: Path) -> Labelled:
    """Reads the pages once for all runs."""
    warcs = tuple(map(str, sorted(web.glob("*.warc.gz"))))
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    make_shards(warcs, base / "pages")
    find_duplicates(base / "pages", base / "duplicates.npy")
    rows = [json.loads(line) for line in (web / "labels.jsonl").read_text().splitlines()]
    crawl = Crawl(base / "pages")
    read = [row for _, row in crawl.rows(np.arange(crawl.count), "url", "text", "words")]
    return Labelled(
        warcs,
        {row["url"]: row["label"] for row in rows},
        {row["url"]: row["source"] for row in rows},
        {row["url"]: row["text"] for row in read},
        {row["url"]: row["words"] for row in read},
    )


def one_run(options: MineConfig, web: Labelled, folder: Path, kind: str, seed: int) -> dict[str, Any]:
    """The loop with one seed and kind of negatives: what every iteration is worth, and what was kept in the end."""
    out = folder / f"{kind}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "base", out)
    examples = write_examples(web, out, kind, seed)
    config = replace(options, keep_tokens=(web.budget(),), keep_share=1.0, rng_seed=seed)
    rounds = []
    for number in range(1, config.iterations + 1):
        result = mine(replace(config, iterations=number), out, Sources(web.warcs), examples)
        if len(result.funnel["iterations"]) < number:
            break
        rounds.append(measured(web, out, number))
        annotate(out, number)
    return {"iterations": rounds}


def write_examples(web: Labelled, out: Path, kind: str, seed: int) -> Examples:
    """The seed's, the negatives' and the held-out file of a run."""
    rng = random.Random(seed)
    may = sorted(url for url, source in web.source.items() if source == SEED_SOURCE and not is_held_out(url))
    chosen = set(rng.sample(may, SEED_PAGES))
    held_out = [{"url": url, "label": label} for url, label in web.label.items() if is_held_out(url)]
    free = sorted(url for url in web.label if not is_held_out(url) and url not in chosen)
    others = [url for url in free if web.label[url] == "other"]
    maths = [url for url in free if web.label[url] != "other"]
    thinned = rng.sample(maths, round(len(others) * THINNED / (1 - THINNED)))
    negatives = {"default": [], "thinned": others + thinned, "unrelated": others}[kind]
    write_rows(out / "seed.jsonl", [{"url": url} for url in sorted(chosen)])
    write_rows(out / "held_out.jsonl", held_out)
    write_rows(out / "negatives.jsonl", [{"url": url} for url in negatives])
    files = (out / "negatives.jsonl",) if negatives else ()
    return Examples((out / "seed.jsonl",), files, out / "held_out.jsonl")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def annotate(out: Path, number: int) -> None:
    """Judges the folders of the domains that iteration `number` found, by the texts of their sampled pages."""
    decided = read_annotations([out / FILE] if (out / FILE).exists() else []).prefixes
    looks = defaultdict(list)
    for row in rows_of(iteration_folder(out, number) / SAMPLES):
        prefix = folders(row["url"])[:2][-1]  # the site, or its first folder
        looks[prefix].append(looks_mathematical(row["text"]))
    for prefix in sorted(looks.keys() - decided.keys()):
        share = mean(looks[prefix])
        if share > ACCEPT or share < REJECT:
            append_decision(out / FILE, Decision(prefix, share > ACCEPT, "script"))


def looks_mathematical(text: str) -> bool:
    """By the text alone, and not by what the classifier sees of it."""
    words = {word.lower() for word in MATH_WORD.findall(text)}
    return text.count("$") >= 2 * FORMULAS or len(words) >= WORDS


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def measured(web: Labelled, out: Path, number: int) -> dict[str, Any]:
    """An iteration by the labels: average precision on held-out pages, and what was kept of all."""
    rows = list(rows_of(iteration_folder(out, number) / "scores.jsonl.gz"))
    kept = [row["url"] for row in rows if row["kept"]]
    counts = {
        label: sum(web.label[url] == label for url in kept) for label in ("math", "other", "borderline")
    }
    totals = {label: sum(one == label for one in web.label.values()) for label in counts}
    domains = {
        row["domain"] for row in json.loads((iteration_folder(out, number) / "domains.json").read_text())
    }
    return {
        **precisions(web, {row["url"]: row["score"] for row in rows}),
        "recall": counts["math"] / totals["math"],
        "other_share": counts["other"] / len(kept),
        "borderline_outside": 1 - counts["borderline"] / totals["borderline"],
        "unseen_found": UNSEEN_DOMAIN in domains,
    }


def precisions(web: Labelled, scores: Mapping[str, float]) -> dict[str, Any]:
    """Average precision on held-out pages: over all, and of each mathematical source against the other pages."""
    held_out = [url for url in scores if is_held_out(url) and web.label[url] != "borderline"]
    others = [url for url in held_out if web.label[url] == "other"]
    sources = sorted({web.source[url] for url in held_out if web.label[url] == "math"})
    groups = {source: others + [url for url in held_out if web.source[url] == source] for source in sources}

    def precision(urls: Sequence[str]) -> float:
        return average_precision([web.label[url] == "math" for url in urls], [scores[url] for url in urls])

    return {"ap": precision(held_out), "by_source": {name: precision(urls) for name, urls in groups.items()}}


def show(results: Mapping[str, Any]) -> None:
    """The tables of docs/mining.md: the worst of the seeds."""
    runs = results["runs"]
    kinds = list(dict.fromkeys(run["kind"] for run in runs))
    sources = list(results["count_of_marks"]["by_source"])
    lines = [["scores of", "all sites", *(source.removeprefix("html_math_") for source in sources)]]
    lines.append(["a count of words and TeX", *_precisions(sources, [results["count_of_marks"]])])
    for kind in kinds:
        for name, place in (("iteration 1", 0), ("last iteration", -1)):
            rounds = [run["iterations"][place] for run in runs if run["kind"] == kind]
            lines.append([f"{name}, {kind} negatives", *_precisions(sources, rounds)])
    print(markdown(lines))
    lines = [["negatives", "iterations", "recall", "other pages", "borderline outside", "unseen site found"]]
    for kind in kinds:
        of_kind = [run["iterations"] for run in runs if run["kind"] == kind]
        last = [rounds[-1] for rounds in of_kind]
        lines.append(
            [
                kind,
                " ".join(str(len(rounds)) for rounds in of_kind),
                f"{min(one['recall'] for one in last):.3f}",
                f"{max(one['other_share'] for one in last):.2%}",
                f"{min(one['borderline_outside'] for one in last):.1%}",
                "yes" if all(one["unseen_found"] for one in last) else "no",
            ]
        )
    print("\n" + markdown(lines))


def _precisions(sources: Sequence[str], rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """The worst average precision over all sites, then by source."""
    worst = [min(one["ap"] for one in rounds)]
    worst += [min(one["by_source"][source] for one in rounds) for source in sources]
    return [f"{value:.4f}" for value in worst]


PRESETS = {"default": Measure("default"), "quick": Measure("quick", seeds=1, kinds=("default",))}

if __name__ == "__main__":
    run_script(main, PRESETS)
