"""results.json, the printed summary and report.html of label_steps_7b.py, from the files of its run. Not a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation_report import percent
from marked_steps import asked, marked_steps
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed

from dsm_jax.evaluate.figures import curves, horizontal_bars
from dsm_jax.evaluate.report import Marked, Part, Section, Table, write_report
from dsm_jax.evaluate.scores import Interval
from dsm_jax.rl.shepherd.chunks import chunk_files, labels_of, rows_in
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.labelling import StepLabels
from dsm_jax.rl.shepherd.run import LABELLED, label_counts, pool_counts
from dsm_jax.rl.shepherd.summary import ALL, COMPLETED, GOOD, Summary, Truth, summarize

SHOWN = 12  # solutions on the page

Results = Mapping[str, Any]


def labelled_in(out: Path) -> Iterator[StepLabels]:
    """One by one: all of them need not fit into memory."""
    return (labels_of(row) for file in chunk_files(out / LABELLED) for row in rows_in(file))


def collect(out: Path, config: Shepherd, truth: Truth) -> dict[str, Any]:
    """results.json: what was counted, what labels look like, and how right they are where the truth is known."""
    pools, counts = pool_counts(out), label_counts(out)
    summary = Summary(config.n, truth, kept=config.keep_draws or config.estimate == "soft")
    left = pools.problems - pools.without - counts.problems
    return {
        "pool": asdict(pools),
        "labels": asdict(counts) | {"saved": counts.saved},
        "max_decoded": config.max_decoded,
        "problems_left": left,  # by it
        "steps": summarize(labelled_in(out), summary),
    }


def print_results(results: Results, out: Path) -> None:
    for line in told(results):
        print(line)
    if results["steps"]["truth"]:
        table = Printed("labels beside the truth, %", box=SIMPLE_HEAD)
        for header in HEADER:
            table.add_column(header, justify="right", no_wrap=True)
        for row in truth_rows(results["steps"]):
            table.add_row(*(cell.partition(" (")[0] for cell in row))  # a terminal has no room for intervals
        Console().print(table)
    truths = ", truths.jsonl" if results["steps"]["truth"] else ""
    print(f"{out}: report.html, results.json, labels.jsonl, math_shepherd.jsonl{truths}")


def told(results: Results) -> list[str]:
    """What was done, in sentences."""
    pool, labels = results["pool"], results["labels"]
    lines = [
        (
            f"pool: {pool['sampled']:,} solutions of {pool['problems']:,} problems; {pool['unfinished']:,} never ended, "
            f"{pool['repeated']:,} repeated, {pool['kept']:,} kept, {pool['right']:,} of them right; {pool['empty']:,} problems "
            f"without one, {pool['too_long']:,} too long, {pool['unscored']:,} that cannot be scored"
        ),
        (
            f"labels: {labels['solutions']:,} solutions of {labels['steps']:,} steps ({labels['too_long']:,} too long), "
            f"{labels['prefixes']:,} different beginnings"
        ),
        (
            f"cost: {labels['decoded']:,} tokens decoded in {labels['completions']:,} completions ({labels['hits']:,} right, "
            f"{labels['cut']:,} cut), {labels['prefill']:,} prefilled; each step of each solution by itself: about "
            f"{labels['naive_decoded']:,} in {labels['naive_completions']:,}, {labels['naive_prefill']:,} prefilled: "
            f"{labels['saved']:.0%} of decoding saved"
        ),
    ]
    if left := results["problems_left"]:
        lines.append(f"--max-decoded: {left:,} problems are not labelled")
    return lines


HEADER = ("labels", "steps", "true", "accuracy", "balanced", "majority", "AUC")
NAMES = {ALL: "these", COMPLETED: "no last steps"}


def truth_rows(steps: Results) -> list[tuple[str, ...]]:
    shares = ("accuracy", "balanced_accuracy", "majority", "auc")
    return [
        (
            NAMES.get(name, name),
            f"{one['steps']:,}",
            f"{100 * one['true']:.1f}",
            *(_share(one[share]) for share in shares),
        )
        for name, one in steps["truth"].items()
    ]


def _share(score: Results | None) -> str:
    return percent(Interval(**score) if score else None, digits=0)


def write_label_report(out: Path, lead: str, results: Results, truth: Truth) -> None:
    steps = results["steps"]
    sections = [Section("What was done", tuple(told(results)))]
    if steps["truth"]:
        note = (
            "The truth of each step of a generated problem is known: it and all before it are right. A last step's label is "
            "whether its solution is right; all rows but the first leave last steps out; hard 4: from the first four "
            "completions. Balanced: the mean of the accuracies on true and on false steps. Majority: one label for all. "
            "Intervals are of 95%, over problems."
        )
        sections.append(Section("Beside the truth", (note, Table(HEADER, tuple(truth_rows(steps))))))
    sections.append(Section("Where steps go wrong", tuple(pictures(steps))))
    sections.append(Section("Solutions", tuple(shown(out, truth))))
    write_report(out / "report.html", "Labels of steps", lead, sections)


def pictures(steps: Results) -> Iterator[Part]:
    points = [(float(place), good / count) for place, (good, count) in steps["positions"].items()]
    yield curves("Share of good steps by position.", {"good": points}, xlabel="step", ylabel="share good")
    places = {
        ("none" if place == "0" else f"step {place}"): count for place, count in steps["first_bad"].items()
    }
    yield horizontal_bars("Solutions by their first bad step.", places)


def shown(out: Path, truth: Truth) -> Iterator[Part]:
    yield (
        "Green: a step from which the right answer is still found, red: none. Behind each step its completions in the order "
        "they were drawn, 1 for a right one, and where it is known and differs, the truth."
    )
    for one in islice(_some(out, set()), SHOWN):
        yield _marked(one, truth)


def _some(out: Path, taken: set[tuple[str, bool]]) -> Iterator[StepLabels]:
    """The first right and the first wrong solution of each question."""
    for one in labelled_in(out):
        kind = one.labelled.question, one.labelled.labels[-1] >= GOOD
        if kind not in taken:
            taken.add(kind)
            yield one


def _marked(one: StepLabels, truth: Truth) -> Marked:
    labelled = one.labelled
    pairs = zip(labelled.labels, one.draws, strict=True)
    return marked_steps(
        asked(labelled.question, labelled.answer), labelled.completion, labelled.ends,
        [label >= GOOD for label in labelled.labels],
        [f"{label:g}{f' ({drawn})' if drawn else ''}" for label, drawn in pairs],
        truth(labelled),
    )  # fmt: skip
