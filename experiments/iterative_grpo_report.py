"""results.json, the printed summary and report.html of iterative_grpo_7b.py, from its iterations' folders. Not a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from training_curves import pictures

from dsm_jax.evaluate.figures import Picture, interval_bars, save
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.evaluate.scores import Interval
from dsm_jax.run import CONFIG, options, read_json, read_metrics

PHASES = ("labels", "reward_model", "policy")
HEADER = (
    "iteration",
    "updates",
    "greedy before",
    "after",
    "difference",
    "reward",
    "good steps",
    "reward model's AUC",
    "within",
)
Results = Mapping[str, Any]


def collect(iterations: Sequence[Path]) -> dict[str, Any]:
    """The results of every phase, by iteration."""
    return {"iterations": [_of_phases(folder) for folder in iterations]}


def print_results(results: Results, out: Path) -> None:
    table = Printed(box=SIMPLE_HEAD)
    for header in HEADER:
        table.add_column(header, justify="right")
    for row in rows(results):
        table.add_row(*row)
    Console().print(table)
    print(
        f"{out}: report.html, results.json; the last policy: iteration-{len(results['iterations']):02d}/policy/model"
    )


def rows(results: Results) -> list[tuple[str, ...]]:
    """Of the table under HEADER: shares in % with 95% intervals, "" for what was not measured."""
    return [_row(number, one) for number, one in enumerate(results["iterations"], start=1)]


def report(out: Path, results: Results) -> None:
    """report.html: the iterations beside each other, their curves one after the other, the configuration; iterations.png
    has the bars."""
    folders = sorted(out.glob("iteration-*"))
    bars = _bars(results)
    save(bars, out)
    config = tuple(sorted(options(read_json(out / CONFIG)).items()))
    sections = [
        Section("Iterations", (Table(HEADER, tuple(rows(results))), *bars.values())),
        Section("Step by step", tuple(pictures({"policy": _joined(folders)}))),
        Section("Phases", (_links(folders),)),
        Section("Configuration", (Table(("option", "value"), config),)),
    ]
    lead = f"{len(folders)} iterations of labels, reward model and GRPO; each one's reference is the policy that it began with"
    write_report(out / "report.html", "Iterative GRPO", lead, sections)


def _of_phases(folder: Path) -> dict[str, Any]:
    return {phase: read_json(folder / phase / "results.json") for phase in PHASES}


def _row(number: int, one: Results) -> tuple[str, ...]:
    labels, model, policy = (one[phase] for phase in PHASES)
    evaluation, positions = policy["evaluation"], labels["steps"]["positions"].values()
    good, steps = (sum(counts[i] for counts in positions) for i in (0, 1))
    scores = [_share(evaluation[name]["greedy"]) if evaluation else "" for name in ("first", "last")]
    difference = _share(evaluation["difference"], sign="+") if evaluation else ""
    reward = policy["reward"]
    found = [_value(model["held_out"].get(name)) for name in ("auc", "auc_within")]
    return (
        str(number), str(policy["steps"]), *scores, difference, f"{reward['first']:.3f} -> {reward['last']:.3f}",
        f"{100 * good / steps:.1f}", *found,
    )  # fmt: skip


def _bars(results: Results) -> dict[str, Picture]:
    """Accuracy before the first iteration and after each, as in the paper's figure 6."""
    evaluations = [one["policy"]["evaluation"] for one in results["iterations"]]
    if not all(evaluations):
        return {}
    scores = [evaluations[0]["first"], *(one["last"] for one in evaluations)]
    groups = {f"after iteration {i}" if i else "start": _intervals(one) for i, one in enumerate(scores)}
    caption = "Test questions answered right by each iteration's policy, with 95% intervals"
    return {"iterations": interval_bars(caption, groups)}


def _intervals(scores: Mapping[str, Any]) -> dict[str, Interval]:
    return {
        name: Interval(**score)
        for name, score in scores.items()
        if name not in ("step", "boxed", "greedy_boxed")
    }


def _joined(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every policy's metrics, numbered through."""
    found: list[dict[str, Any]] = []
    for folder in folders:
        before = found[-1]["step"] if found else 0
        found += [
            row | {"step": before + row["step"]} for row in read_metrics(folder / "policy" / "metrics.jsonl")
        ]
    return found


def _links(folders: Sequence[Path]) -> Table:
    return Table(
        ("iteration", *PHASES),
        tuple((one.name, *(f"{one.name}/{phase}/report.html" for phase in PHASES)) for one in folders),
    )


def _share(score: Mapping[str, float], sign: str = "") -> str:
    value, low, high = (f"{100 * score[name]:{sign}.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _value(score: Mapping[str, float] | None) -> str:
    return f"{score['value']:.3f}" if score else ""
