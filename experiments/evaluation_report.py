"""The table, results.json and report.html of evaluate.py, from the rows of its run. Not a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed

from dsm_jax.evaluate.figures import Picture, curves, interval_bars
from dsm_jax.evaluate.published import SOURCES, published
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.evaluate.samples import Sample
from dsm_jax.evaluate.scores import Interval

SHOWN = 2  # examples of each kind
PROMPT, LONGEST = 400, 1500  # characters of a prompt and of a response in an example, from its end
MOST_BARS = 12  # parts that are drawn
TITLES = {"by_subject": "By subject", "by_level": "By level", "by_language": "By language"}

KINDS = {"pass": "pass@k", "maj": "maj@k", "best": "best-of-k", "weighted_maj": "weighted maj@k"}
LENGTHS = "Answers in order of their length, in up to ten parts of equal size."
ENDINGS = (
    "Shares of all answers. Cut: at the limit of new tokens. Not asked: the prompt does not fit into the model's sequences "
    "(fewer --shots make it shorter). No answer: nothing that mode strict reads as one. Programs: answers with one that was "
    "run, and of all answers those whose program failed. Not scored: the gold answer is none, or no server checked the proof."
)

Key = tuple[str, str]  # benchmark, protocol
Summaries = Mapping[Key, Mapping[str, Any]]


def print_summaries(summaries: Summaries) -> None:
    """A row for each benchmark and protocol, narrow enough for a terminal of 80 columns; below it what was not asked."""
    modes = list(dict.fromkeys(mode for one in summaries.values() for mode in one["unscored"]))
    k = max((int(k) for one in summaries.values() for k in one.get("at_k", ())), default=0)
    kinds = [
        kind for kind in ("maj", "pass", "best") if any(kind in of_k(one, k) for one in summaries.values())
    ]
    shown = Printed(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for header in ("benchmark", "protocol"):
        shown.add_column(header, no_wrap=True)
    for header in (
        "n",
        f"{modes[0]} %",
        *(mode[:4] for mode in modes[1:]),
        *(f"{kind}@{k}" for kind in kinds),
    ):
        shown.add_column(header, justify="right", no_wrap=True)
    for key, one in summaries.items():
        others = [
            *(one["accuracy"].get(mode) for mode in modes[1:]),
            *(of_k(one, k).get(kind) for kind in kinds),
        ]
        values = (f"{100 * score['value']:.1f}" if score else "-" for score in others)
        shown.add_row(*key, str(one["problems"]), percent(right(one), digits=0), *values)
    Console().print(shown)
    for key, one in summaries.items():
        if count := not_asked(one):
            answers = one["problems"] * one["samples"]
            print(f"{' '.join(key)}: {count:,} of {answers:,} answers are none: {one['error']}")
        if proofs := one.get("unchecked"):
            print(f"{' '.join(key)}: {proofs:,} proofs unchecked: give --isabelle HOST:PORT")


def of_k(summary: Mapping[str, Any], k: int) -> Mapping[str, Any]:
    return summary.get("at_k", {}).get(str(k), {})


@dataclass(frozen=True)
class Shown:
    """What the page shows of the answers to one benchmark under one protocol."""

    lengths: tuple[Picture, ...]
    examples: tuple[str | Table, ...]


def show(key: Key, rows: Sequence[Sample]) -> Shown:
    return Shown(tuple(lengths(key, rows)), tuple(examples(key, rows)))


def write_evaluation_report(
    path: Path, model: str, summaries: Summaries, shown: Mapping[Key, Shown], notes: Sequence[str]
) -> None:
    """One page: the table, the paper's scores beside it, pictures, groups, and examples of every kind of failure."""
    sections = [Section("Scores", (*notes, overview(summaries), *bars(summaries)))]
    sections.append(Section("How answers ended", (endings(summaries), ENDINGS)))
    if tables := list(leaderboards(model, summaries)):
        sections.append(Section("Beside the paper's tables", tuple(tables)))
    if any("at_k" in one for one in summaries.values()):
        sections.append(Section("Over k samples", tuple(over_k(summaries))))
    for name, title in TITLES.items():
        if parts := list(groups(summaries, name)):
            sections.append(Section(title, tuple(parts)))
    if pictures := [picture for one in shown.values() for picture in one.lengths]:
        sections.append(Section("Length and correctness", (*pictures, LENGTHS)))
    sections.append(Section("Examples", tuple(part for one in shown.values() for part in one.examples)))
    asked = {benchmark: summary["problems"] for (benchmark, _), summary in summaries.items()}
    lead = f"{model}: {', '.join(f'{count:,} problems of {name}' for name, count in asked.items())}."
    write_report(path, "Evaluation", lead, sections)


