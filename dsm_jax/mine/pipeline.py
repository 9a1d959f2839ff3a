"""Mining as one call: crawl or WARC files in, a corpus, scores and a funnel out. Every stage resumes.

`out` holds config.json, crawl/ (package documentation, where no WARC was given), pages/, iteration-NN/,
scores.jsonl.gz, contamination.jsonl.gz, corpus/ and funnel.json; killed anywhere and started again, the same
bytes.
"""

import gzip
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.mine import package_docs
from dsm_jax.mine.classify import count_words
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.decontaminate import Benchmarks, Cleaned
from dsm_jax.mine.domains import read_annotations
from dsm_jax.mine.export import write_corpus
from dsm_jax.mine.iterate import Collected, Crawl, find_seed_pages, run_loop, scores_file
from dsm_jax.mine.pages import (
    canonical_url,
    gzip_lines,
    json_line,
    load_infos,
    make_shards,
    read_shards,
    with_progress,
)
from dsm_jax.mine.read import check_warcs
from dsm_jax.mine.seed import Seed, read_seed
from dsm_jax.run import CONFIG, DONE, is_done, open_run, read_json, write_json

_END_BYTES = 64 << 10  # of a WARC file, to tell it from another one


@dataclass(frozen=True)
class MineResult:
    """Where the corpus and the scores lie, and the numbers of funnel.json."""

    corpus: Path
    scores: Path
    funnel: Mapping[str, Any]


def mine(
    config: MineConfig,
    out: Path,
    *,
    benchmark_texts: Sequence[str],
    planted_texts: Sequence[str] = (),
    warcs: Sequence[Path] = (),
    seed_file: Path | None = None,
    annotations_file: Path | None = None,
    math_hosts: Sequence[str] = (),
    workers: int = 0,
) -> MineResult:
    """Mines `warcs` (none: the documentation of the installed packages) into out/corpus.

    benchmark_texts: questions and answers that must not be in the corpus. planted_texts: some of them, put
    into pages of the package documentation to show that they are caught; nothing is planted into `warcs`.
    seed_file: JSONL rows {text} or {url}; the package documentation has its own, half of sympy's modules.
    math_hosts: domains known to be mathematical, to count precision by (the package documentation has its own
    list). workers: Grain worker processes, 0 = in this process; the bytes are the same. Raises UserError for
    bad input, an empty corpus, a planted text that was not caught, or an `out` of another configuration.
    """
    out, warcs = Path(out), list(dict.fromkeys(map(Path, warcs)))
    if warcs:
        check_warcs(warcs)
        if seed_file is None:
            raise UserError("--warc needs --seed FILE: JSONL rows {text} or {url} of mathematical pages")
    seed = read_seed(Path(seed_file)) if seed_file else None
    annotations = read_annotations(annotations_file)
    hosts = tuple(math_hosts) or (() if warcs else package_docs.MATH_HOSTS)
    inputs = (warcs, seed_file, annotations_file, benchmark_texts, () if warcs else planted_texts)
    open_run(out, _describe(config, *inputs, hosts))
    if not (out / "funnel.json").exists():
        with _forgets_config_before_any_stage(out):
            planted: dict[str, str] = {}
            if not warcs:
                warcs = package_docs.crawl(out / "crawl", config, planted_texts)
                planted = dict(zip(read_json(out / "crawl" / DONE)["planted"], planted_texts, strict=True))
            pages = make_shards(warcs, out / "pages", workers)
        crawl = Crawl(out / "pages", load_infos(out / "pages"))
        seed = seed or _default_seed(crawl)
        rounds = run_loop(crawl, seed, annotations, config, out)
        benchmarks = Benchmarks(benchmark_texts, config.grams_need_words)
        exported = _export(crawl, rounds, benchmarks, planted, out)
        _join_scores(out, len(rounds))
        write_json(out / "funnel.json", _funnel(pages, crawl, seed, rounds, hosts) | exported)
    return MineResult(out / "corpus", out / "scores.jsonl.gz", read_json(out / "funnel.json"))


@contextmanager
def _forgets_config_before_any_stage(out: Path) -> Iterator[None]:
    """After a user's mistake, where nothing is done yet, the corrected command may use the same folder."""
    try:
        yield
    except UserError:
        if not is_done(out / "crawl") and not any((out / "pages").glob("*.json")):
            (out / CONFIG).unlink()
        raise


def _describe(
    config: MineConfig,
    warcs: Sequence[Path],
    seed_file: Path | None,
    annotations_file: Path | None,
    benchmark_texts: Sequence[str],
    planted_texts: Sequence[str],
    math_hosts: Sequence[str],
) -> dict[str, Any]:
    """All that decides a run's bytes, for its config.json: another one is refused."""
    return {
        "mine": config,
        "warc": list(map(_identify, warcs)),
        "seed": _file_hash(seed_file),
        "annotations": _file_hash(annotations_file),
        "benchmark_texts": _hash("\n\n".join(benchmark_texts).encode()),
        "planted_texts": _hash("\n\n".join(planted_texts).encode()),
        "math_hosts": list(math_hosts),
    }


def _identify(warc: Path) -> str:
    """Name, size, and a hash of both ends: WARC files are too large to be read for this."""
    size = warc.stat().st_size
    with open(warc, "rb") as file:
        ends = file.read(_END_BYTES)
        file.seek(max(0, size - _END_BYTES))
        ends += file.read(_END_BYTES)
    return f"{warc.name} of {size} bytes, {_hash(ends)}"


