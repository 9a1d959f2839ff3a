"""Solutions whose steps are labelled: what a process reward model learns from; files of them, and Math-Shepherd's records.

A file (JSON lines, JSON, parquet, packed or not: rows.py), or a folder of such files, may hold any of these rows; each
row shows its form by its fields:
- ours: {prompt, completion, ends, labels} and, where they are known, {question, answer, task}
- Math-Shepherd {input, label, task}; its records with a mark in the problem, or without "Step 1:", are left out
- TRL {prompt, completions: [step, ..], labels: [bool, ..]}: each step stands on a line of its own
- ProcessBench {problem, steps, label: the first wrong step from 0 on, -1 where none is}: steps behind it count as wrong
The other forms than ours have a question where ours has a prompt.
What is read twice (same prompt and completion) is given once. A row of no such form, or with a mistake, ends the reading in
one line. Left out on purpose: PRM800K's own files, which hold several continuations of each step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

from dsm_jax.data.instructions import RowError, Skipped, find_sft_parts, read_rows_of
from dsm_jax.data.texts import Part
from dsm_jax.errors import UserError
from dsm_jax.rl.steps.math_shepherd import read_marks, write_marks


@dataclass(frozen=True)
class Labelled:
    """A solution of K steps."""

    prompt: str  # what was completed, the template included
    completion: str  # what stands behind it, exactly
    ends: tuple[int, ...]  # [K] offsets in the completion, as segments.step_ends gives them
    labels: tuple[float, ...]  # [K] of each step, 0 to 1: the chance that it still leads to the right answer
    question: str = ""
    answer: str = ""  # the right one; "" where it is not known
    task: str = ""  # of the Math-Shepherd format: GSM8K, MATH


def read_labelled(
    paths: Sequence[Path],
    *,
    template: Callable[[str], str] = str,
    skipped: Counter[str] | None = None,
) -> Iterator[Labelled]:
    """The solutions of files and folders, in order. template: makes a prompt of a question, in rows of other forms than ours;
    skipped: counts what is left out, by reason ("duplicate", ..).

    Raises UserError naming file and line for what cannot be read, and for a file without a row.
    """
    seen: set[bytes] = set()
    for place, row in _rows(paths):
        try:
            found = _labelled(row, template)
        except RowError as error:
            raise UserError(f"{place}: {error}") from error
        if isinstance(found, Labelled):
            text = json.dumps([found.prompt, found.completion]).encode()
            key = blake2b(text, digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                yield found
                continue
            found = Skipped("duplicate")
        if skipped is not None:
            skipped[found.reason] += 1


def math_shepherd_record(one: Labelled) -> dict[str, str] | None:
    """Math-Shepherd's {input, label, task}, without template and answer. Its labels are hard: + for any above 0. None for
    what the form cannot hold (a text with its mark)."""
    signs = "".join("+" if label > 0 else "-" for label in one.labels)
    try:
        text, label = write_marks(one.question or one.prompt, one.completion, one.ends, signs)
    except RowError:
        return None
    return {"input": text, "label": label, "task": one.task}


def _rows(paths: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """(place, row) of every file."""
    for part in find_sft_parts(paths):
        for file in part.paths:
            place = ""
            for place, row in read_rows_of(Part((file,), part.kind)):
                yield place, row
            if not place:
                raise UserError(f"{file}: no row in this file; give one with labelled solutions")


# Forms of rows


def _labelled(row: Any, template: Callable[[str], str]) -> Labelled | Skipped:
    if not isinstance(row, Mapping):
        raise RowError(f"a row must be an object, not {row!r:.40}")
    form = next((form for fields, form in FORMS.items() if all(name in row for name in fields)), None)
    if form is not None:
        found = form(row)
        if isinstance(found, Skipped) or form is _ours:
            return found
        return replace(found, prompt=template(found.prompt))
    if "labels" in row and "completion" in row:
        raise RowError("labels without step ends; give ends, the offsets in the completion behind each step")
    known = "; ".join(", ".join(fields) for fields in FORMS)
    raise RowError(
        f"no labelled solution (it has {', '.join(map(str, row))[:80]}); it must have one of: {known}"
    )


def _ours(row: Mapping[str, Any]) -> Labelled:
    ends = _list(row, "ends")
    if not all(type(end) is int for end in ends):
        raise RowError(f"its ends are {ends!r:.40}; they must be whole numbers")
    texts = {name: _text(row, name) for name in ("question", "answer", "task") if row.get(name) is not None}
    return _checked(_text(row, "prompt"), _text(row, "completion"), ends, _list(row, "labels"), **texts)


def _math_shepherd(row: Mapping[str, Any]) -> Labelled | Skipped:
    found = read_marks(_text(row, "input"), _text(row, "label"))
    if isinstance(found, Skipped):
        return found
    task = _text(row, "task") if row.get("task") is not None else ""
    labels = [float(sign == "+") for sign in found.signs]
    return _checked(found.problem, found.completion, found.ends, labels, question=found.problem, task=task)


def _trl(row: Mapping[str, Any]) -> Labelled:
    prompt, steps = _text(row, "prompt"), _list(row, "completions")
    return _of_steps(prompt, steps, _list(row, "labels"))


def _process_bench(row: Mapping[str, Any]) -> Labelled:
    steps, wrong = _list(row, "steps"), row["label"]
    if type(wrong) is not int or not -1 <= wrong < len(steps):
        raise RowError(f"its label is {wrong!r:.40}; it must be the first wrong of {len(steps)} steps, or -1")
    return _of_steps(_text(row, "problem"), steps, [wrong < 0 or k < wrong for k in range(len(steps))])


FORMS: dict[tuple[str, ...], Callable[[Mapping[str, Any]], Labelled | Skipped]] = {
    ("prompt", "completion", "ends", "labels"): _ours,
    ("input", "label"): _math_shepherd,
    ("prompt", "completions", "labels"): _trl,
    ("problem", "steps", "label"): _process_bench,
}


def _of_steps(prompt: str, steps: Sequence[Any], labels: Sequence[Any]) -> Labelled:
    """Each step on a line of its own behind the prompt."""
    if not all(isinstance(step, str) and step.strip() for step in steps):
        raise RowError("each of its steps must be text, and not only white space")
    completion, ends = "", []
    for step in steps:
        completion += f"\n{step.strip()}"
        ends.append(len(completion))
    return _checked(prompt, completion, ends, labels, question=prompt)


def _checked(
    prompt: str, completion: str, ends: Sequence[int], labels: Sequence[Any], **texts: str
) -> Labelled:
    """Raises RowError for labels and ends that do not belong together."""
    if not ends:
        raise RowError("no step ends; a labelled solution has at least one step")
    if len(labels) != len(ends):
        raise RowError(f"{len(labels)} labels for {len(ends)} steps; give one each")
    wrong = [one for one in labels if not (isinstance(one, bool | int | float) and 0 <= one <= 1)]
    if wrong:
        raise RowError(f"label {wrong[0]!r:.40} is not from 0 to 1")
    if any(not start < end <= len(completion) for start, end in pairwise((0, *ends))):
        raise RowError(
            f"step ends {list(ends)!r:.60} must rise, from 1 to {len(completion)}, the completion's length"
        )
    return Labelled(prompt, completion, tuple(ends), tuple(map(float, labels)), **texts)


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise RowError(f"its {name} is {row[name]!r:.40}; it must be text")
    return row[name]


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(row[name], list):
        raise RowError(f"its {name} is {row[name]!r:.40}; it must be a list")
    return row[name]
