"""results.json, the printed table and report.html of best_of_n.py, from the samples and scores of its run. Not a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evaluation_report import percent
from grpo_rewards import kind_of
from marked_steps import asked, marked_steps
from reward_model_report import SAID, measure_rows
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed

from dsm_jax.errors import UserError
from dsm_jax.evaluate.at_k import usual_ks
from dsm_jax.evaluate.figures import Picture, bands, calibration_curves
from dsm_jax.evaluate.report import Marked, Part, Section, Table, write_report
from dsm_jax.evaluate.samples import Sample, by_problem, read_samples
from dsm_jax.evaluate.scores import Interval
from dsm_jax.rl.reward_model.measures import (
    Scored,
    calibration,
    first_error_threshold,
    scored,
    step_measures,
)
from dsm_jax.rl.reward_model.scored_samples import Key, SampleScores, read_scores
from dsm_jax.rl.reward_model.verify import (
    AGGREGATES,
    ANY,
    MAJORITY,
    Choice,
    Samples,
    between,
    verification_table,
    verify,
)

SHOWN = 6  # questions on the page
HEADER = ("", "", "95% interval")
CHOSEN = "first_error_f1_chosen"
NOTE = (
    "Of each question's samples every choice of so many counts (weighted votes: the groups one after the other). One sample: the "
    "mean over samples. Any of them: pass@N, which no choice exceeds. Intervals are of 95%, over questions; differences are "
    "paired by question; p: two-sided, that neither is better than self-consistency."
)
Truths = Callable[[str, str, Sequence[int]], Sequence[bool] | None]  # (id, text, ends) -> of each step


@dataclass(frozen=True)
class Judged:
    """The samples of each question, and what a reward model says of them."""

    kind: str
    rows: Sequence[Sequence[Sample]]
    scores: Mapping[Key, SampleScores]

    def of(self, row: Sample) -> SampleScores:
        return self.scores[row.id, row.sample]

    @property
    def aggregates(self) -> tuple[str, ...]:
        return tuple(AGGREGATES) if self.kind == "process" else ("last",)

    def samples(self) -> list[Samples]:
        return [
            Samples(
                [row.vote for row in of],
                [bool(row.correct["strict"]) for row in of],
                [self.of(row).scores for row in of],
            )
            for of in self.rows
        ]


def collect(
    samples: Path,
    scores: Mapping[str, Path],
    n: int,
    groups: int,
    questions: Mapping[str, str],
    truths: Truths,
) -> tuple[dict[str, Any], list[Part]]:
    """results.json, and solutions for the page. scores: the folder of each reward model, by its name."""
    rows = by_problem(read_samples(samples))
    judged = {name: Judged(kind_of(name), rows, read_scores(folder)) for name, folder in scores.items()}
    flat = [row for of in rows for row in of]
    results: dict[str, Any] = {
        "problems": len(rows),
        "samples": n * groups,
        "not_asked": sum(row.finish == "error" for row in flat),
        "cut": sum(row.finish == "length" for row in flat),
        "rewards": [{"name": name} | _of_model(one, flat, n, truths) for name, one in judged.items()],
        "between": _between(judged, n),
    }
    first = next(iter(judged.values()))
    return results, [part for of in rows[:SHOWN] for part in _shown(first, of, questions[of[0].id], truths)]


def _of_model(one: Judged, flat: Sequence[Sample], n: int, truths: Truths) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "without": sum(not len(one.of(row).scores) for row in flat),
        "choices": [asdict(choice) for choice in verify(one.samples(), usual_ks(n), one.aggregates)],
        "measures": _measured(one, flat, truths),
    }


def _between(judged: Mapping[str, Judged], n: int) -> dict[str, dict[str, Any]]:
    """The first reward model less each other one, as Math-Shepherd compares: a process model's least step, an outcome
    model's one score."""
    (name, first), *others = judged.items()
    return {
        f"{name} over {other}": {
            key: asdict(value)
            for key, value in between(
                first.samples(), one.samples(), n, (first.aggregates[0], one.aggregates[0])
            ).items()
        }
        for other, one in others
    }


