"""How fast mining is: pages and megabytes a second of each step on one core, beside bare fastText and beside datatrove.

    python experiments/bench_mining.py --json FILE
    python experiments/bench_mining.py --json FILE --warc 'crawl/*.warc.gz' --peer datatrove --peer-python PATH/TO/PYTHON

Without --warc the files are those of $DSM_DATA/web, and without that variable the documentation of the installed packages.
Rates count CPU time, medians over the rounds. "score" is WARC files to scores in memory: read, extract, tokens, predict;
"whole" is what users run up to the scores: besides that languages, duplicate keys, parquet shards, duplicates, arrays. The peer's whole is its WARC reader, Trafilatura, fastText filter and
JSONL writer on the same files with the same model; it needs datatrove[io,processing], trafilatura and lxml_html_clean.
Formulas are the TeX of MathML pages (alttext, annotation) that is found again in each one's text.
The classifier has the paper's 256 dimensions, and 100,000 buckets. Left out on purpose: several workers, downloads.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bench_turns import Rounds, in_turns, plain, worker
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.errors import UserError
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.loop import classify
from dsm_jax.mine.loop.classify import FastTextConfig
from dsm_jax.mine.package_docs import DocsConfig, crawl
from dsm_jax.mine.tokens import fasttext_tokens
from dsm_jax.mine.web.fetch import expand_inputs
from dsm_jax.mine.web.read import index_warc, read_block
from dsm_jax.run import require_writable, write_json, write_text

OURS = "dsm_jax"
STEPS = (
    "read",
    "extract",
    "tokens",
    "near_duplicates",
    "predict",
    "fasttext",
    "decontaminate",
    "text",
    "score",
    "whole",
)
SEEN = {"datatrove": 78}  # pages a second that the peer's extractor has been seen to reach
MIN_SCORE = 0.5


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    warc: tuple[str, ...] = ()  # WARC files (.warc.gz) or globs
    questions: int = 5_000  # generated problems that decontamination looks for
    classifier: FastTextConfig = FastTextConfig(bucket=100_000, min_count=1)
    docs: DocsConfig = DocsConfig(pages_per_package=100)
    rounds: int = 5  # each measures every task once with every worker
    peer_rounds: int = 3  # beside the peer
    json: Path | None = None  # file for the numbers
    peer: Literal["", "datatrove"] = ""
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.questions < 1:
            raise UserError(f"--rounds {self.rounds}, --questions {self.questions}: must be at least 1")
        if self.peer and not shutil.which(self.peer_python):
            raise UserError(f"--peer-python {self.peer_python}: no such program, or it cannot be run")
        if self.json:
            require_writable(self.json, "--json")


def main(config: Bench) -> None:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        request, html = prepare(config, Path(name))
        scripts = {OURS: (Path(sys.executable), "bench_mining_ours.py")}
        if config.peer:
            scripts[config.peer] = (config.peer_python, f"bench_mining_{config.peer}.py")
        workers = {}
        for who, (python, script) in scripts.items():
            workers[who] = stack.enter_context(worker(python, script, 1, allocator=False))
            workers[who].ask(request)
        found = in_turns({OURS: workers[OURS]}, STEPS, config.rounds)[OURS]
        beside = in_turns(workers, ("text", "whole"), config.peer_rounds) if config.peer else {}
        report = workers[OURS].ask({"task": "report"})
        survival = {who: formulas_kept(html, one.ask({"task": "texts"})) for who, one in workers.items()}
    results = summary(found, report) | {
        "formulas_kept": survival[OURS],
        "formulas": sum(map(len, html.values())),
    }
    if config.peer:
        results |= compared(config.peer, beside, report["pages"]) | {
            "peer_formulas_kept": survival[config.peer]
        }
    show(config, results)
    if config.json:
        write_json(config.json, results | {"config": plain(config)})


def prepare(config: Bench, folder: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What the workers are asked to build, and each page's TeX."""
    pages = folder / "crawl"
    pages.mkdir()
    for number, file in enumerate(warc_files(config, folder)):
        (pages / f"{number:05d}.warc.gz").symlink_to(file.resolve())
    html = {
        page.url: decode(page.body, page.charset)
        for warc in sorted(pages.iterdir())
        for block in index_warc(warc)[0]
        for page in read_block(block).pages
    }
    problems = ProblemSet("train", seed=0)
    request = {
        "crawl": str(pages),
        "folder": str(folder),
        "model": str(train_model(config.classifier, html, folder)),
        "min_score": MIN_SCORE,
        "questions": [problems[i].question for i in range(config.questions)],
    }
    return request, {url: tex for url, page in html.items() if (tex := tex_of(page))}


def warc_files(config: Bench, folder: Path) -> list[Path]:
    """The crawl: what --warc names, or $DSM_DATA/web, or the documentation of the installed packages."""
    if config.warc:
        return [Path(name) for name in expand_inputs(config.warc)]
    if "DSM_DATA" in os.environ:
        return sorted((Path(os.environ["DSM_DATA"]) / "web").glob("*.warc.gz"))
    return crawl(folder / "docs", config.docs)


