"""The quickstart's numbers: results.json from every model's answers, and the table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.evaluate.harness import Answers, accuracy_by, greedy_scores, sampled_scores
from dsm_jax.evaluate.scores import Interval, paired_difference

ModelAnswers = Mapping[str, list[Answers]]  # "greedy", and "sampled" for some models


def collect(
    answers: Mapping[str, ModelAnswers],
    funnel: dict[str, Any],
    seconds: dict[str, float],
    supervision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of results.json; all shares from 0 to 1. supervision: of labels of steps and the reward model."""
    return {
        "models": {
            name: {key: asdict(value) for key, value in _scores(a).items()} for name, a in answers.items()
        },
        "paired": {
            f"grpo-{name}": asdict(_difference(answers["grpo"], answers[name]))
            for name in answers
            if name not in ("grpo", "base")
        },
        "by_family": {
            name: {
                f"{family} {level}": asdict(value)
                for (family, level), value in accuracy_by(a["greedy"]).items()
            }
            for name, a in answers.items()
        },
        "gain": _gain(answers["sft"], answers["grpo"]),
        "seconds": seconds,
        "corpus": funnel,
        "supervision": dict(supervision or {}),
    }


def _scores(answers: ModelAnswers) -> dict[str, Interval]:
    scores = greedy_scores(answers["greedy"])
    if "sampled" in answers:
        scores |= sampled_scores(answers["sampled"], len(answers["sampled"][0].correct))
    return scores


def _difference(ours: ModelAnswers, theirs: ModelAnswers) -> Interval:
    """Greedy accuracy, ours less theirs, problem by problem."""
    return paired_difference(*([row.correct[0] for row in side["greedy"]] for side in (ours, theirs)))


def _gain(sft: ModelAnswers, grpo: ModelAnswers) -> dict[str, int]:
    """Where the gain comes from: sampled problems that GRPO answers greedily and SFT does not, by whether SFT
    had a right answer among its samples (elicited) or none (new); and those that GRPO lost."""
    counts = {"problems": len(sft["sampled"]), "elicited": 0, "new": 0, "lost": 0}
    for before, after, samples in zip(sft["greedy"], grpo["greedy"], sft["sampled"], strict=False):
        if after.correct[0] and not before.correct[0]:
            counts["elicited" if any(samples.correct) else "new"] += 1
        counts["lost"] += before.correct[0] and not after.correct[0]
    return counts


def print_table(results: Mapping[str, Any]) -> None:
    """The models' scores with 95% intervals, the paired differences, and what the corpus is."""
    columns = list(dict.fromkeys(key for scores in results["models"].values() for key in scores))
    # The interval on a line of its own and few separators: the table fits into 80 columns.
    table = Table(title="held-out problems, %, and 95% interval", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("model", *columns):
        table.add_column(header, no_wrap=True)
    for name, scores in results["models"].items():
        table.add_row(name, *(_cell(scores[key]) if key in scores else "" for key in columns))
    console = Console()
    console.width = max(80, console.width)  # narrower, rich would cut numbers
    console.print(table)
    for name, difference in results["paired"].items():
        console.print(f"{name}: {points(difference)} points, paired 95% interval, n = {difference['n']}")
    if found := results["supervision"]:
        for line in supervised(found):
            console.print(line)
    corpus = results["corpus"]
    console.print(
        f"corpus: {corpus['pages_kept']} of {corpus['pages_in']} pages kept; "
        f"seconds: {results['seconds']['total']:.0f} in all"
    )


def supervised(found: Mapping[str, Any]) -> list[str]:
    """How right the labels of steps are, and what the process reward model makes of them."""
    labels, measures = found["labels"]["steps"]["truth"], found["reward_model"]["held_out"]
    lines = []
    for name, said in {"all": "all steps", "completed": "steps that were completed"}.items():
        if one := labels.get(name):
            lines.append(
                f"labels of {said}: accuracy {percent(one['accuracy'])}, the more frequent label alone "
                f"{percent(one['majority'])}, balanced {_known(one['balanced_accuracy'])}; {one['steps']:,} steps, "
                f"{one['true']:.0%} of them right"
            )
    if measures:
        lines.append(
            f"process reward model: AUC {_auc(measures['auc'])} over the steps of {measures['solutions']:,} held-out solutions, "
            f"{_auc(measures['auc_within'])} within a solution"
        )
    return lines


def _auc(interval: Mapping[str, float] | None) -> str:
    return "unknown" if interval is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format_map(interval)


def _known(interval: Mapping[str, float] | None) -> str:
    return percent(interval) if interval else "unknown"


def _cell(interval: Mapping[str, float]) -> str:
    """Two lines: "41.2" and "38.2-44.3"."""
    return f"{100 * interval['value']:.1f}\n{100 * interval['low']:.1f}-{100 * interval['high']:.1f}"


def percent(interval: Mapping[str, float]) -> str:
    """ "41.2 [38.2, 44.3]"."""
    return f"{100 * interval['value']:.1f} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def points(interval: Mapping[str, float]) -> str:
    """ "+11.6 [+8.4, +14.7]"."""
    return f"{100 * interval['value']:+.1f} [{100 * interval['low']:+.1f}, {100 * interval['high']:+.1f}]"
