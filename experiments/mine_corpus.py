"""From Common Crawl to a decontaminated corpus of one kind of page, mathematics by default (DeepSeekMath 2.1).

    python experiments/mine_corpus.py --warc 'crawl/*.warc.gz' --seed seed.jsonl --out runs/corpus
    python experiments/mine_corpus.py --wet wet.paths.gz --warc warc.paths.gz --seed openwebmath/*.parquet --preset paper \\
        --benchmarks benchmarks/ --out /shared/corpus
    python experiments/annotate_urls.py runs/corpus      # accept and reject URL paths; the next iteration uses them

The same command goes on where it stopped; with more --iterations, and with annotations made since, it iterates on. The
folder has corpus/, scores.jsonl.gz, funnel.json, contamination.jsonl.gz and report.html.
"""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from mining_report import write_mining_report

from dsm_jax.cli import run_script
from dsm_jax.data.benchmarks import benchmark_texts, read_benchmarks, unused_files
from dsm_jax.errors import UserError
from dsm_jax.mine.config import PRESETS as MINE
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus.decontaminate import BenchmarkText
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.tasks import Spread, check_beam
from dsm_jax.mine.web.fetch import expand_inputs


@dataclass(frozen=True)
class MineCorpus:
    """Options of mining."""

    preset: str
    mine: Annotated[MineConfig, tyro.conf.arg(name="")]
    warc: tuple[str, ...] = ()
    """WARC files, globs, URLs (https, gs, s3), or a list of them (.paths, .paths.gz, as Common Crawl has them)."""
    wet: tuple[str, ...] = ()
    """WET files, given in the same ways: scored in the place of --warc, whose records the kept pages are taken from then
    (without --warc, the WET text)."""
    seed: tuple[Path, ...] = ()
    """The pages to find more of: JSONL (also .gz, .zst) or parquet of {text} or {url}, such as OpenWebMath's files."""
    negatives: tuple[Path, ...] = ()
    """Pages that are something else, in the same formats; none: random pages of the crawl."""
    held_out: Path | None = None
    """Rows {url} or {url, label} (math, other): scored, in no training set; average precision where they have labels."""
    annotations: tuple[Path, ...] = ()
    """Decisions {prefix, accept} of annotators (JSONL or CSV), beside those that OUT/annotations.jsonl has."""
    benchmarks: tuple[Path, ...] = ()
    """Benchmarks whose problems must not be in the corpus: folders of them, and files (of another name, rows {question})."""
    language_model: Path | None = None
    """A fastText language model (lid.176.bin); none: the language by the script."""
    out: Path = Path("runs/corpus")
    """The run's folder."""
    workers: int = 0
    """Grain processes that read and extract; 0 = this one. The bytes are the same."""
    runner: str = ""
    """A runner of Apache Beam, which spreads the work over machines: DirectRunner, DataflowRunner, FlinkRunner, .."""
    runner_options: str = ""
    """The runner's own options, in one text: "--project p --region r"."""


PRESET_CONFIGS = {name: MineCorpus(name, MINE[name]) for name in ("default", "paper", "smoke")}


def main(config: MineCorpus) -> None:
    """Mines WARC or WET files into a decontaminated corpus: classifies, ranks, finds domains, takes annotations, again."""
    spread = _spread(config)
    if not config.seed:
        raise UserError(
            "--seed names no file: give JSONL or parquet of {text} or {url}, the pages to find more of"
        )
    sources = Sources(
        tuple(expand_inputs(config.warc)),
        tuple(expand_inputs(config.wet, option="--wet")),
        config.language_model,
    )
    benchmarks = _benchmarks(config.benchmarks)
    result = mine(
        config.mine,
        config.out,
        sources,
        Examples(config.seed, config.negatives, config.held_out),
        benchmarks=benchmarks,
        annotations=config.annotations,
        spread=spread,
    )
    write_mining_report(config.out / "report.html", result.funnel)
    _print(config.out, result.funnel)


def _spread(config: MineCorpus) -> Spread:
    if config.workers < 0:
        raise UserError(f"--workers {config.workers}: must be 0 or more")
    if config.runner_options and not config.runner:
        raise UserError(
            "--runner-options without --runner: name the runner too, such as --runner DataflowRunner"
        )
    try:
        more = shlex.split(config.runner_options)
    except ValueError as error:
        raise UserError(f"--runner-options {config.runner_options}: {error}; close the quotation") from None
    beam = (f"--runner={config.runner}", *more) if config.runner else ()
    check_beam(beam)
    return Spread(config.workers, beam)


def _benchmarks(paths: Sequence[Path]) -> list[BenchmarkText]:
    """What decontamination looks for: questions, with the solutions, answers and options that belong to them."""
    if not paths:
        print(
            "warning: --benchmarks names nothing: the corpus will not be decontaminated; do not evaluate what is trained on it",
            file=sys.stderr,
        )
        return []
    problems = read_benchmarks(paths)
    counts = Counter(problem.benchmark for problem in problems)
    print("benchmarks: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()), file=sys.stderr)
    if unused := list(map(str, unused_files(paths))):
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        print(
            f"warning: --benchmarks: not used: {', '.join(unused[:3])}{more}; in folders one test file of each benchmark is "
            "read, found by a name such as gsm8k_test.jsonl; give other files themselves",
            file=sys.stderr,
        )
    return benchmark_texts(problems)


def _print(out: Path, funnel: Mapping[str, Any]) -> None:
    """The iterations, and where everything is."""
    rounds = funnel["iterations"]
    print(_table(rounds))
    for source, reason in funnel["files_missing"].items():
        print(f"missing: {source}: {reason}")
    dirt = funnel["contamination"]
    cleaned = (
        f"{dirt['pages_dropped']:,} dropped and {dirt['lines_removed']:,} lines removed as benchmark text"
    )
    print(
        f"{funnel['pages_kept']:,} of {funnel['pages_in']:,} pages in {out / 'corpus'}; "
        f"{cleaned if funnel['benchmarks'] else 'NOT decontaminated: --benchmarks named nothing'}\n"
        f"report: {out / 'report.html'}\n"
        f"to judge URL paths: python experiments/annotate_urls.py {out}; the same command with "
        f"--iterations {len(rounds) + 1} uses that"
    )


def _table(rounds: Sequence[Mapping[str, Any]]) -> str:
    """A row for each iteration; average precision where held-out pages have labels."""
    columns: dict[str, list[str]] = {
        "iteration": [f"{row['iteration']}" for row in rounds],
        "positives": [f"{row['positives']:,}" for row in rounds],
        "negatives": [f"{row['negatives']:,}" for row in rounds],
        "pages kept": [f"{row['pages_kept']:,}" for row in rounds],
        "words": [f"{row['tokens_kept']:,}" for row in rounds],
        "least score": [f"{row['cut']['score']:.4f}" for row in rounds],
        "math domains": [f"{len(row['domains']):,}" for row in rounds],
        "kept before": [f"{row['share_already_there']:.1%}" for row in rounds],
    }
    precision = [row.get("average_precision") for row in rounds]
    if None not in precision:
        columns["held-out AP"] = [f"{value:.1%}" for value in precision]
    padded = [
        [text.rjust(max(map(len, (name, *cells)))) for text in (name, *cells)]
        for name, cells in columns.items()
    ]
    return "\n".join("  ".join(row) for row in zip(*padded, strict=True))


if __name__ == "__main__":
    run_script(main, PRESET_CONFIGS)
