"""results.json, the printed summary and report.html of compare_algorithms.py, from its runs' folders. Not a script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from algorithm_findings import ARMS, AT_K, BESIDE, FINDINGS, decided, decided_at_k, decided_gain, gain
from algorithm_judging import judging
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from training_curves import points

from dsm_jax.errors import UserError
from dsm_jax.evaluate.at_k import majority_at_k, pass_at_k, usual_ks
from dsm_jax.evaluate.figures import Picture, bands, save
from dsm_jax.evaluate.harness import Answers, read_answers
from dsm_jax.evaluate.report import Section, Table, markdown, write_report
from dsm_jax.evaluate.scores import Interval, share
from dsm_jax.run import CONFIG, is_done, options, read_json, read_metrics, write_text

ANSWERS, START, SEARCH, RESULTS = "answers", "start", "search", "results.json"  # in a run's folder
ARM_HEADER = ("arm", "seeds", "right, mean %", "each seed", "above the start, points", "95%")
JUDGED = tuple(arm for arm, one in ARMS.items() if one.reward != "accuracy")  # rewarded by a model
JUDGING_HEADER = (
    "arm",
    "updates",
    "no right completion %",
    "AUC in a group",
    "best one right %",
    "one by chance %",
)
FINDING_HEADER = ("finding", "arms", "difference, points", "95%", "seeds", "verdict")
AT_K_SAID = {"maj": "RL raises maj@K (figure 7)", "pass": "RL does not raise pass@K (figure 7)"}
FIGURES, PAGE = "figures", "tables.md"  # the pictures and tables of docs/paradigm.md, in the run's folder
PANELS = {  # of the accuracy over updates: caption and arms
    "online_offline": (
        "Accuracy over updates, as in the paper's figure 5: mean of the seeds, and the band between them",
        ("rft", "online_rft", "grpo_model", "grpo_steps"),
    ),
    "rewards": (
        "Rewards of GRPO: 1-0, an outcome model, a process model",
        ("grpo_rule", "grpo_model", "grpo_steps"),
    ),
    "others": (
        "The other methods",
        ("sft", "dpo", "dpo_of_sums", "reinforce", "reinforce_baseline", "ppo", "ppo_steps"),
    ),
}
OF_A_RUN = ("--rng-seed", "--out", "--mesh")  # options in which runs of an experiment differ
Results = Mapping[str, Any]


def collect(out: Path, steps: int, iterations: Sequence[Results] = ()) -> dict[str, Any]:
    """Every arm's score under every seed that has ended, the findings, maj@k and pass@k before and after, and what
    decided_iterations says."""
    start = _verdicts(read_answers(out / START / "greedy-000000.jsonl"))
    correct = {
        arm: {seed: _verdicts(rows) for seed, rows in found.items()}
        for arm in ARMS
        if (found := _last(out, arm, steps, "greedy"))
    }
    return {
        "problems": len(start),
        "start": asdict(share(start)),
        "arms": {arm: _scores(found, start) for arm, found in correct.items()},
        "findings": [decided(one, correct) for one in (*FINDINGS, *BESIDE)],
        "at_k": _at_k(out, steps),
        "iterations": iterations,
        "judging": {arm: judging(_ended(out, arm)) for arm in JUDGED if _ended(out, arm)},
        "learning_rates": {
            file.parent.name: read_json(file) for file in sorted((out / SEARCH).glob("*/scores.json"))
        },
    }


def decided_iterations(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The gain of each iteration over runs of iterative_grpo_7b.py. UserError for what is none, or is unlike the others."""
    asked, gaps = zip(*map(_gains, runs), strict=True)
    if any(one != asked[0] for one in asked):
        raise UserError("--iterative: runs of different questions, or of more iterations than others")
    seeds = _seeds_of(runs)
    return [decided_gain(dict(zip(seeds, iteration, strict=True))) for iteration in zip(*gaps, strict=True)]


def decided_before(out: Path) -> list[dict[str, Any]]:
    """The gains that an earlier call left in results.json."""
    return read_json(out / RESULTS).get("iterations", []) if (out / RESULTS).exists() else []


def _seeds_of(runs: Sequence[Path]) -> list[int]:
    """UserError where runs differ in more than the seed, or not in it."""
    given = [options(read_json(run / CONFIG)) for run in runs]
    seeds = [int(one["--rng-seed"]) for one in given]
    alike = [{name: value for name, value in one.items() if name not in OF_A_RUN} for one in given]
    if len(set(seeds)) < len(seeds) or any(one != alike[0] for one in alike):
        raise UserError("--iterative: give runs of the same options that differ in --rng-seed")
    return seeds


