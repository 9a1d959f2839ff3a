"""A mining run in pictures and tables: the funnel, the iterations, scores, domains, what was found.

Read from funnel.json's content; write_mining_report makes the run's report.html of it, the quickstart's report takes the
parts. Left out on purpose: single pages (scores.jsonl.gz) and single hits (contamination.jsonl.gz).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm_jax.evaluate.figures import Picture, curves, histogram, horizontal_bars
from dsm_jax.evaluate.report import Section, Table, write_report

TOP_DOMAINS = 12


def write_mining_report(path: Path, funnel: Mapping[str, Any]) -> None:
    """Writes report.html."""
    rounds = funnel["iterations"]
    sections = [
        Section("What came out", (_found(funnel), *_gone(funnel), _funnel(funnel))),
        Section("Iterations", (_rounds(rounds), *_histograms(rounds))),
        *([Section("Held-out pages", _held_out(rounds))] if rounds[-1].get("held_out") else []),
        Section("Domains", (_domains(rounds[-1]), *_by(funnel))),
    ]
    lead = f"{funnel['pages_kept']:,} pages with {funnel['tokens_kept']:,} words, after {len(rounds)} iterations."
    write_report(path, "Mined corpus", lead, sections)


def mining_parts(funnel: Mapping[str, Any]) -> list[str | Table | Picture]:
    """The parts of one section of another report."""
    rounds = funnel["iterations"]
    return [_found(funnel), _funnel(funnel), _rounds(rounds), _domains(rounds[-1])]


def _funnel(funnel: Mapping[str, Any]) -> Picture:
    steps = {"pages read": funnel["pages_in"], "unique, with text": funnel["pages_unique"]}
    steps |= {f"kept by iteration {row['iteration']}": row["pages_kept"] for row in funnel["iterations"]}
    steps["after decontamination"] = funnel["pages_kept"]
    return horizontal_bars("The funnel: pages, and their share of the pages read", steps, of_first=True)


def _domains(last: Mapping[str, Any]) -> Picture:
    most = sorted(last["domains"], key=lambda row: (-row["collected"], row["domain"]))[:TOP_DOMAINS]
    names = [f"{row['domain']}, {row['collected']:,} of {row['pages']:,}" for row in most]
    shares = [round(100 * row["collected"] / row["pages"], 1) for row in most]
    caption = "Mathematical domains with most pages kept, last iteration: share of their pages kept"
    return horizontal_bars(caption, dict(zip(names, shares, strict=True)), unit="%")


def _found(funnel: Mapping[str, Any]) -> str:
    """What mining found: precision, contamination, planted problems."""
    dirt, skipped = funnel["contamination"], sum(funnel["records_skipped"].values())
    text = (
        f"The corpus holds {funnel['pages_kept']:,} pages with {funnel['tokens_kept']:,} words, of "
        f"{funnel['pages_in']:,} pages with {funnel['tokens_in']:,}."
    )
    if funnel.get("precision_outside_seed") is not None:
        hosts = ", ".join(funnel["math_hosts"])
        share = f"{funnel['precision_outside_seed']:.1%} are on mathematical hosts ({hosts})"
        text += f" Of the pages kept in the last iteration outside the seed, {share}."
    if funnel["benchmarks"]:
        text += (
            f" Decontamination ({', '.join(funnel['benchmarks'])}) dropped {dirt['pages_dropped']:,} of the kept pages and cut "
            f"{dirt['lines_removed']:,} lines of others"
        )
    else:
        text += " No benchmark was given, so nothing was decontaminated"
    if "planted" in funnel:
        text += (
            f"; of {funnel['planted']['texts']} planted problems {funnel['planted']['caught']} were caught"
        )
    return text + (f". {skipped:,} records could not be read as pages." if skipped else ".")


def _gone(funnel: Mapping[str, Any]) -> list[Table]:
    """Records that were skipped, and files that could not be had."""
    tables = []
    if funnel["records_skipped"]:
        rows = tuple((kind, f"{count:,}") for kind, count in funnel["records_skipped"].items())
        tables.append(Table(("records skipped because", "records"), rows))
    if funnel["files_missing"]:
        tables.append(Table(("missing file", "last answer"), tuple(funnel["files_missing"].items())))
    return tables


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> Table:
    header = (
        "iteration",
        "positives",
        "negatives",
        "training accuracy",
        "kept",
        "words",
        "domains",
        "kept before",
    )
    extra = {"held-out AP": "average_precision", "precision": "precision_outside_seed"}
    shown = {name: key for name, key in extra.items() if any(row.get(key) is not None for row in rounds)}
    rows = tuple(
        (
            f"{row['iteration']}",
            f"{row['positives']:,}",
            f"{row['negatives']:,}",
            _share(row["training_accuracy"]),
            f"{row['pages_kept']:,}",
            f"{row['tokens_kept']:,}",
            f"{len(row['domains']):,}",
            _share(row["share_already_there"]),
            *(_share(row.get(key)) for key in shown.values()),
        )
        for row in rounds
    )
    return Table((*header, *shown), rows)


def _histograms(rounds: Sequence[Mapping[str, Any]]) -> list[Picture]:
    return [
        histogram(
            f"Scores of iteration {row['iteration']}: pages by score, all unique ones and those kept",
            row["score_histogram"],
            xlabel="score",
            ylabel="pages",
        )
        for row in rounds
    ]


def _held_out(rounds: Sequence[Mapping[str, Any]]) -> tuple[str | Table | Picture, ...]:
    """Average precision by site, and calibration: how many pages of a score are mathematical."""
    sites = sorted({site for row in rounds for site in row["held_out"]["by_site"]})
    header = ("site", *(f"iteration {row['iteration']}" for row in rounds))
    table = Table(
        header,
        tuple((site, *(_share(row["held_out"]["by_site"].get(site)) for row in rounds)) for site in sites),
    )
    series = {
        f"iteration {row['iteration']}": [
            (one["mean_score"], one["math_share"]) for one in row["held_out"]["calibration"] if one["pages"]
        ]
        for row in rounds
    }
    picture = curves(
        "Calibration: share of mathematical pages by score; a calibrated score lies on the diagonal",
        {"calibrated": [(0.0, 0.0), (1.0, 1.0)], **series},
        xlabel="score",
        ylabel="share mathematical",
    )
    pages = rounds[-1]["held_out"]["pages"]
    text = f"Average precision on {pages:,} held-out pages: of each site's mathematics against the other pages of all sites."
    return text, table, picture


def _by(funnel: Mapping[str, Any]) -> list[Table]:
    """The corpus by language and by domain."""
    names = {"language": "language, or script", "domain": "domain, the largest"}
    return [
        Table(
            (title, "pages in the corpus"),
            tuple(
                (name or "(none)", f"{count:,}")
                for name, count in funnel["corpus_by"][key][: 2 * TOP_DOMAINS]
            ),
        )
        for key, title in names.items()
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