def overview(summaries: Summaries) -> Table:
    """Percent right with 95% intervals by mode, then maj and pass at the largest k."""
    modes = list(dict.fromkeys(mode for one in summaries.values() for mode in one["unscored"]))
    sampled = any("at_k" in one for one in summaries.values())
    header = (
        "benchmark",
        "protocol",
        "n",
        *(f"{mode} %" for mode in modes),
        *(("maj@k", "pass@k") if sampled else ()),
    )
    rows = []
    for key, one in summaries.items():
        k, scores = max(one.get("at_k", {"": {}}).items(), key=lambda item: int(item[0] or 0))
        last = [
            f"{percent(Interval(**scores[name]))} @{k}" if name in scores else "-" for name in ("maj", "pass")
        ]
        shares = (percent(right(one, mode)) for mode in modes)
        rows.append((*key, f"{one['problems']:,}", *shares, *(last if sampled else ())))
    return Table(header, tuple(rows))


def endings(summaries: Summaries) -> Table:
    """How answers ended: shares of all of them."""
    header = (
        "benchmark",
        "protocol",
        "answers",
        "cut",
        "not asked",
        "no answer",
        "programs",
        "failed",
        "not scored",
        "tokens",
    )
    rows = []
    for key, one in summaries.items():
        answers = one["problems"] * one["samples"]
        executed = one.get("executed", {})
        counts = (
            one["finish"].get("length", 0),
            not_asked(one),
            one["no_answer"],
            sum(executed.values()) - executed.get("no program", 0),
            sum(executed.values()) - executed.get("no program", 0) - executed.get("ok", 0),
            one["samples"] * next(iter(one["unscored"].values())),
        )
        rows.append(
            (*key, f"{answers:,}", *(f"{count / answers:.1%}" for count in counts), f"{one['tokens']:,.0f}")
        )
    return Table(header, tuple(rows))


def percent(score: Interval | None, digits: int = 1) -> str:
    """A share and its interval, in percent. digits: of the interval, behind the point."""
    if score is None:
        return "-"
    return f"{100 * score.value:.1f} ({100 * score.low:.{digits}f} to {100 * score.high:.{digits}f})"


def right(summary: Mapping[str, Any], mode: str | None = None) -> Interval | None:
    """The accuracy in a mode, by default the first; None where nothing could be scored."""
    scores = summary["accuracy"]
    score = scores.get(mode) if mode else next(iter(scores.values()), None)
    return Interval(**score) if score else None


def bars(summaries: Summaries) -> Iterator[Picture]:
    scores: dict[str, dict[str, Interval]] = {}
    for (benchmark, protocol), summary in summaries.items():
        if score := right(summary):
            scores.setdefault(benchmark, {})[protocol] = score
    if scores:
        yield interval_bars("Accuracy with 95% intervals, by benchmark and protocol.", scores)


def leaderboards(model: str, summaries: Summaries) -> Iterator[str | Table]:
    """Of each protocol the paper's rows and ours, in each mode, for the benchmarks of which every problem was asked."""
    for protocol in dict.fromkeys(protocol for _, protocol in summaries):
        ours = {benchmark: summary for (benchmark, one), summary in summaries.items() if one == protocol}
        rows = [row for row in published(protocol) if row.scores.keys() & ours.keys()]
        names = [
            name for name in ours if any(name in row.scores for row in rows) and not not_asked(ours[name])
        ]
        if not names:
            continue
        yield f"{protocol}: percent, {SOURCES[protocol]} of the paper. Mode deepseek follows the paper's rules."
        table = [
            (row.model, *(f"{row.scores[name]:.1f}" if name in row.scores else "-" for name in names))
            for row in rows
        ]
        for mode in ours[names[0]]["unscored"]:
            table.append((f"this run, {mode}", *(percent(right(ours[name], mode)) for name in names)))
        table.append(("its problems", *(f"{ours[name]['problems']:,}" for name in names)))
        yield Table(("model", *names), tuple(table))


def not_asked(summary: Mapping[str, Any]) -> int:
    """Answers whose prompt was not put, because it does not fit into the model's sequences or for another mistake."""
    return summary["finish"].get("error", 0)


