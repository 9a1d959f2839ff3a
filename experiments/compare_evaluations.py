"""Two runs of evaluate.py side by side, problem by problem: differences, a paired test, and what changed.

    python experiments/compare_evaluations.py runs/grpo-evaluation runs/sft-evaluation --out compare.html

Prints a row for each benchmark and protocol that both have, and writes a page with the problems that changed. The first
run's numbers less the second's. Left out on purpose: curves of training (compare_runs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.comparison import Comparison, compare
from dsm_jax.evaluate.figures import interval_bars
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.evaluate.samples import Sample, by_problem, read_samples
from dsm_jax.run import require_writable

SAMPLES = "samples"
SHOWN = 5  # problems gained and lost
QUESTION, LONGEST = 400, 1500  # characters of a prompt and of an answer, from their ends


@dataclass(frozen=True)
class Options:
    """Options."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()  # two folders of evaluate.py
    preset: str = "default"
    mode: Literal["strict", "flexible", "deepseek"] = "strict"  # the grader's
    out: Path = Path("compare.html")  # the page


def main(config: Options) -> None:
    if len(config.runs) != 2:
        raise UserError(f"{len(config.runs)} runs: give the folders of two that evaluate.py wrote")
    require_writable(config.out, "--out")
    ours, theirs = (read_run(run) for run in config.runs)
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise UserError(f"{config.runs[0]} and {config.runs[1]} have no benchmark and protocol in common")
    known = [name for name in shared if all(has_verdicts(run[name], config.mode) for run in (ours, theirs))]
    for name in shared:
        if name not in known:
            print(f"{name}: not scored in mode {config.mode}, left out")
    found = {name: compare(ours[name], theirs[name], config.mode) for name in known}
    if not found:
        raise UserError(f"nothing that both runs have is scored in mode {config.mode}")
    table = overview(found)
    print_table(found)
    bars = {name: {"first": one.ours, "second": one.theirs} for name, one in found.items()}
    sections = [Section("Scores", (table, interval_bars("Accuracy with 95% intervals.", bars)))]
    sections += [
        Section(name, tuple(changes(one, ours[name], theirs[name], config.mode)))
        for name, one in found.items()
        if one.gained or one.lost
    ]
    lead = f"{config.runs[0]} (first) less {config.runs[1]} (second), mode {config.mode}, paired by problem."
    write_report(config.out, "Evaluations compared", lead, sections)
    print(config.out)


def read_run(run: Path) -> dict[str, list[Sample]]:
    """Samples by benchmark and protocol."""
    folders = sorted(folder for folder in (run / SAMPLES).glob("*") if folder.is_dir())
    if not folders:
        raise UserError(f"{run}: no samples/ there; give the --out of evaluate.py")
    return {folder.name: rows for folder in folders if (rows := read_samples(folder))}


def overview(found: Mapping[str, Comparison]) -> Table:
    header = (
        "benchmark and protocol",
        "n",
        "first %",
        "second %",
        "difference, points",
        "p",
        "verdict",
        "unpaired",
    )
    rows = []
    for name, one in found.items():
        points = f"{100 * one.difference.value:+.1f} ({100 * one.difference.low:+.1f} to {100 * one.difference.high:+.1f})"
        shares = (f"{100 * one.ours.value:.1f}", f"{100 * one.theirs.value:.1f}")
        rows.append(
            (name, f"{one.ours.n:,}", *shares, points, f"{one.p:.3g}", one.verdict, str(one.unpaired))
        )
    return Table(header, tuple(rows))


def has_verdicts(rows: Sequence[Sample], mode: str) -> bool:
    return any(row.correct.get(mode) is not None for row in rows)


def changes(
    found: Comparison, ours: Sequence[Sample], theirs: Sequence[Sample], mode: str
) -> Iterator[str | Table]:
    """What was gained and lost: the end of the question, how often each run is right, and answers that differ in that."""
    yield f"{len(found.gained):,} problems gained, {len(found.lost):,} lost."
    first, second = ({one[0].id: one for one in by_problem(rows)} for rows in (ours, theirs))
    rows = []
    for kind, names in (("gained", found.gained), ("lost", found.lost)):
        for name in names[:SHOWN]:
            sides = [
                _side(run[name], mode, wanted)
                for run, wanted in ((first, kind == "gained"), (second, kind == "lost"))
            ]
            rows.append((kind, name, _end(first[name][0].prompt, QUESTION), *sides, first[name][0].gold))
    yield Table(("", "problem", "prompt's end", "first", "second", "gold"), tuple(rows))


def _side(rows: Sequence[Sample], mode: str, wanted: bool) -> str:
    """An answer with the wanted verdict, or the first one, and how many are right."""
    row = next((row for row in rows if row.correct[mode] == wanted), rows[0])
    rights = sum(bool(row.correct[mode]) for row in rows)
    return f"{_end(row.response, LONGEST)}\n({rights} of {len(rows)} right)"


def _end(text: str, most: int) -> str:
    return text if len(text) <= most else "… " + text[-most:]


def print_table(found: Mapping[str, Comparison]) -> None:
    """Narrow enough for a terminal of 80 columns."""
    shown = Printed(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for number, header in enumerate(("benchmark-protocol", "n", "points", "95% interval", "p", "verdict")):
        shown.add_column(header, justify="right" if number else "left", no_wrap=True)
    for name, one in found.items():
        interval = f"{100 * one.difference.low:+.1f} to {100 * one.difference.high:+.1f}"
        shown.add_row(
            name, str(one.ours.n), f"{100 * one.difference.value:+.1f}", interval, f"{one.p:.2g}", one.verdict
        )
    Console().print(shown)


PRESETS = {"default": Options()}

if __name__ == "__main__":
    run_script(main, PRESETS)
