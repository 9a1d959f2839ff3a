"""Results of reward_model_7b.py: measures of held-out solutions, a table on the terminal, report.html. Not a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from training_curves import write_training_report

from dsm_jax.evaluate.figures import calibration_curves
from dsm_jax.evaluate.report import Section, Table
from dsm_jax.evaluate.scores import Interval
from dsm_jax.rl.reward_model.measures import calibration, scored, step_measures
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.reward_model.train import RIGHT
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.run import read_metrics

HEADER = ("held-out solutions", "", "95% interval")
SAID = {  # of measures.StepMeasures
    "auc": "AUC over all steps",
    "auc_within": "AUC within a solution, mean",
    "accuracy": "accuracy at 0.5",
    "majority": "accuracy of the more frequent label",
    "balanced_accuracy": "balanced accuracy at 0.5",
    "first_error_f1": "F1 of the first wrong step at 0.5",
    "calibration_error": "calibration error",
}


def measured(model: RewardModel, solutions: Sequence[Labelled]) -> dict[str, Any]:
    """How well the probabilities of held-out solutions' steps tell right ones; a label of 0.5 and above counts as right."""
    if not solutions:
        return {}
    prompts, completions, ends = zip(
        *((one.prompt, one.completion, one.ends) for one in solutions), strict=True
    )
    scores = model.score(prompts, completions, ends, scale="probability")
    labels = [one.labels[-len(found) :] for one, found in zip(solutions, scores, strict=True)]
    truths = [[label >= RIGHT for label in row] for row in labels]
    data = scored(scores, truths, [one.question or one.prompt for one in solutions])
    return asdict(step_measures(data)) | {
        "calibration": [(score, asdict(share)) for score, share in calibration(data)]
    }


def told(counts: Mapping[str, int], skipped: Mapping[str, int]) -> str:
    """The counts of examples.py in a sentence. skipped: rows that were left out before, by reason."""
    left = "".join(f", {count:,} {reason}" for reason, count in sorted(skipped.items()))
    return (
        f"{counts['solutions']:,} solutions with {counts['scores']:,} scores and {counts['tokens']:,} tokens; held out: "
        f"{counts['held_out_solutions']:,}; left out: {counts['too_long']:,} longer than --training.window{left}"
    )


def scores_table(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The loss, and a row for each measure."""
    losses = [value for name, value in results["last"].items() if name.endswith("/bce")]
    rows = measure_rows(results["held_out"])
    return [*(("binary cross-entropy, nats", f"{value:.3f}", "") for value in losses), *rows]


def measure_rows(found: Mapping[str, Any], said: Mapping[str, str] = SAID) -> list[tuple[str, str, str]]:
    """A row for each measure that the data could tell."""
    return [
        (name, f"{found[key]['value']:.3f}", f"{found[key]['low']:.3f} to {found[key]['high']:.3f}")
        for key, name in said.items()
        if found.get(key)
    ]


def print_results(results: Mapping[str, Any]) -> None:
    table = Printed(
        box=SIMPLE_HEAD, title=f"after {results['steps']} updates, {results['epochs']:.2g} epochs"
    )
    for header in HEADER:
        table.add_column(header, justify="left" if header == HEADER[0] else "right")
    for row in scores_table(results):
        table.add_row(*row)
    if table.row_count:
        Console().print(table)


def report(out: Path, results: Mapping[str, Any], init: str | None) -> None:
    """report.html: measures and calibration, counts, then every curve."""
    lead = (
        f"{results['kind']} reward model, {results['steps']:,} updates ({results['epochs']:.2g} epochs) "
        f"from {init or 'random numbers'}"
    )
    named = results["examples"] | {f"left out: {reason}": n for reason, n in results["skipped"].items()}
    counts = tuple((name.replace("_", " "), f"{n:,}") for name, n in named.items())
    sections = [Section("Solutions", (Table(("", "count"), counts),))]
    if bins := results["held_out"].get("calibration"):
        steps = [(score, Interval(**share)) for score, share in bins]
        picture = calibration_curves(
            "Calibration: share of right steps by mean score, in ten bins", {"held-out steps": steps}
        )
        table = Table(HEADER, tuple(scores_table(results)))
        sections.insert(0, Section("Held-out solutions", (table, picture)))
    write_training_report(out, "Reward model", lead, sections, read_metrics(out / "metrics.jsonl"))