def over_k(summaries: Summaries) -> Iterator[Picture | Table]:
    for (benchmark, protocol), summary in summaries.items():
        if "at_k" not in summary:
            continue
        kinds = list(dict.fromkeys(kind for scores in summary["at_k"].values() for kind in scores))
        series = {
            KINDS[kind]: [(float(k), scores[kind]["value"]) for k, scores in summary["at_k"].items()]
            for kind in kinds
        }
        yield curves(
            f"{benchmark}, {protocol}: accuracy over k.", series, xlabel="k samples", ylabel="accuracy"
        )
        rows = [
            (k, *(percent(Interval(**scores[kind])) for kind in kinds))
            for k, scores in summary["at_k"].items()
        ]
        yield Table((f"{benchmark}, {protocol}: k", *(KINDS[kind] for kind in kinds)), tuple(rows))


def groups(summaries: Summaries, name: str) -> Iterator[str | Table | Picture]:
    """Of each benchmark its parts, the protocols side by side."""
    found: dict[str, dict[str, dict[str, Interval]]] = {}
    for (benchmark, protocol), summary in summaries.items():
        for part, score in summary.get(name, {}).items():
            found.setdefault(benchmark, {}).setdefault(part or "(none)", {})[protocol] = Interval(**score)
    for benchmark, parts in found.items():
        if len(parts) <= MOST_BARS:
            yield interval_bars(f"{benchmark}: accuracy {TITLES[name].lower()}.", parts)
        protocols = list(dict.fromkeys(protocol for scores in parts.values() for protocol in scores))
        rows = [
            (
                part,
                f"{next(iter(scores.values())).n:,}",
                *(percent(scores.get(protocol)) for protocol in protocols),
            )
            for part, scores in parts.items()
        ]
        yield Table((f"{benchmark}, {name.removeprefix('by_')}", "n", *protocols), tuple(rows))


def lengths(key: Key, samples: Sequence[Sample]) -> Iterator[Picture]:
    """Answers by length, in tenths: the share that is right, and the share that was cut. Nothing for fewer than 20."""
    known = [row for row in samples if is_right(row) is not None and row.finish != "error"]
    if len(known) < 20:
        return
    parts = np.array_split(sorted(known, key=lambda row: row.tokens), min(10, len(known) // 10))
    middle = [float(np.median([row.tokens for row in part])) for part in parts]
    shares = {
        "right": [float(np.mean([bool(is_right(row)) for row in part])) for part in parts],
        "cut": [float(np.mean([row.finish == "length" for row in part])) for part in parts],
    }
    series = {name: list(zip(middle, values, strict=True)) for name, values in shares.items()}
    yield curves(
        f"{key[0]}, {key[1]}: share right and cut by length.", series, xlabel="tokens", ylabel="share"
    )


def examples(key: Key, samples: Sequence[Sample]) -> Iterator[str | Table]:
    """The first answers of each kind."""
    kinds: dict[str, list[Sample]] = {}
    for row in samples:
        kinds.setdefault(kind_of(row), []).append(row)
    yield f"{key[0]}, {key[1]}: " + ", ".join(
        f"{len(found):,} {kind}" for kind, found in sorted(kinds.items())
    )
    shown = [(kind, *_shown(row)) for kind, found in sorted(kinds.items()) for row in found[:SHOWN]]
    yield Table(("kind", "problem", "prompt's end", "answer", "read as", "gold"), tuple(shown))


def kind_of(row: Sample) -> str:
    """What an answer is, in mode strict."""
    if row.finish == "error":
        return "broken off" if row.tokens else "not asked"
    if (right := is_right(row)) is None:
        return "gold cannot be scored"
    if right:
        return "right"
    if row.executed not in ("", "ok"):
        return f"program: {row.executed}"
    if row.extracted is None:
        return "cut, no answer" if row.finish == "length" else "no answer"
    return "wrong"


def is_right(row: Sample) -> bool | None:
    return next(iter(row.correct.values()))


def _shown(row: Sample) -> tuple[str, ...]:
    answer = (
        f"{_end(row.response, LONGEST)}\n({row.reason})"
        if row.finish == "error"
        else _end(row.response, LONGEST)
    )
    return row.id, _end(row.prompt, PROMPT), answer, row.extracted or "", row.gold


def _end(text: str, most: int) -> str:
    return text if len(text) <= most else "… " + text[-most:]
