"""Scores of sampled answers (evaluate/samples.py) by a reward model, in JSONL files beside theirs: a row for each sample.

Answers are scored as texts, so that the reward model may have another tokenizer than what wrote them. What is scored is not
scored again; a file is scored in one call, so that a run that was killed ends in the same bytes. Of several processes all
score; the first one reads and writes. Left out on purpose: sampling, and what is made of the scores (verify.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsm_jax.evaluate.samples import read_chunk, rows_in
from dsm_jax.processes import is_first_process, json_from_first_process, on_first_process
from dsm_jax.rl.reward_model.score import RewardModel, probability
from dsm_jax.rl.steps.segments import step_ends
from dsm_jax.run import progress, write_text


class SampleScores(NamedTuple):
    """The K steps of a sample; none where it has no text, or is longer than the reward model reads."""

    ends: tuple[
        int, ...
    ]  # [K] offsets in the text behind each step; of an outcome reward model the text's own
    scores: np.ndarray  # fp64 [K] probabilities


Key = tuple[str, int]  # of a sample: the problem's id, and its number
Text = tuple[str, int, str, bool]  # a sample's key, its text, and whether it ended by itself


def score_samples(model: RewardModel, samples: Path, folder: Path, prompts: Mapping[str, str]) -> None:
    """Scores what is in the files of `samples` and not yet in those of `folder`. prompts: by the problem's id."""
    missing = json_from_first_process(lambda: _missing(samples, folder))
    shown = progress(len(missing), f"scores, {model.kind}") if is_first_process() else nullcontext()
    with shown as bar:
        for name in missing:
            rows = json_from_first_process(lambda: _texts(samples / name))  # noqa: B023
            found = _scored(model, rows, prompts)
            on_first_process(lambda: _write(folder / name, rows, found))  # noqa: B023
            if bar:
                bar.advance()


def read_scores(folder: Path) -> dict[Key, SampleScores]:
    """All that the folder's files hold."""
    lines = (line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines())
    rows = map(json.loads, lines)
    return {
        (row["id"], row["sample"]): SampleScores(tuple(row["ends"]), np.array(row["scores"])) for row in rows
    }


def _missing(samples: Path, folder: Path) -> list[str]:
    files = sorted(samples.glob("*.jsonl"))
    return [file.name for file in files if rows_in(folder / file.name) != rows_in(file)]


def _texts(file: Path) -> list[Text]:
    return [
        (row.id, row.sample, "" if row.finish == "error" else row.response, row.finish != "length")
        for row in read_chunk(file)
    ]


def _scored(model: RewardModel, rows: Sequence[Text], prompts: Mapping[str, str]) -> list[SampleScores]:
    ends = [_ends(model, text) for _, _, text, _ in rows]
    reads = [
        model.read(prompts[problem], text, of, ended=ended)
        for (problem, _, text, ended), of in zip(rows, ends, strict=True)
    ]
    fits = [bool(of) and model.fits(one) for of, one in zip(ends, reads, strict=True)]
    found = iter(model.logits_at([one for one, fit in zip(reads, fits, strict=True) if fit]))
    return [
        SampleScores(of, probability(next(found)).astype(np.float64))
        if fit
        else SampleScores((), np.zeros(0))
        for of, fit in zip(ends, fits, strict=True)
    ]


def _ends(model: RewardModel, text: str) -> tuple[int, ...]:
    if model.kind == "process":
        return step_ends(text, model.form.splitting)
    return (len(text.rstrip()),) if text.strip() else ()


def _write(file: Path, rows: Sequence[Text], found: Sequence[SampleScores]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"id": row[0], "sample": row[1], "ends": one.ends, "scores": one.scores.tolist()})
        for row, one in zip(rows, found, strict=True)
    )
    write_text(file, "".join(f"{line}\n" for line in lines))