def _file_hash(path: Path | None) -> str | None:
    return _hash(Path(path).read_bytes()) if path else None


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _default_seed(crawl: Crawl) -> Seed:
    return Seed(
        (), frozenset(canonical_url(info.url) for info in crawl.infos if package_docs.is_seed(info.url))
    )


def _export(
    crawl: Crawl, rounds: Sequence[Collected], benchmarks: Benchmarks, planted: Mapping[str, str], out: Path
) -> dict[str, Any]:
    """Writes the kept pages, decontaminated, to out/corpus and every hit to out/contamination.jsonl.gz."""
    counts: Counter[str] = Counter()
    hits: list[dict[str, Any]] = []
    records = _records(crawl, rounds, benchmarks, planted, counts, hits)
    exported = write_corpus(records, out / "corpus")
    with gzip_lines(out / "contamination.jsonl.gz") as file:
        file.writelines(map(json_line, hits))
    report: dict[str, Any] = {
        "pages_kept": exported,
        "tokens_kept": counts["words"],
        "contamination": {
            "hits": len(hits),
            "pages_dropped": counts["dropped"],
            "pages_touched": counts["touched"],
            "lines_removed": counts["lines"],
        },
    }
    if planted:
        report["planted"] = {
            "texts": len(planted),
            "in_kept_pages": counts["planted_kept"],
            "caught": counts["caught"],
        }
    return report


def _records(
    crawl: Crawl,
    rounds: Sequence[Collected],
    benchmarks: Benchmarks,
    planted: Mapping[str, str],
    counts: Counter[str],
    hits: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The corpus's records in the crawl's order; adds to `counts` and `hits` as it goes."""
    last = rounds[-1]
    for i, row in enumerate(with_progress(read_shards(crawl.folder), len(last.kept), "export (pages)")):
        if not last.kept[i] and row["url"] not in planted:
            continue
        cleaned = benchmarks.clean(row["text"])
        hits += [{"url": row["url"], "kept": last.kept[i], **asdict(hit)} for hit in cleaned.hits]
        if row["url"] in planted:  # checked wherever it was ranked
            counts["planted_kept"] += last.kept[i]
            if not _is_gone(planted[row["url"]], cleaned):
                raise UserError(
                    f"decontamination missed a planted text: {planted[row['url']]!r}; plant texts that are "
                    "benchmark texts, of three words or numbers or more, and give another --out"
                )
            counts["caught"] += 1
        if not last.kept[i]:
            continue
        counts["touched"] += bool(cleaned.hits)
        counts["lines"] += cleaned.lines
        counts["dropped"] += cleaned.text is None
        if cleaned.text is not None:
            counts["words"] += count_words(cleaned.text)
            first = next(number for number, collected in enumerate(rounds, start=1) if collected.kept[i])
            provenance = {name: row[name] for name in ("url", "warc", "offset")}
            yield {"text": cleaned.text, **provenance, "score": last.scores[i], "iteration": first}


def _is_gone(text: str, cleaned: Cleaned) -> bool:
    return bool(cleaned.hits) and not Benchmarks([text], need_words=False).clean(cleaned.text or "").hits


def _join_scores(out: Path, iterations: int) -> None:
    """out/scores.jsonl.gz: the iterations' score files, one after the other."""
    with gzip_lines(out / "scores.jsonl.gz") as file:
        for number in range(1, iterations + 1):
            with gzip.open(scores_file(out, number), "rb") as part:
                shutil.copyfileobj(part, file)


def _funnel(
    pages: Mapping[str, Any], crawl: Crawl, seed: Seed, rounds: Sequence[Collected], math_hosts: Sequence[str]
) -> dict[str, Any]:
    seed_pages = find_seed_pages(crawl.infos, seed)
    seed_hosts = {crawl.infos[i].domain for i in seed_pages}
    table = []
    for collected in rounds:
        outside = [
            info.domain for i, info in enumerate(crawl.infos) if collected.kept[i] and i not in seed_pages
        ]
        others = [host for host in outside if host not in seed_hosts]
        table.append(
            collected.stats
            | {
                "kept_outside_seed": len(outside),
                "precision_outside_seed": _precision(outside, math_hosts),
                "kept_outside_seed_hosts": len(others),
                "precision_outside_seed_hosts": _precision(others, math_hosts),
            }
        )
    return {
        "pages_in": pages["pages"],
        "tokens_in": pages["words"],
        "records_skipped": pages["skipped"],
        "duplicates": sum(info.duplicate_of is not None for info in crawl.infos),
        "seed_pages": len(seed_pages),
        "seed_texts": len(seed.texts),
        "math_hosts": list(math_hosts),
        "iterations": table,
        "domains": [row["domain"] for row in table[-1]["domains"]],
        "precision_outside_seed": table[-1]["precision_outside_seed"],
        "precision_outside_seed_hosts": table[-1]["precision_outside_seed_hosts"],
    }


def _precision(hosts: Sequence[str], math_hosts: Sequence[str]) -> float | None:
    """The share of pages, named by their hosts, on mathematical hosts; None where it cannot be told."""
    return round(sum(host in math_hosts for host in hosts) / len(hosts), 6) if math_hosts and hosts else None
