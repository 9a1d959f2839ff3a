"""Lays the curves of several runs over each other, with what they ended in and how their options differ.

    python experiments/compare_runs.py runs/a runs/b --out compare.html

Prints the table and writes one page that needs nothing else. A run is the folder, or the URL, of any training script, running
or ended.
Left out on purpose: runs of TensorBoard or of other tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed
from training_curves import Rows, last_values, pictures

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.place import find_place
from dsm_jax.run import CONFIG, options, read_json, read_metrics, require_writable


@dataclass(frozen=True)
class Comparison:
    """Options."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()  # folders or URLs of runs
    preset: str = "default"
    x: Literal["step", "tokens", "seconds"] = "step"  # what the curves go over
    out: Path = Path("compare.html")  # the page


def main(config: Comparison) -> None:
    if not config.runs:
        raise UserError("no runs: give the folders of two or more, each with a metrics.jsonl")
    require_writable(config.out, "--out")
    names, folders = labels(config.runs), [find_place(run).folder for run in config.runs]
    runs = dict(zip(names, map(rows_of, folders), strict=True))
    values, differing = last_values(runs), differences(names, folders)
    print_table(values)
    print_table(differing)
    sections = [
        Section("Where they ended", (values,)),
        Section("Options that differ", (differing,) if differing.rows else ("None.",)),
        Section("Curves", tuple(pictures(runs, x=config.x))),
    ]
    write_report(config.out, "Runs compared", ", ".join(config.runs), sections)
    print(config.out)


def labels(runs: Sequence[str]) -> list[str]:
    """The shortest ends of their paths that tell them apart."""
    parts = [tuple(run.split("/")) if "://" in run else Path(run).resolve().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise UserError("a run is given twice")
    length = 1
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ["/".join(part[-length:]) for part in parts]


def rows_of(run: Path) -> Rows:
    if not (run / "metrics.jsonl").is_file():
        raise UserError(f"{run}: no metrics.jsonl there; give the folder of a run")
    rows = read_metrics(run / "metrics.jsonl")
    if not rows:
        raise UserError(f"{run}/metrics.jsonl has no row yet")
    return rows


def differences(names: Sequence[str], runs: Sequence[Path]) -> Table:
    """The options with other values in one of the runs. A stage of a larger run has its options there."""
    configs = []
    for run in runs:
        file = next((at / CONFIG for at in (run, run.resolve().parent) if (at / CONFIG).is_file()), None)
        configs.append(options(read_json(file)) if file else {})
    every = sorted({name for config in configs for name in config})
    rows = [(name, *(config.get(name, "") for config in configs)) for name in every]
    return Table(("option", *names), tuple(row for row in rows if len(set(row[1:])) > 1))


def print_table(table: Table) -> None:
    if not table.rows:
        return
    shown = Printed(*map(escape, table.header), box=SIMPLE_HEAD)
    for row in table.rows:
        shown.add_row(*map(escape, row))
    Console().print(shown)


PRESETS = {"default": Comparison()}

if __name__ == "__main__":
    run_script(main, PRESETS)
