"""Puts finished quickstart runs side by side, as Markdown: how docs/quickstart.md is made.

for seed in 0 1 2; do python experiments/quickstart.py --full --rng-seed $seed --out runs/seed-$seed; done
python experiments/quickstart_table.py --runs runs/seed-0 runs/seed-1 runs/seed-2 --out docs/quickstart.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstart_results import percent, points

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.run import read_json, write_text

INTRO = """# The quickstart on three random seeds

Made by

{command}

Shares in % of the held-out problems, with 95% intervals; differences in points, paired problem by problem.
`random_reward` and `shuffled_reward` are GRPO runs of the same length whose rewards are fair coins, or the true
rewards shuffled within each group; `sft_longer` is SFT continued on its own set for as many updates.
"""


@dataclass(frozen=True)
class TableOptions:
    """Options of the table."""

    preset: str = "default"
    runs: tuple[Path, ...] = ()  # folders of finished runs
    out: Path = Path("docs/quickstart.md")  # the Markdown file to write


def main(config: TableOptions) -> None:
    if not config.runs:
        raise UserError("--runs: name at least one folder with a results.json")
    results = {run.name: read_json(run / "results.json") for run in config.runs}
    command = "\n".join("    " + line.strip() for line in (__doc__ or "").splitlines()[2:4])
    parts = [INTRO.format(command=command)]
    parts += [f"## {name}\n\n{_scores(result)}\n\n{_notes(result)}\n" for name, result in results.items()]
    parts.insert(1, f"## GRPO against the others, greedy\n\n{_differences(results)}\n")
    write_text(config.out, "\n".join(parts))


def _differences(results: Mapping[str, Any]) -> str:
    names = list(next(iter(results.values()))["paired"])
    rows = [[run, *(points(result["paired"][name]) for name in names)] for run, result in results.items()]
    return _markdown(["run", *names], rows)


def _scores(result: Mapping[str, Any]) -> str:
    columns = list(dict.fromkeys(key for scores in result["models"].values() for key in scores))
    rows = [
        [name, *(percent(scores[column]) if column in scores else "" for column in columns)]
        for name, scores in result["models"].items()
    ]
    return _markdown(["model", *columns], rows)


def _notes(result: Mapping[str, Any]) -> str:
    gain, corpus, seconds = result["gain"], result["corpus"], result["seconds"]
    return (
        f"Of {gain['problems']} problems GRPO answers {gain['elicited']} that SFT answered only in some of its samples "
        f"and {gain['new']} that SFT never did; it lost {gain['lost']}. Corpus: {corpus['pages_kept']} of "
        f"{corpus['pages_in']} pages kept, precision outside the seed {corpus['precision']:.2f}. "
        f"Seconds: {', '.join(f'{name} {value:.0f}' for name, value in seconds.items())}."
    )


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run_script(main, {"default": TableOptions()})