# Beside the truth


def _measured(one: Judged, flat: Sequence[Sample], truths: Truths) -> dict[str, Any]:
    """Of an outcome reward model beside the grader; of steps beside their truth, {} where that is not known."""
    scores, known, names = [], [], []
    for row in flat:
        found = one.of(row)
        if not len(found.scores):
            continue
        right = (
            truths(row.id, row.response, found.ends)
            if one.kind == "process"
            else [bool(row.correct["strict"])]
        )
        if right is None:
            return {}
        scores.append(found.scores)
        known.append(right)
        names.append(row.id)
    if not scores:
        return {}
    data = scored(scores, known, names)
    bins = [(score, asdict(share)) for score, share in calibration(data)]
    chosen = _with_chosen_threshold(scores, known, names) if one.kind == "process" else {}
    return asdict(step_measures(data)) | chosen | {"calibration": bins}


def _with_chosen_threshold(
    scores: Sequence[Any], truths: Sequence[Any], names: Sequence[str]
) -> dict[str, Any]:
    """First-error F1 of every second question, at the threshold that is best on the others; {} where these cannot tell."""
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}

    def part(odd: int) -> Scored:
        chosen = [row for row, name in enumerate(names) if place[name] % 2 == odd]
        return scored(*([values[row] for row in chosen] for values in (scores, truths, names)))

    try:
        threshold = first_error_threshold(part(0))
        found = step_measures(part(1), threshold=threshold)
    except UserError:
        return {}
    f1 = found.first_error_f1
    return {"chosen_threshold": threshold, CHOSEN: asdict(f1) if f1 else None}


# On the terminal


def print_results(results: Mapping[str, Any], out: Path) -> None:
    for one in results["rewards"]:
        most = max(choice["k"] for choice in one["choices"])
        print(f"{one['name']}: {most} answers to each of {results['problems']:,} questions, %")
        table = Printed(box=SIMPLE_HEAD, padding=0)
        for header in ("choice", "right", "over one", "over votes"):
            table.add_column(header, justify="left" if header == "choice" else "right", no_wrap=True)
        for choice in one["choices"]:
            if choice["k"] == most:
                over = (f"{100 * choice[key]['value']:+.1f}" for key in ("over_one", "over_majority"))
                table.add_row(choice["name"], percent(Interval(**choice["share"]), digits=0), *over)
        Console().print(table)
        for row in measure_rows(one["measures"], _said(one)):
            print(": ".join(row[:2]), f"({row[2]})")
    print(f"{out}: report.html, results.json, samples/, scores/")


# On the page


def report(out: Path, lead: str, results: Mapping[str, Any], shown: Sequence[Part]) -> None:
    sections = [Section("What was asked", (_counted(results),))]
    for one in results["rewards"]:
        choices = [_choice(row) for row in one["choices"]]
        most = max(choice.k for choice in choices)
        table = verification_table([choice for choice in choices if choice.k == most])
        drawn = drawn_ways("min" if one["kind"] == "process" else "last")
        parts: tuple[Part, ...] = (NOTE, table, _over_n(choices, drawn), _by_n(choices))
        sections.append(Section(f"Chosen by {one['name']}", parts))
    sections += [_beside_truth(one) for one in results["rewards"] if one["measures"]]
    if results["between"]:
        sections.append(Section("One reward model over another", (_between_table(results["between"]),)))
    sections.append(Section("Solutions", tuple(shown)))
    write_report(out / "report.html", "Verification: best of N", lead, sections)


def _counted(results: Mapping[str, Any]) -> str:
    without = "; ".join(f"{one['name']}: {one['without']:,}" for one in results["rewards"])
    return (
        f"{results['problems']:,} questions with {results['samples']:,} answers each; {results['cut']:,} answers were cut at the "
        f"limit and are scored as they stand, {results['not_asked']:,} are none, as the prompt does not fit. "
        f"Without a score, which counts as 0 (no text, or longer than the reward model reads): {without}."
    )