def train_model(config: FastTextConfig, html: Mapping[str, str], folder: Path) -> Path:
    """A classifier of the size that is asked for, trained to tell the half of the pages with most TeX from the others."""
    texts = sorted(map(page_text, html.values()), key=lambda text: text.count("$") / (len(text) + 1))
    halves = {classify.OTHER: texts[: len(texts) // 2], classify.MATH: texts[len(texts) // 2 :]}
    lines = [f"{label} {fasttext_tokens(text)}\n" for label, half in halves.items() for text in half]
    write_text(folder / "train.txt", "".join(lines))
    classify.train(folder / "train.txt", folder / "model.bin", config)
    return folder / "model.bin"


class _TeX(HTMLParser):
    """Collects the TeX of MathML: an annotation, or else an alttext."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._alt, self._reading, self._annotation = "", False, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "math":
            self._alt, self._annotation = values.get("alttext") or "", ""
        self._reading = tag == "annotation" and "tex" in (values.get("encoding") or "").lower()

    def handle_data(self, data: str) -> None:
        self._annotation += data if self._reading else ""

    def handle_endtag(self, tag: str) -> None:
        self._reading = False
        if tag == "math" and (tex := self._alt or self._annotation):
            self.found.append(tex)


def tex_of(page: str) -> list[str]:
    """The TeX of each formula that is MathML."""
    parser = _TeX()
    if "<math" in page:
        parser.feed(page)
    return [tex for tex in map(squeezed, parser.found) if tex]


def squeezed(text: str) -> str:
    """Without white space."""
    return "".join(text.split())


def formulas_kept(tex: Mapping[str, list[str]], texts: Mapping[str, str]) -> float | None:
    """The share of the formulas that their page's text holds; None without any."""
    kept = total = 0
    for url, formulas in tex.items():
        text = squeezed(texts.get(url, ""))
        total += len(formulas)
        kept += sum(formula in text for formula in formulas)
    return kept / total if total else None


def summary(found: Rounds, report: Mapping[str, float]) -> dict[str, Any]:
    """Pages a second of each step, by the CPU's time, and the shares that stand in docs/benchmarks.md."""
    seconds = {step: median(one["cpu_seconds"] for one in found[step]) for step in STEPS}
    rates = {f"{step}_pages_per_s": report["pages"] / one for step, one in seconds.items()}
    pairs = zip(found["fasttext"], found["predict"], strict=True)
    return {
        **report,
        **rates,
        "warc_to_text_pages_per_s": rates["text_pages_per_s"],
        "warc_to_score_pages_per_s": rates["score_pages_per_s"],
        "read_mb_per_s": report["warc_mb"] / seconds["read"],
        "warc_to_text_html_mb_per_s": report["html_mb"] / seconds["text"],
        "classify_docs_per_s": report["with_tokens"] / seconds["predict"],
        "classify_share_of_fasttext": median(
            bare["cpu_seconds"] / ours["cpu_seconds"] for bare, ours in pairs
        ),
        "decontaminate_mb_per_s": report["text_mb"] / seconds["decontaminate"],
    }


def compared(peer: str, beside: Mapping[str, Rounds], pages: float) -> dict[str, Any]:
    """The peer's pages a second, and how much more of the CPU's time it takes."""
    seconds = {
        (who, task): median(one["cpu_seconds"] for one in rounds)
        for who, tasks in beside.items()
        for task, rounds in tasks.items()
    }
    return {
        f"ratio_{peer}": seconds[peer, "whole"] / seconds[OURS, "whole"],
        f"ratio_{peer}_text": seconds[peer, "text"] / seconds[OURS, "text"],
        "peer_whole_pages_per_s": pages / seconds[peer, "whole"],
        "peer_text_pages_per_s": pages / seconds[peer, "text"],
        "peer_seen_pages_per_s": SEEN[peer],
    }


def show(config: Bench, results: Mapping[str, Any]) -> None:
    """The table, and what stands beside."""
    table = Table(
        box=SIMPLE_HEAD, title=f"{results['pages']:,} pages, {results['html_mb']:.0f} MB of HTML, one core"
    )
    for header in ("step", "pages/s", "us a page"):
        table.add_column(header, justify="left" if header == "step" else "right")
    for step in STEPS:
        rate = results[f"{step}_pages_per_s"]
        table.add_row(step.replace("_", " "), f"{rate:,.0f}", f"{1e6 / rate:,.0f}")
    console = Console()
    console.print(table)
    lines = [
        (
            f"classifier: {results['classify_share_of_fasttext']:.2f} of bare fastText's rate; decontamination: "
            f"{results['decontaminate_mb_per_s']:.1f} MB of text a second"
        ),
        f"formulas kept: {_percent(results['formulas_kept'])} of {results['formulas']:,}",
    ]
    if config.peer:
        lines += beside_peer(config.peer, results)
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def beside_peer(peer: str, results: Mapping[str, Any]) -> list[str]:
    """What the peer's numbers say."""
    text, seen = results["peer_text_pages_per_s"], results["peer_seen_pages_per_s"]
    slow = ": over 25% slower here, so look at its settings" if text < 0.75 * seen else ""
    return [
        (
            f"CPU time of {peer} over {OURS}, WARC to scored and filtered pages: {results[f'ratio_{peer}']:.1f}; to text: "
            f"{results[f'ratio_{peer}_text']:.1f}"
        ),
        f"{peer} here {text:,.0f} pages a CPU second to text; its extractor has been seen to reach {seen}{slow}",
        f"formulas that {peer} keeps: {_percent(results['peer_formulas_kept'])}",
    ]


def _percent(share: float | None) -> str:
    return "none to keep" if share is None else f"{share:.1%}"


PRESETS = {
    "one_core": Bench("one_core"),
    "smoke": Bench(
        "smoke",
        questions=50,
        classifier=FastTextConfig(dim=8, bucket=1_000, min_count=1),
        docs=DocsConfig(5, ("mpmath", "packaging", "rich")),
        rounds=1,
    ),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
