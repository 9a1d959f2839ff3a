"""Mining as one call: WARC or WET files in, a corpus, scores and a funnel out. Every stage resumes.

`out` holds config.json, pages/, duplicates.npy, marks/, iteration-NN/, scores.jsonl.gz, contamination.jsonl.gz, corpus/
and funnel.json; killed anywhere and started again, the same bytes. More iterations, and annotations made after some, go on
from what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.host_limits import free_host_memory
from dsm_jax.mine.annotate import annotations as annotation_files
from dsm_jax.mine.annotate.annotations import Annotations, read_annotations
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus.card import CorpusCounts, card
from dsm_jax.mine.corpus.clean import Cleaner, clean_pages, clean_rows, hit_lines
from dsm_jax.mine.corpus.decontaminate import Benchmarks, BenchmarkText
from dsm_jax.mine.corpus.export import write_corpus
from dsm_jax.mine.corpus.wet import pair
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.extract.language import load_language_model
from dsm_jax.mine.identify import identify_files, identify_source
from dsm_jax.mine.json_lines import gzip_lines, join
from dsm_jax.mine.loop.iterate import finished_iterations, is_finished, iteration_folder, run_loop
from dsm_jax.mine.loop.scores_file import NAME as SCORES
from dsm_jax.mine.loop.seed import NONE_HELD_OUT, Inputs, read_examples, read_held_out
from dsm_jax.mine.pages import make_shards, read_totals
from dsm_jax.mine.tasks import HERE, Spread, forget_attempts
from dsm_jax.mine.web.fetch import is_url
from dsm_jax.mine.web.read import require_a_warc
from dsm_jax.run import CONFIG, DONE, is_done, open_run, read_json, write_json, write_text

FREE = ("--iterations",)  # what a second start may change


@dataclass(frozen=True)
class Sources:
    """What is mined: files, as fetch.expand_inputs gives them. wets: scored in the place of `warcs`, from which the
    collected pages are taken then. language_model: a fastText model's file; none: languages by the script."""

    warcs: tuple[str, ...] = ()
    wets: tuple[str, ...] = ()
    language_model: Path | None = None


@dataclass(frozen=True)
class Examples:
    """Files of rows {text} or {url}. negatives: none = random pages. held_out: {url} or {url, label}."""

    seed: tuple[Path, ...]
    negatives: tuple[Path, ...] = ()
    held_out: Path | None = None


@dataclass(frozen=True)
class MineResult:
    """Where the corpus and the scores lie, and the numbers of funnel.json."""

    corpus: Path
    scores: Path
    funnel: Mapping[str, Any]


def mine(
    config: MineConfig,
    out: Path,
    sources: Sources,
    examples: Examples,
    *,
    benchmarks: Sequence[BenchmarkText] = (),
    annotations: Sequence[Path] = (),
    spread: Spread = HERE,
) -> MineResult:
    """Mines the sources into out/corpus.

    benchmarks: texts that must not be in the corpus. annotations: files of decisions, beside out/annotations.jsonl.
    spread changes no byte. Raises UserError for bad input, an empty corpus, or an `out` of another configuration.
    """
    _require_memory(config)
    out = Path(out).absolute()  # workers on other machines have another working folder
    sources = _absolute(sources)
    names = sources.wets or sources.warcs
    if not names:
        raise UserError(
            "--warc names no file: give WARC files (.warc, .warc.gz), globs, URLs or a .paths list"
        )
    if local := [Path(name) for name in names if not is_url(name)]:
        require_a_warc(local, "--wet" if sources.wets else "--warc")
    warcs = tuple(pair(sources.wets, sources.warcs)) if sources.wets and sources.warcs else ()
    if sources.language_model:
        load_language_model(sources.language_model)  # a mistake is said before anything is written
    decisions = partial(_decisions, out, annotations)
    inputs = None if is_finished(out, decisions(), config) else _read_inputs(examples, config)
    open_run(out, _describe(config, sources, examples, benchmarks), free=FREE)
    with _forgets_config_before_any_iteration(out):
        open_run(out / "pages", _describe_sources(sources))
        pages = _pages(out, names, sources.language_model, spread)
        find_duplicates(out / "pages", out / "duplicates.npy", spread)
        last = run_loop(out, inputs, decisions, config, spread) if inputs else finished_iterations(out)
    if not _is_exported(out, last):
        index = Benchmarks(benchmarks, config.grams_need_words)
        _export(Cleaner(out, last, index, warcs), pages, benchmarks, spread)
    for folder in out.glob("clean-[0-9]*"):  # of this export, or of one that a kill or more iterations left
        shutil.rmtree(folder)
    if spread.beam:
        forget_attempts(out)
    return MineResult(out / "corpus", out / SCORES, read_json(out / "funnel.json"))


def _require_memory(config: MineConfig) -> None:
    """UserError where the classifier's buckets alone, fp32, would not fit. Not counted: a row as long for each word of the
    training texts, which are not drawn yet, and the examples' texts, which are held while it trains."""
    one, free = config.classifier, free_host_memory()
    need = 4 * one.dim * one.bucket
    if need > free:
        raise UserError(
            f"--classifier.bucket {one.bucket:,} x --classifier.dim {one.dim}: the classifier's buckets alone take "
            f"{need / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free: give fewer buckets, or another machine"
        )


