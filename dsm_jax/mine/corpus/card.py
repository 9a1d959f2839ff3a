"""The corpus's card: what is in it, where it comes from, and what to know before using or sharing it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MOST_DOMAINS = 100
_MARKS = re.compile(r"[|<`\[!\\]")  # of Markdown: a page's host may hold any


class CorpusCounts:
    """Counts of the corpus's rows as they pass. Memory grows with its domains."""

    def __init__(self) -> None:
        self.pages = self.tokens = 0
        self._by: dict[str, Counter[str]] = {name: Counter() for name in ("domain", "language", "iteration")}

    def counted(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows, each counted."""
        for row in rows:
            self.pages += 1
            self.tokens += row["words"]
            for name, counts in self._by.items():
                counts[str(row[name])] += 1
            yield row

    def summary(self) -> dict[str, Any]:
        """Pages, tokens, and pages by iteration, language and domain (the MOST_DOMAINS largest), largest first."""
        largest = {
            name: sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            for name, counts in self._by.items()
        }
        return {
            "pages_kept": self.pages,
            "tokens_kept": self.tokens,
            "corpus_domains": len(self._by["domain"]),
            "corpus_by": {
                name: [list(item) for item in items[:MOST_DOMAINS]] for name, items in largest.items()
            },
        }


def card(funnel: Mapping[str, Any]) -> str:
    """The card, in Markdown, from the content of funnel.json."""
    by = funnel["corpus_by"]
    parts = [
        "# A mined corpus of mathematical web pages",
        _what(funnel),
        _table("## How it came about", ("step", "pages"), _steps(funnel)),
        _clean(funnel),
        _table("## By iteration", ("first collected in iteration", "pages"), by["iteration"]),
        _table("## By language", ("language, or script", "pages"), by["language"]),
        _table("## By domain, the largest", ("domain", "pages"), by["domain"]),
        _NOTE,
    ]
    return "\n\n".join(parts) + "\n"


def _what(funnel: Mapping[str, Any]) -> str:
    return (
        f"{funnel['pages_kept']:,} pages with {funnel['tokens_kept']:,} words (a CJK character is one), from "
        f"{funnel['corpus_domains']:,} domains. Read it by `dsm_jax.mine.corpus.export.read_corpus` or by "
        '`tfds.builder_from_directory(folder).as_data_source("train")`; each record has text, url, warc, offset, '
        "score, iteration and language."
    )


def _clean(funnel: Mapping[str, Any]) -> str:
    if not funnel["benchmarks"]:
        return "**No benchmark was given: nothing was looked for, and the corpus is not decontaminated.**"
    dirt = funnel["contamination"]
    return (
        f"Benchmark texts ({', '.join(funnel['benchmarks'])}): {dirt['hits']:,} found, "
        f"{dirt['lines_removed']:,} lines removed from {dirt['pages_touched']:,} pages, "
        f"{dirt['pages_dropped']:,} pages dropped. Each is listed with both texts in contamination.jsonl.gz."
    )


def _steps(funnel: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [
        ("records read", funnel["records"]),
        ("pages with HTML or text", funnel["pages_in"]),
        ("unique, with text", funnel["pages_unique"]),
        *((f"collected by iteration {row['iteration']}", row["pages_kept"]) for row in funnel["iterations"]),
        ("after decontamination", funnel["pages_kept"]),
    ]


def _table(title: str, header: tuple[str, str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [f"{title}\n", f"| {header[0]} | {header[1]} |", "|---|---|"]
    for name, count in rows:
        shown = _MARKS.sub(r"\\\g<0>", str(name)) or "(none)"
        lines.append(f"| {shown} | {count:,} |")
    return "\n".join(lines)


_NOTE = """## Before you use or share it

- **Licences.** Every page keeps its own author's rights; the corpus gives none. Some pages are under open licences, most
  are not. The url of each record says where to look.
- **Robots.** The crawl decided what to fetch. Nothing here asks whether a site has since refused crawlers, or the use of
  its pages for training; publishers' opt-outs have to be applied by url.
- **Personal data.** Names, addresses and the like were not removed. Pages of forums and course sites hold them.
- **Quality.** A classifier chose these pages; some are not mathematics, and some of what they say is wrong.
"""
