"""The pictures and tables that every training run's metrics.jsonl gives: of one run, or of several laid over each other.

Not a script: the training scripts' report.html and compare_runs.py call it. What a run has not measured is not drawn.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm_jax.evaluate.figures import Picture, curves
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.run import CONFIG, options, read_json

Rows = Sequence[Mapping[str, Any]]

# metric (* stands for any name) -> caption, label of the axis
METRICS = {
    "loss": ("Loss of the update, nats a token (a reward model's: a step)", "loss"),
    "held_out/*/bce": ("Held-out solutions: binary cross-entropy a step, nats", "loss"),
    "held_out/*/auc": ("Held-out solutions: AUC over all steps", "AUC"),
    "held_out/*/bits_per_byte": ("Held-out text: bits per byte", "bits per byte"),
    "held_out/*/perplexity": ("Held-out text: perplexity a token", "perplexity"),
    "check/*": ("Answers to check problems: share", "share"),
    "eval/*": ("Evaluation: share of the questions", "share"),
    "reward": ("Reward of the step's completions, mean", "reward"),
    "kl": ("KL from the reference model, nats a token", "KL"),
    "entropy": ("Entropy of the policy, nats a token", "entropy"),
    "completions/mean_length": ("Mean length of a completion, tokens", "tokens"),
    "learning_rate": ("Learning rate", "learning rate"),
    "grad_norm": ("Global norm of the gradient before clipping", "norm"),
    "skipped": ("Updates left out, their loss or gradient not finite, since the row before", "updates"),
    "tokens_per_second": ("Tokens a second, the whole mesh", "tokens/s"),
    "mfu": ("Share of the devices' peak FLOP/s (MFU)", "MFU"),
    "data_wait_share": ("Share of the time spent waiting for data", "share"),
    "peak_memory_gb": ("Peak memory of the first device, GB", "GB"),
    "step_time": ("Seconds an update", "seconds"),
}
RARE = ("held_out/", "check/", "eval/")  # metrics whose last value stands in the table,
AVERAGED = 10  # and of the others the mean of the last rows


def pictures(runs: Mapping[str, Rows], *, x: str = "step") -> list[Picture]:
    """A picture for each metric that a run has; a curve for each run, or source, or both."""
    found = []
    for pattern, (caption, label) in METRICS.items():
        series = {
            _label(pattern, run if len(runs) > 1 else "", name): points(rows, name, x)
            for run, rows in runs.items()
            for name in names(rows, pattern)
        }
        if series:
            found.append(curves(caption, series, xlabel=x, ylabel=label))
    return found


def names(rows: Rows, pattern: str) -> list[str]:
    """The metrics of this pattern, in the order in which they came."""
    every = dict.fromkeys(name for row in rows for name in row)
    return [name for name in every if fnmatch.fnmatchcase(name, pattern)]


def points(rows: Rows, name: str, x: str) -> list[tuple[float, float]]:
    """(x, value) of each row with the metric; x is step, or tokens or seconds of the updates up to the row."""
    found, at, before, each = [], 0.0, 0, 0.0
    for row in rows:
        if x == "step":
            each = 1.0
        elif "step_time" in row:
            each = row["step_time"] * (row.get("tokens_per_second", 0.0) if x == "tokens" else 1.0)
        place = at + each * (row["step"] - before)
        if "step_time" in row:
            at, before = place, row["step"]
        if row.get(name) is not None:
            found.append((place, row[name]))
    return found


def last_values(runs: Mapping[str, Rows]) -> Table:
    """Where each metric ended, a column a run."""
    rows = []
    for pattern in METRICS:
        every = dict.fromkeys(name for found in runs.values() for name in names(found, pattern))
        rows += [(name, *(_last(found, name) for found in runs.values())) for name in every]
    return Table((f"last value, or mean of the last {AVERAGED} rows", *runs), tuple(rows))


def write_training_report(out: Path, title: str, lead: str, first: Sequence[Section], rows: Rows) -> None:
    """out/report.html: the script's own sections, then every curve, then the configuration."""
    config = tuple(sorted(options(read_json(out / CONFIG)).items()))
    sections = [
        *first,
        Section("Step by step", tuple(pictures({"run": rows}))),
        Section("Configuration", (Table(("option", "value"), config),)),
    ]
    write_report(out / "report.html", title, lead, sections)


def _label(pattern: str, run: str, name: str) -> str:
    """What tells a curve from the others: the run, and what the pattern's star stands for."""
    start, star, end = pattern.partition("*")
    part = name.removeprefix(start).removesuffix(end) if star else ""
    return " ".join(filter(None, (run, part))) or name


def _last(rows: Rows, name: str) -> str:
    taken = 1 if name.startswith(RARE) else AVERAGED
    values = [row[name] for row in rows if row.get(name) is not None][-taken:]
    return f"{sum(values) / len(values):.4g}" if values else ""