def _gains(run: Path) -> tuple[list[list[str]], list[np.ndarray]]:
    """Of each iteration the questions, and the verdicts after it less those before it."""
    answers = [sorted((one / "policy" / ANSWERS).glob("greedy-*.jsonl")) for one in run.glob("iteration-*")]
    if not answers or not (run / RESULTS).exists() or min(map(len, answers)) < 2:
        raise UserError(
            f"--iterative {run}: no run of iterative_grpo_7b.py that has ended and evaluated its policies"
        )
    ends = [(read_answers(files[0]), read_answers(files[-1])) for files in sorted(answers)]
    asked = [[row.id for row in before] for before, _ in ends]
    return asked, [np.subtract(_verdicts(after), _verdicts(before), dtype=float) for before, after in ends]


def print_results(results: Results, out: Path) -> None:
    for header, rows in ((ARM_HEADER, arm_rows(results)), (FINDING_HEADER, finding_rows(results))):
        table = Printed(box=SIMPLE_HEAD)
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(f"{out}: report.html, results.json")


def arm_rows(results: Results) -> list[tuple[str, ...]]:
    """The arms by their mean, the best first, behind the policy that all start from."""
    rows = [("start", "", _percent(results["start"]["value"]), "", "", "")]
    for arm, one in sorted(results["arms"].items(), key=lambda item: -item[1]["mean"]):
        seeds = ", ".join(_percent(score) for score in one["by_seed"].values())
        rows.append((arm, str(len(one["by_seed"])), _percent(one["mean"]), seeds, *_points(one["gain"])))
    return rows


def finding_rows(results: Results) -> list[tuple[str, ...]]:
    rows = [
        (one["said"], f"{one['better']} - {one['worse']}", *_measured(one)) for one in results["findings"]
    ]
    for name, one in results["at_k"].get("differences", {}).items():
        rows.append((AT_K_SAID[name], f"{AT_K} - start, K = {one['k']}", *_measured(one)))
    for number, one in enumerate(results["iterations"], start=1):
        rows.append((f"Iteration {number} raises it (figure 6)", "after - before", *_measured(one)))
    return rows


def judging_rows(results: Results) -> list[tuple[str, ...]]:
    """Of groups with right and wrong completions, but for the first number."""
    rows = []
    for arm, ends in results["judging"].items():
        for end, one in ends.items():
            found = (
                [f"{one['auc']:.2f}", _percent(one["best_right"]["value"]), _percent(one["chance"])]
                if one["mixed"]
                else ["", "", ""]
            )
            rows.append((arm, end, _percent(one["none_right"]["value"]), *found))
    return rows


def report(out: Path, results: Results) -> None:
    """report.html: findings, arms, the curves of figures 5 and 7, learning rates, the configuration; and for docs/ figures/ and
    tables.md."""
    drawn = pictures(out, results)
    save(drawn, out / FIGURES)
    write_text(out / PAGE, page(results))
    config = tuple(sorted(options(read_json(out / CONFIG)).items()))
    lead = (
        f"{results['problems']:,} held-out problems, answered greedily after the last update; intervals by bootstrap over seeds "
        "and problems"
    )
    sections = [
        Section("Findings", (Table(FINDING_HEADER, tuple(finding_rows(results))),)),
        Section(
            "What the reward models tell within a group",
            (Table(JUDGING_HEADER, tuple(judging_rows(results))),),
        ),
        Section("Arms", (Table(ARM_HEADER, tuple(arm_rows(results))), *drawn.values())),
        Section(
            "Learning rates", (rates(results) if results["learning_rates"] else "None was searched for.",)
        ),
        Section("Configuration", (Table(("option", "value"), config),)),
    ]
    write_report(out / "report.html", "Methods of the unified paradigm", lead, sections)


def page(results: Results) -> str:
    """The tables of docs/paradigm.md."""
    tables = [(FINDING_HEADER, finding_rows(results)), (ARM_HEADER, arm_rows(results))]
    tables.append((JUDGING_HEADER, judging_rows(results)))
    if results["learning_rates"]:
        tables.append((rates(results).header, rates(results).rows))
    return "\n\n".join(markdown([header, *rows]) for header, rows in tables) + "\n"