def _choice(row: Mapping[str, Any]) -> Choice:
    intervals = {name: Interval(**row[name]) for name in ("share", "over_one", "over_majority")}
    return Choice(**{**row, **intervals})


def drawn_ways(aggregate: str) -> tuple[str, ...]:
    """What the picture compares; the table has every way."""
    return MAJORITY, f"best by {aggregate}", f"{MAJORITY}, weighted by {aggregate}", ANY


def _over_n(choices: Sequence[Choice], drawn: Sequence[str]) -> Picture:
    series = {
        name: [[(float(one.k), one.share.value) for one in choices if one.name == name]] for name in drawn
    }
    return bands("Share answered right over the number of answers", series, xlabel="answers", log_x=True)


def _by_n(choices: Sequence[Choice]) -> Table:
    ks = sorted({one.k for one in choices})
    share = {(one.name, one.k): percent(one.share, digits=0) for one in choices}
    names = dict.fromkeys(one.name for one in choices)
    rows = tuple((name, *(share[name, k] for k in ks)) for name in names)
    return Table(("choice: % right, 95%", *(f"of {k}" for k in ks)), rows)


def _said(one: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the table of measures."""
    if one["kind"] == "outcome":
        return {key: SAID[key] for key in SAID if key not in ("auc_within", "first_error_f1")}
    threshold = one["measures"].get("chosen_threshold", 0.0)
    said = f"the same at {threshold:.2f}, chosen on half of the questions, of the others"
    names = [(key, text) for key, text in SAID.items() if key != "calibration_error"]
    return dict([*names, (CHOSEN, said), ("calibration_error", SAID["calibration_error"])])


def _beside_truth(one: Mapping[str, Any]) -> Section:
    name, measures = one["name"], one["measures"]
    steps = "step" if one["kind"] == "process" else "answer"
    note = (
        "The truth of each step of a generated problem is known: it and all before it are right. A step counts as right from "
        "0.5 on."
        if one["kind"] == "process"
        else "Beside the grader's verdict on the answer."
    )
    bins = [(score, Interval(**share)) for score, share in measures["calibration"]]
    picture = calibration_curves(
        f"Calibration: share of right {steps}s by mean score, in ten bins", {name: bins}
    )
    counts = f"{measures['steps']:,} {steps}s of {measures['solutions']:,} answers."
    table = Table(HEADER, tuple(measure_rows(measures, _said(one))))
    return Section(f"{name} beside the truth", (f"{note} {counts}", table, picture))


def _between_table(between: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = tuple(
        (pair, way, f"{100 * one['value']:+.1f}", f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}")
        for pair, ways in between.items()
        for way, one in ways.items()
    )
    return Table(("reward models", "chosen", "points", "95%"), rows)


def _shown(one: Judged, of: Sequence[Sample], question: str, truths: Truths) -> list[Marked]:
    """The sample of a question that is chosen, and the one of the lowest score."""
    aggregate = AGGREGATES[one.aggregates[0]]
    with_score = [row for row in of if len(one.of(row).scores)]
    if not with_score:
        return []
    ordered = sorted(with_score, key=lambda row: -aggregate(one.of(row).scores))
    pairs = [("chosen", ordered[0]), ("lowest", ordered[-1])]
    return [
        _marked(one, row, f"{said}: {asked(question, row.gold)}", truths)
        for said, row in pairs[: len(ordered)]
    ]


def _marked(one: Judged, row: Sample, head: str, truths: Truths) -> Marked:
    found = one.of(row)
    known = truths(row.id, row.response, found.ends) if one.kind == "process" else None
    good = np.asarray(found.scores) >= 0.5
    said = [f"{score:.2f}" for score in found.scores]
    verdict = "right" if row.correct["strict"] else "wrong"
    return marked_steps(
        f"{head}, this one is {verdict}", row.response, found.ends, good.tolist(), said, known
    )
