"""What labelling saves: decoded tokens of Math-Shepherd's labels, beside the naive way to the same labels.

    python experiments/measure_labelling.py --json docs/labelling.json

The naive way draws n completions from every step but the last of every sampled solution. Labelling counts solutions of the
same text once, completes a beginning that several solutions share once, and stops at a step's first hit. Both are run, with
the same models, solutions and random keys; every label is compared, and every decoded token counted. Of the naive way two
counts are told: of all sampled solutions that ended, as plain code has them, and of those of different texts alone.
Left out on purpose: the cost of prompts (prefill), and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import label_steps_7b
from label_steps_7b import LabelRun, Problems, make_sampler
from small_folders import make_steps_models

from dsm_jax.cli import run_script
from dsm_jax.mesh import single_device_mesh
from dsm_jax.rl.shepherd.completer import Ask, draw
from dsm_jax.rl.shepherd.labelling import StepLabels, label_pools
from dsm_jax.rl.shepherd.pool import Pool, Solution, graded, request_of, sample_pools
from dsm_jax.rl.shepherd.prefixes import steps_in
from dsm_jax.run import write_json
from dsm_jax.sample.sampler import Sampler


@dataclass(frozen=True)
class Measurement:
    preset: str
    labels: LabelRun
    """Whose models, problems and solutions."""
    n: tuple[int, ...] = (4, 8)
    """Completions of each step."""
    cache: Path = Path("~/.cache/dsm_jax")
    """Where the small models are kept."""
    json: Path | None = None
    """Where to write the numbers."""


TINY = Measurement("tiny", replace(label_steps_7b.TINY, problems=100, keep_draws=False))
PRESETS = {
    "tiny": TINY,
    "smoke": Measurement("smoke", label_steps_7b.SMOKE),
}


class Step(NamedTuple):
    """A step but the last, completed the naive way."""

    place: tuple[str, str, int]  # question, solution, number of the step
    repeats: bool  # whether the solution's text was there before
    hits: list[bool]
    lengths: list[int]  # tokens


def main(config: Measurement) -> None:
    labels = replace(config.labels, cache=config.cache)
    make_steps_models(config.cache, config.preset)
    rows, mesh = Problems(labels).rows, single_device_mesh()
    generator = make_sampler(labels, "generator", mesh)
    pools, everything = sample_pools(generator, rows, labels)[0], all_solutions(generator, rows, labels)
    completer = make_sampler(labels, "completer", mesh)
    steps = naive(completer, everything, replace(labels, n=max(config.n)))
    found = {}
    for n in config.n:
        labelled, counts = label_pools(completer, pools, replace(labels, n=n))
        found[str(n)] = beside(steps, labelled, n) | {"decoded": counts.decoded}
        print(told(n, found[str(n)]))
    if config.json:
        write_json(config.json, {"problems": len(rows), "solutions": labels.solutions, "by_n": found})


def all_solutions(sampler: Sampler, rows: Sequence[dict], config: LabelRun) -> list[Pool]:
    """What sample_pools draws, with solutions of the same text each for itself."""
    tokenizer = sampler.tokenizer
    prompts = [[tokenizer.bos_id, *tokenizer.encode(row["prompt"])] for row in rows]
    found = sampler.generate([request_of(sampler, ids, config, i) for i, ids in enumerate(prompts)])
    pools = []
    for row, completions in zip(rows, found, strict=True):
        ended = [one for one in completions if one.finished and one.text.strip()]
        right = graded([(one.text, row["answer"]) for one in ended])
        solutions = tuple(
            Solution(
                one.text, good, tuple(token for token in one.tokens.tolist() if token != tokenizer.eos_id)
            )
            for one, good in zip(ended, right, strict=True)
        )
        pools.append(
            Pool(row["question"], row["answer"], row["prompt"], row["task"], solutions, tokenizer.fingerprint)
        )
    return pools


def naive(sampler: Sampler, pools: Sequence[Pool], config: LabelRun) -> list[Step]:
    """n completions of every step but the last of every solution."""
    tokenizer, asked, steps = sampler.tokenizer, [], []
    for pool in pools:
        prompt, seen = [tokenizer.bos_id, *tokenizer.encode(pool.prompt)], set[str]()
        for one in steps_in(pool, tokenizer, config.splitting):
            text = one.solution.completion
            for number, beginning in enumerate(one.beginnings):
                asked.append(Ask(prompt, beginning, pool.answer, 0, config.n))
                steps.append(((pool.question, text, number), text in seen))
            seen.add(text)
    drawn = draw(sampler, asked, config)
    return [Step(*of, found.hits, found.lengths) for of, found in zip(steps, drawn, strict=True)]


def beside(steps: Sequence[Step], labelled: Sequence[StepLabels], n: int) -> dict[str, int]:
    """Counts of the naive way with the first n completions, and how many labels are others than labelling's."""
    ours = {
        (one.labelled.question, one.labelled.completion, number): label
        for one in labelled
        for number, label in enumerate(one.labelled.labels[:-1])
    }
    first = [step for step in steps if not step.repeats]
    return {
        "labels": len(ours),
        "missing": len(ours.keys() ^ {step.place for step in steps}),
        "different": sum(ours.get(step.place) != float(any(step.hits[:n])) for step in first),
        "naive_steps": len(steps),
        "naive_decoded": sum(sum(step.lengths[:n]) for step in steps),
        "naive_distinct_decoded": sum(sum(step.lengths[:n]) for step in first),
    }


def told(n: int, found: dict[str, int]) -> str:
    decoded, every, distinct = (
        found[name] for name in ("decoded", "naive_decoded", "naive_distinct_decoded")
    )
    return (
        f"n {n}: {found['labels']:,} labels, {found['different']:,} of them others than the naive way's; {decoded:,} tokens "
        f"decoded, {decoded / every:.1%} of {every:,} of all solutions, {decoded / distinct:.1%} of {distinct:,} of those of "
        "different texts"
    )


if __name__ == "__main__":
    run_script(main, PRESETS)