def pictures(out: Path, results: Results) -> dict[str, Picture]:
    """Accuracy over updates; maj@k and pass@k before and after."""
    found = {}
    for name, (caption, arms) in PANELS.items():
        runs = {arm: _metrics(out, arm) for arm in arms if arm in results["arms"]}
        series = {
            arm: [points(rows, "eval/greedy", "step") for rows in by_seed] for arm, by_seed in runs.items()
        }
        if series:
            found[name] = bands(caption, series, xlabel="update", ylabel="right, greedy")
    for name in AT_K_SAID:
        by_arm = results["at_k"].get(name, {})
        curves = {arm: [[(int(k), value) for k, value in by_k.items()]] for arm, by_k in by_arm.items()}
        if curves:
            caption = f"{name}@K by K before and after, as in the paper's figure 7"
            found[f"{name}_at_k"] = bands(caption, curves, xlabel="K", ylabel=f"{name}@K", log_x=True)
    return found


def rates(results: Results) -> Table:
    """Of the search: the share of its problems that each arm answers right, by learning rate."""
    every = sorted({rate for one in results["learning_rates"].values() for rate in one}, key=float)
    rows = (
        (arm, *(_percent(one[rate]) if rate in one else "" for rate in every))
        for arm, one in results["learning_rates"].items()
    )
    return Table(("arm", *every), tuple(rows))


def _last(out: Path, arm: str, steps: int, kind: str) -> dict[int, list[Answers]]:
    """By seed, of the runs that have ended."""
    files = {_seed(folder): folder / ANSWERS / f"{kind}-{steps:06d}.jsonl" for folder in _ended(out, arm)}
    return {seed: read_answers(file) for seed, file in files.items() if file.exists()}


def _ended(out: Path, arm: str) -> list[Path]:
    return sorted(filter(is_done, out.glob(f"seed-*/{arm}")), key=_seed)


def _metrics(out: Path, arm: str) -> list[list[dict[str, Any]]]:
    return [read_metrics(folder / "metrics.jsonl") for folder in _ended(out, arm)]


def _seed(folder: Path) -> int:
    return int(re.findall(r"\d+", folder.parent.name)[0])


def _verdicts(rows: Sequence[Answers]) -> list[bool]:
    return [row.correct[0] for row in rows]


def _scores(correct: Mapping[int, Sequence[bool]], start: Sequence[bool]) -> dict[str, Any]:
    by_seed = {str(seed): float(np.mean(one)) for seed, one in correct.items()}
    return {
        "by_seed": by_seed,
        "mean": float(np.mean(list(by_seed.values()))),
        "gain": asdict(gain(correct, start)),
    }


def _at_k(out: Path, steps: int) -> dict[str, Any]:
    """maj and pass by K, means of the start's and of every arm's seeds; and what AT_K's are above the start's."""
    file = out / START / "sampled-000000.jsonl"
    if not file.exists():
        return {}
    start, by_seed = read_answers(file), {arm: _last(out, arm, steps, "sampled") for arm in ARMS}
    rows = {"start": start} | {
        arm: [row for each in one.values() for row in each] for arm, one in by_seed.items() if one
    }
    found: dict[str, Any] = {
        name: {
            arm: {str(k): of(one, k).value for k in usual_ks(len(one[0].correct))}
            for arm, one in rows.items()
        }
        for name, of in AT_K_OF.items()
    }
    if after := by_seed[AT_K]:
        most = len(start[0].correct)
        found["differences"] = {
            name: {"k": most}
            | decided_at_k(
                name, _each(of, start, most), {seed: _each(of, one, most) for seed, one in after.items()}
            )
            for name, of in AT_K_OF.items()
        }
    return found


def _majority(rows: Sequence[Answers], k: int) -> Interval:
    return majority_at_k([row.keys for row in rows], [row.correct for row in rows], k)


def _passed(rows: Sequence[Answers], k: int) -> Interval:
    return pass_at_k([row.correct for row in rows], k)


AtK = Callable[[Sequence[Answers], int], Interval]
AT_K_OF: Mapping[str, AtK] = {"maj": _majority, "pass": _passed}


def _each(of: AtK, rows: Sequence[Answers], k: int) -> list[float]:
    return [of([row], k).value for row in rows]


def _measured(finding: Results) -> tuple[str, ...]:
    if not finding["seeds"]:
        return ("", "", "0", "not run")
    return (*_points(finding), str(len(finding["seeds"])), finding["verdict"])


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(found: Mapping[str, float]) -> tuple[str, str]:
    value, low, high = (f"{100 * found[name]:+.1f}" for name in ("value", "low", "high"))
    return value, f"{low} to {high}"
