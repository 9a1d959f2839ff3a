"""results.json, the printed summary and report.html of grpo_7b.py, from the files of its run. Not a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from grpo_evaluation import evaluation_results
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from training_curves import write_training_report

from dsm_jax.evaluate.report import Section, Table
from dsm_jax.run import CONFIG, read_json, read_metrics

AVERAGED = 10  # steps over which the first and the last reward are taken
SHOWN = 6  # completions of the first and of the last step in report.html, each of another question
SAID = {"greedy": "greedy", "boxed": "in a box", "greedy_boxed": "greedy, of those"}  # in this order

Results = Mapping[str, Any]


def collect(out: Path, samples: int) -> dict[str, Any]:
    """results.json, from metrics.jsonl and answers/; a row stands for the steps and the rollouts since the one before.

    With a row for every step the sums are exact, otherwise estimates. samples: of each question of the evaluation.
    """
    updates = read_json(out / CONFIG)["grpo"]["num_iterations"]  # of a rollout
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "reward" in row]
    taken = max(1, min(AVERAGED, len(rows) // 2))
    steps = np.diff([0, *(row["step"] for row in rows)])
    rollouts = np.diff([0, *(-(-row["step"] // updates) for row in rows)])

    def mean(name: str, part: list[dict[str, Any]]) -> float:
        return float(np.mean([row[name] for row in part]))

    def total(name: str, counts: np.ndarray) -> float:
        return sum(row.get(name, 0.0) * count for row, count in zip(rows, counts, strict=True))

    seconds = {"rollout": total("seconds/rollout", rollouts), "update": total("seconds/update", steps)}
    if beside := total("seconds/rollout_beside_update", rollouts):
        seconds["rollout_beside_update"] = beside  # with overlap; part of the update's
    seconds["total"] = total("step_time", steps)
    return {
        "steps": rows[-1]["step"],
        "logged_steps": len(rows),
        "averaged_steps": taken,
        "reward": {"first": mean("reward", rows[:taken]), "last": mean("reward", rows[-taken:])},
        "kl": mean("kl", rows[-taken:]) if "kl" in rows[-1] else None,  # None: beta 0, not measured
        "tokens": int(rows[-1]["num_tokens"]),
        "evaluation": evaluation_results(out, samples),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def print_results(results: Results, out: Path) -> None:
    print(told(results))
    if evaluation := results["evaluation"]:
        print_table(evaluation)
        print(gain(evaluation))
    kept = "best/, " if evaluation else ""
    print(f"{out}: report.html, results.json, metrics.jsonl, completions/, {kept}checkpoints/")


def print_table(evaluation: Results) -> None:
    """A row for each score, a column for each of first, best and last."""
    parts = [evaluation[name] for name in ("first", "best", "last")]
    _, best, last = (part["step"] for part in parts)
    table = Printed("%", box=SIMPLE_HEAD)
    for header in ("before", f"best (step {best})", f"after {last}"):
        table.add_column(header, justify="right", no_wrap=True)
    names = (name for name in score_names(evaluation) if name != "greedy_boxed")
    for name in names:
        table.add_row(SAID.get(name, name), *(_share(part.get(name)) for part in parts))
    Console().print(table)


def told(results: Results) -> str:
    """Reward, KL, tokens and time in a sentence."""
    reward, steps, logged = results["reward"], results["steps"], results["logged_steps"]
    of = f"{steps} steps" if logged == steps else f"{logged} logged steps; {steps} in all"
    about = "" if logged == steps else "about "
    kl = "" if results["kl"] is None else f"KL {results['kl']:.4f}, "
    return (
        f"reward {reward['first']:.3f} -> {reward['last']:.3f} (first and last {results['averaged_steps']} of {of}), "
        f"{kl}{results['tokens']} tokens in {about}{results['seconds']['total']} s"
    )


def gain(evaluation: Results) -> str:
    """The greedy scores before and after, and their difference, in a sentence."""
    before, after = (100 * evaluation[name]["greedy"]["value"] for name in ("first", "last"))
    points = {name: 100 * evaluation["difference"][name] for name in ("value", "low", "high")}
    return (
        f"greedy {before:.1f}% -> {after:.1f}% of {evaluation['questions']:,} questions: {points['value']:+.1f} points "
        f"(95% interval, paired: {points['low']:+.1f} to {points['high']:+.1f})"
    )


def score_names(evaluation: Results) -> list[str]:
    """The scores that there are, as SAID has them, then maj@k and pass@k."""
    there = dict.fromkeys(name for one in evaluation["every"] for name in one if name != "step")
    return [*(name for name in SAID if name in there), *sorted(there.keys() - SAID.keys())]


def evaluation_table(evaluation: Results) -> Table:
    """A row for each evaluation; shares in % with 95% intervals."""
    names = score_names(evaluation)
    rows = ((str(one["step"]), *(_share(one.get(name)) for name in names)) for one in evaluation["every"])
    return Table(("after updates", *(SAID.get(name, name) for name in names)), tuple(rows))


def report(out: Path, lead: str, results: Results) -> None:
    """report.html: the evaluation, some completions, then every curve and the configuration."""
    sections = [Section("Result", (told(results),))]
    if evaluation := results["evaluation"]:
        best = (
            f"best/ is the policy of step {evaluation['best']['step']}. It was chosen by these questions, so its score flatters it "
            "where there were several evaluations: measure it on others."
        )
        table = evaluation_table(evaluation)
        sections = [
            Section("Evaluation", (f"{gain(evaluation)}. {best}\n\n{told(results)}", table)),
        ]
    sections.append(Section("Completions", tuple(_completions(out))))
    write_training_report(out, "GRPO", lead, sections, read_metrics(out / "metrics.jsonl"))


def _share(score: Mapping[str, float] | None) -> str:
    if score is None:
        return ""
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def _completions(out: Path) -> list[str | Table]:
    """One completion of each of the first questions, of the first file and of the last."""
    files = sorted((out / "completions").glob("*.jsonl"))
    parts: list[str | Table] = []
    for file in dict.fromkeys((files[0], files[-1])):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
        chosen = list({row["prompt"]: row for row in rows}.values())[:SHOWN]
        shown = (
            (row["prompt"], row["completion"], f"{row['reward']}", f"{row['advantage']}") for row in chosen
        )
        parts += [f"{file.name}:", Table(("prompt", "completion", "reward", "advantage"), tuple(shown))]
    return parts
