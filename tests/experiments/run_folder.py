"""A run's folder as quickstart.py leaves it, with invented numbers: only what the report reads."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from dsm_jax.evaluate.harness import Answers
from dsm_jax.run import mark_done, open_run

FAMILIES = ("chains", "calculations", "equations", "rates")
HOSTILE = '<script>alert("x")</script> $x_$ \x85 \x1b[31m 中文 "><img src=x onerror=1>'


def answers(
    correct: list[bool], *, n: int = 1, text: str = "\n5+3=8\nThe answer is \\boxed{8}."
) -> list[Answers]:
    """One problem per `n` verdicts, over all families and levels; each tenth answer has no box."""
    return [
        Answers(
            f"problem-{i}",
            FAMILIES[i % 4],
            i // 4 % 3 + 1,
            f"Ann has {i} pens. She gets 3 more. How many pens has she?",
            str(i + 3),
            [text] * n,
            correct[n * i : n * i + n],
            [i % 10 != 9] * n,
            [str(i + 3) if right else str(i) for right in correct[n * i : n * i + n]],
        )
        for i in range(len(correct) // n)
    ]


def draw(share: float, count: int, rng: np.random.Generator) -> list[bool]:
    return (rng.random(count) < share).tolist()


def funnel() -> dict:
    """funnel.json of two iterations, and what judged.json adds."""
    hosts = [("sympy", 310, 290), ("mpmath", 40, 33), ("scipy", 420, 101), ("a" * 60 + HOSTILE, 300, 40)]
    rounds = [
        {
            "iteration": number,
            "positives": 150 * number,
            "negatives": 150 * number,
            "training_accuracy": 0.94,
            "rejected_negatives": 0,
            "cut": {"score": 0.6, "key": 1},
            "pages_kept": 400 + 60 * number,
            "tokens_kept": 400_000,
            "share_already_there": 0.7 * (number - 1),
            "score_histogram": {"all": [90] * 40, "kept": [0] * 30 + [46] * 10},
            "kept_outside_seed": 300,
            "precision_outside_seed": 0.81 + 0.05 * number,
            "kept_outside_seed_hosts": 100,
            "precision_outside_seed_hosts": 0.71 + 0.05 * number,
            "domains": [
                dict(zip(("domain", "pages", "collected", "words"), (*host, 9_000), strict=True))
                for host in hosts
            ],
        }
        for number in (1, 2)
    ]
    return {
        "records": 4024,
        "records_skipped": {"not html": 12},
        "files_missing": {},
        "pages_in": 4012,
        "tokens_in": 2_345_678,
        "duplicates": 31,
        "pages_unique": 3975,
        "seed_pages": 160,
        "math_hosts": ["mpmath", "scipy", "sympy"],
        "iterations": rounds,
        "domains": [host[0] for host in hosts],
        "precision_outside_seed": 0.91,
        "precision_outside_seed_hosts": 0.81,
        "pages_kept": 498,
        "tokens_kept": 380_000,
        "corpus_domains": 4,
        "corpus_by": {
            "domain": [[host, kept] for host, _, kept in hosts],
            "language": [["", 498]],
            "iteration": [["1", 460], ["2", 38]],
        },
        "benchmarks": ["generated"],
        "contamination": {
            "hits": 21,
            "pages_dropped": 3,
            "pages_touched": 14,
            "lines_removed": 30,
            "wet_text_kept": 0,
        },
        "planted": {"texts": 20, "in_kept_pages": 14, "caught": 20},
    }


def share(value: float) -> dict:
    return {"n": 80, "value": value, "low": value - 0.05, "high": value + 0.04}


def supervision() -> dict:
    """What quickstart_supervision.py says of labels and the reward model."""
    shares = (
        "auc",
        "auc_within",
        "accuracy",
        "majority",
        "balanced_accuracy",
        "first_error_f1",
        "calibration_error",
    )
    measures = {name: share(0.62 + 0.04 * place) for place, name in enumerate(shares)}
    measures |= {"steps": 4_000, "solutions": 1_234, "problems": 80, "threshold": 0.5, "mixed": 300}
    bins = [(0.1 * k + 0.05, share(0.1 * k + 0.06)) for k in range(10)]
    return {
        "labels": {
            "pool": {"problems": 500},
            "labels": {"solutions": 1_800},
            "max_decoded": 0,
            "problems_left": 0,
            "steps": {
                "solutions": 1_800,
                "positions": {"1": [900, 1_800]},
                "first_bad": {"0": 900, "1": 900},
                "truth": {name: measures | {"true": 0.55} for name in ("all", "completed")},
            },
        },
        "reward_model": {
            "updates": 96,
            "examples": {
                "solutions": 1_500, "scores": 4_500, "tokens": 99_000, "held_out_solutions": 300, "too_long": 0,
            },
            "held_out": measures | {"calibration": bins},
        },
        "weight": 0.1,
    }  # fmt: skip


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def grpo_rows(rng: np.random.Generator, gain: float) -> list[dict]:
    """metrics.jsonl of GRPO, the columns that the report draws."""
    return [
        {
            "step": step,
            "rewards/accuracy_reward/mean": 0.4 + gain * step / 120 + 0.05 * rng.normal(),
            "kl": 0.001 * step**0.7 + 0.002 * rng.random(),
            "entropy": 0.42 * math.exp(-step / 150) + 0.01 * rng.normal(),
            "completions/mean_length": 31 + 2 * rng.normal(),
            "frac_reward_zero_std": 0.4 + 0.1 * rng.random(),
            "frac_reward_zero_std_above_0": 0.1 + 0.001 * step,
        }
        for step in range(1, 121)
    ]


def lm_rows(rng: np.random.Generator, steps: int, every: int, *, checks: bool = False) -> list[dict]:
    """metrics.jsonl of pretraining or SFT; with `checks`, the stop rule's rows too."""
    rows: list[dict] = []
    for step in range(every, steps + 1, every):
        rows.append({"step": step, "loss": 0.6 + 3 * math.exp(-4 * step / steps) + 0.03 * rng.normal()})
        if checks and step % (2 * every) == 0:
            shares = {"greedy": 0.42 * step / steps, "worst_family": 0.2 * step / steps, "boxed": 0.98}
            rows.append({"step": step} | {f"check/{name}": share for name, share in shares.items()})
    return rows


