"""The part of the quickstart's report on mining: the funnel, the iterations, domains, what was found.

Read from funnel.json's content as results.json holds it. Left out on purpose: single pages (scores.jsonl.gz).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsm_jax.evaluate.figures import Picture, horizontal_bars
from dsm_jax.evaluate.report import Table

TOP_DOMAINS = 12


def mining_parts(corpus: Mapping[str, Any]) -> list[str | Table | Picture]:
    """The section's parts. corpus: the content of funnel.json, with `precision`."""
    rounds = corpus["iterations"]
    funnel = {"pages read": corpus["pages_in"], "unique": corpus["pages_in"] - corpus["duplicates"]}
    funnel |= {f"kept by iteration {row['iteration']}": row["pages_kept"] for row in rounds}
    funnel["after decontamination"] = corpus["pages_kept"]
    domains = rounds[-1]["domains"][:TOP_DOMAINS]  # most pages kept first
    names = [f"{row['domain']}, {row['collected']:,} of {row['pages']:,}" for row in domains]
    shares = [round(100 * row["collected"] / row["pages"], 1) for row in domains]
    return [
        _found(corpus),
        horizontal_bars("The funnel: pages, and their share of the pages read", funnel, of_first=True),
        _rounds(rounds),
        horizontal_bars(
            "Domains with most pages kept, last iteration: share of their pages kept",
            dict(zip(names, shares, strict=True)),
            unit="%",
        ),
    ]


def _found(corpus: Mapping[str, Any]) -> str:
    """What mining found: precision, contamination, planted problems."""
    dirt, skipped = corpus["contamination"], sum(corpus["records_skipped"].values())
    text = (
        f"The corpus holds {corpus['pages_kept']:,} pages with {corpus['tokens_kept']:,} words, of "
        f"{corpus['pages_in']:,} pages with {corpus['tokens_in']:,}."
    )
    if corpus["precision"] is not None:
        hosts = ", ".join(corpus["math_hosts"])
        share = f"{corpus['precision']:.1%} are on mathematical hosts ({hosts})"
        text += f" Of the pages kept in the last iteration outside the seed, {share}."
    text += (
        f" Decontamination dropped {dirt['pages_dropped']:,} of the kept pages and cut "
        f"{dirt['lines_removed']:,} lines of others"
    )
    if "planted" in corpus:
        text += (
            f"; of {corpus['planted']['texts']} planted problems {corpus['planted']['caught']} were caught"
        )
    return text + (f". {skipped:,} records could not be read as pages." if skipped else ".")


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> Table:
    header = ("iteration", "positives", "negatives", "training accuracy", "kept", "precision", "kept before")
    return Table(
        header,
        tuple(
            (
                f"{row['iteration']}",
                f"{row['positives']:,}",
                f"{row['negatives']:,}",
                _share(row["training_accuracy"]),
                f"{row['pages_kept']:,}",
                _share(row["precision_outside_seed"]),
                _share(row["share_already_there"]),
            )
            for row in rounds
        ),
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