def _absolute(sources: Sources) -> Sources:
    """The same files by absolute paths, each once, where globs overlap."""
    model = sources.language_model
    return Sources(_once(sources.warcs), _once(sources.wets), Path(model).absolute() if model else None)


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name if is_url(name) else str(Path(name).absolute()) for name in names))


def _read_inputs(examples: Examples, config: MineConfig) -> Inputs:
    held_out = read_held_out(examples.held_out) if examples.held_out else NONE_HELD_OUT
    read = partial(read_examples, most=config.max_seed_pages, held_out=held_out)
    negatives = read("--negatives", examples.negatives) if examples.negatives else None
    return Inputs(read("--seed", examples.seed), negatives, held_out)


def _decisions(out: Path, files: Sequence[Path]) -> Annotations:
    own = out / annotation_files.FILE
    return read_annotations([*([own] if own.exists() else []), *files])


def _pages(out: Path, names: Sequence[str], language_model: Path | None, spread: Spread) -> dict[str, Any]:
    """The totals of pages/, which is made first where it is not. Later stages count on its pages: from then on a missing
    file stays missing."""
    if not any((out / name).exists() for name in ("duplicates.npy", "duplicates.parts")):
        make_shards(names, out / "pages", language_model, spread)
    return read_totals(out / "pages", len(names))


def _is_exported(out: Path, last: int) -> bool:
    file = out / "funnel.json"
    return file.exists() and len(read_json(file)["iterations"]) == last


@contextmanager
def _forgets_config_before_any_iteration(out: Path) -> Iterator[None]:
    """After a user's mistake, where no iteration is done yet, the corrected command may use the same folder; its pages,
    which took longest, stay where the sources are the same."""
    try:
        yield
    except UserError:
        if not is_done(iteration_folder(out, 1)):
            for folder in (out / "marks", iteration_folder(out, 1)):
                shutil.rmtree(folder, ignore_errors=True)
            (out / CONFIG).unlink()
            if not any((out / "pages").glob("[0-9]*.json")):
                (out / "pages" / CONFIG).unlink(missing_ok=True)
        raise


def _describe(
    config: MineConfig, sources: Sources, examples: Examples, benchmarks: Sequence[BenchmarkText]
) -> dict[str, Any]:
    """All that decides a run's bytes, for its config.json: another one is refused."""
    return {
        **{field.name: getattr(config, field.name) for field in fields(config)},
        **_describe_sources(sources),
        "seed": identify_files("--seed", examples.seed),
        "negatives": identify_files("--negatives", examples.negatives),
        "held_out": identify_files("--held-out", [examples.held_out] if examples.held_out else []),
        "benchmarks": _hash(repr(list(benchmarks)).encode()),
    }


def _describe_sources(sources: Sources) -> dict[str, Any]:
    model = [sources.language_model] if sources.language_model else []
    return {
        "warc": list(map(identify_source, sources.warcs)),
        "wet": list(map(identify_source, sources.wets)),
        "language_model": identify_files("--language-model", model),
    }


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _export(
    cleaner: Cleaner, pages: Mapping[str, Any], benchmarks: Sequence[BenchmarkText], spread: Spread
) -> None:
    """The files that users read: corpus, scores, contamination, and last the funnel."""
    out, folders = cleaner.out, [iteration_folder(cleaner.out, one + 1) for one in range(cleaner.iterations)]
    dirt, gone = clean_pages(cleaner, spread)
    counts = CorpusCounts()
    write_corpus(counts.counted(clean_rows(cleaner.folder)), out / "corpus")
    join([folder / SCORES for folder in folders], out / SCORES)
    with gzip_lines(out / "contamination.jsonl.gz") as file:
        file.writelines(hit_lines(cleaner.folder))
    done = [read_json(folder / DONE) for folder in folders]
    named = sorted({text.benchmark for text in benchmarks})
    pages = {**pages, "missing": pages["missing"] | gone}
    funnel = _funnel(out, pages, done) | {"benchmarks": named, "contamination": dirt, **counts.summary()}
    write_text(out / "corpus" / "README.md", card(funnel))
    write_json(out / "funnel.json", funnel)


def _funnel(out: Path, pages: Mapping[str, Any], iterations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What went in, and what each iteration kept."""
    first = mapped_array(out / "duplicates.npy")
    own, seed = (mapped_array(out / "marks" / name) for name in ("own_text.npy", "seed.npy"))
    return {
        "records": pages["records"],
        "records_skipped": pages["skipped"],
        "files_missing": pages["missing"],
        "pages_in": pages["pages"],
        "tokens_in": pages["words"],
        "duplicates": int(sum(np.count_nonzero(part) for part in _differences(first))),
        "pages_unique": int(np.count_nonzero(own)),
        "seed_pages": int(np.count_nonzero(seed)),
        "iterations": list(iterations),
        "domains": [row["domain"] for row in iterations[-1]["domains"]],
    }


def _differences(first: np.ndarray) -> Iterator[np.ndarray]:
    """Which pages are duplicates, a part at a time."""
    part = 1 << 20
    for start in range(0, len(first), part):
        stop = min(start + part, len(first))
        yield first[start:stop] != np.arange(start, stop)