def make_run(
    out: Path, shares: dict[str, float], *, text: str = "\n5+3=8\nThe answer is \\boxed{8}."
) -> dict:
    """Writes a run whose models answer these shares right; returns the content of its results.json."""
    from quickstart import DEMO
    from quickstart_results import collect

    rng = np.random.default_rng(0)
    open_run(out, replace(DEMO, out=Path()))
    everything: dict[str, dict[str, list[Answers]]] = {}
    for name, right in shares.items():
        everything[name] = {"greedy": answers(draw(right, 1000, rng), text=text)}
        if name in ("sft", "grpo", "process_reward"):
            everything[name]["sampled"] = answers(draw(right, 2000, rng), n=8, text=text)
        for kind, rows in everything[name].items():
            write_rows(out / "eval" / name / f"{kind}.jsonl", [asdict(row) for row in rows])
    write_rows(out / "pretrain" / "metrics.jsonl", lm_rows(rng, 2800, 50))
    (out / "sft").mkdir()
    mark_done(out / "sft", {"step": 500, "stopped": True})
    for name, right in shares.items():
        if "sft" in name:
            write_rows(out / name / "metrics.jsonl", lm_rows(rng, 500, 25, checks=name == "sft"))
        elif name != "base":
            rows = grpo_rows(rng, right - shares["sft"])
            if name == "process_reward":
                rows = [
                    {"step": row["step"], "rewards/process/mean": 0.4 + row["step"] / 300} for row in rows
                ]
            write_rows(out / name / "metrics.jsonl", rows)
    seconds = {"mine": 95.1, "tokenise": 2.2, "pretrain": 180.3, "sft": 61.0, "evaluate": 70.9}
    seconds |= {name: 240.4 for name in shares if name not in ("base", "sft")}
    seconds |= {"total": sum(seconds.values())}
    return collect(everything, funnel(), seconds, supervision() if "process_reward" in shares else None)
