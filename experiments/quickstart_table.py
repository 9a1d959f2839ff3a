"""Puts finished quickstart runs side by side, as Markdown: how docs/quickstart.md is made.

for seed in 0 1 2; do python experiments/quickstart.py --full --rng-seed $seed --out runs/seed-$seed; done
python experiments/quickstart_table.py --runs runs/seed-0 runs/seed-1 runs/seed-2 --out docs/quickstart.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstart_results import percent, points

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.evaluate.report import markdown
from dsm_jax.run import read_json, write_text

INTRO = """# The quickstart on three random seeds

Made by

{command}

Shares in %, with 95% intervals over the held-out problems, which are the same for every seed: `greedy` and `boxed` of
all of them, `greedy_boxed` of those whose answer ends in a box, `maj@8` and `pass@8` of the first quarter, sampled at
temperature 0.7. Differences in points, paired problem by problem. `random_reward` and `shuffled_reward` are GRPO runs of
the same length whose rewards are fair coins, or the true rewards shuffled within each group; `sft_longer` is SFT
continued on its own set for as many updates, its optimiser begun anew.{process} Seconds are of a machine that had other work.
"""
PROCESS = """
`process_reward` is a GRPO run of the same length with the rewards of a process reward model beside the true ones; the model has
learned from Math-Shepherd's labels of SFT's solutions, completed by `sft_longer`."""

PARTS = ("models", "paired", "gain", "corpus", "seconds")  # of a quickstart's results.json that are read here


@dataclass(frozen=True)
class TableOptions:
    """Options of the table."""

    preset: str = "default"
    runs: tuple[Path, ...] = ()  # folders of finished runs
    out: Path = Path("docs/quickstart.md")  # the Markdown file to write


def main(config: TableOptions) -> None:
    if not config.runs:
        raise UserError("--runs: name at least one folder with a results.json")
    results: dict[str, Any] = {}
    for run in config.runs:
        name = run.resolve().name
        if name in results:
            raise UserError(
                f"--runs {run}: a second folder named {name}; rename one, the name heads its table"
            )
        results[name] = read_results(run / "results.json")
    command = "\n".join("    " + line.strip() for line in (__doc__ or "").splitlines()[2:4])
    supervised = any("process_reward" in result["models"] for result in results.values())
    parts = [INTRO.format(command=command, process=PROCESS if supervised else "")]
    parts += [f"## {name}\n\n{_scores(result)}\n\n{_notes(result)}\n" for name, result in results.items()]
    parts.insert(1, f"## GRPO against the others, greedy\n\n{_differences(results)}\n")
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.out, "\n".join(parts))
    except OSError as error:
        raise UserError(
            f"--out {config.out}: cannot write there ({error.strerror}); give another file"
        ) from None


def read_results(path: Path) -> dict[str, Any]:
    """A quickstart's results.json. Raises UserError where it is missing, damaged, or another script's."""
    results = read_json(path)
    if not isinstance(results, dict) or not all(isinstance(results.get(part), dict) for part in PARTS):
        raise UserError(f"{path}: not the results of quickstart.py; name the folders of its finished runs")
    return results


def _differences(results: Mapping[str, Any]) -> str:
    pairs = {run: result["paired"] for run, result in results.items()}
    names = list(dict.fromkeys(name for pair in pairs.values() for name in pair))
    rows = [
        [run, *(points(pair[name]) if name in pair else "" for name in names)] for run, pair in pairs.items()
    ]
    return markdown([["run", *names], *rows])


def _scores(result: Mapping[str, Any]) -> str:
    columns = list(dict.fromkeys(key for scores in result["models"].values() for key in scores))
    rows = [
        [name, *(percent(scores[column]) if column in scores else "" for column in columns)]
        for name, scores in result["models"].items()
    ]
    return markdown([["model", *columns], *rows])


def _notes(result: Mapping[str, Any]) -> str:
    gain, corpus, seconds = result["gain"], result["corpus"], result["seconds"]
    found = corpus.get("precision_outside_seed")
    precision = "unknown" if found is None else f"{found:.2f}"
    return (
        f"Of {gain['problems']} problems GRPO answers {gain['elicited']} that SFT answered only in some of its samples "
        f"and {gain['new']} that SFT never did; it lost {gain['lost']}. Corpus: {corpus['pages_kept']} of "
        f"{corpus['pages_in']} pages kept, precision outside the seed {precision}. "
        f"Seconds: {', '.join(f'{name} {value:.0f}' for name, value in seconds.items())}."
    )


if __name__ == "__main__":
    run_script(main, {"default": TableOptions()})
