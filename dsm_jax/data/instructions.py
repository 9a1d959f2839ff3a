"""Readers of supervised finetuning files: rows of the published forms into records.

A file (JSON lines, JSON, parquet, packed or not: rows.py) or a TFDS folder (builders.py) may hold any of these rows; each
row shows its form by its fields:
- GSM8K {question, answer}: calculator marks <<..>> go, and "#### N" becomes "The answer is \\boxed{N}."
- MATH {problem, solution}, one row a file or many
- MathInstruct {instruction, output}, alpaca's {input} behind the instruction; programs stay as they are
- ToRA's results {question, code: [transcript, ..], pred, gt}; its corpus comes as messages
- Lila {Input, Output Program} (or input, output_program), rows or a file's Instances; a record for each program
- messages [{role, content}] and ShareGPT's conversations [{from, value}]
- any other pair of a question and an answer (QUESTIONS, ANSWERS)
Questions and answers lose the white space around them, and are else kept as they are. A row of no such form ends the
reading in one line; a row that cannot be trained on is left out, with its reason counted (Skipped).
A folder is read whole (but for links to folders), the test sets in it too: name the files that are meant. Of a TFDS folder only "train" is read.
Left out on purpose: rewriting questions (no instruction is added), running programs, judging answers but ToRA's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

from dsm_jax.data.sft import Record, Turn, is_open, is_unclear, make_record, qa_record
from dsm_jax.data.texts import Part, grouped
from dsm_jax.errors import UserError
from dsm_jax.rows import PARQUET, ROWS, read_parquet, read_rows
from dsm_jax.tfds_folder import INFO, Dataset

QUESTIONS = ("question", "problem", "prompt", "instruction", "query", "input")  # the first that is there
ANSWERS = ("solution", "completion", "response", "output", "answer")  # worked before short
SPEAKERS = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "model": "assistant",
}  # fmt: skip
GSM8K = ("question", "answer")
CALCULATION = re.compile(r"<<[^<>]*>>")
FINAL = re.compile(r"\n*^#### *(.*?)\s*\Z", re.MULTILINE)


@dataclass(frozen=True)
class Skipped:
    """A row, or one of its answers, that is left out."""

    reason: str


class RowError(Exception):
    """What is wrong with a row; the reader adds its place."""


def read_sft(
    paths: Sequence[Path], *, only_correct: bool = False, skipped: Counter[str] | None = None
) -> Iterator[Record]:
    """The records of files and folders in a fixed order.

    only_correct: of ToRA's results, those whose prediction is the true answer (rejection sampling). skipped: counts
    what is left out, by reason. Raises UserError naming file and line for what cannot be read.
    """
    for part in find_sft_parts(paths):
        for one in read_sft_part(part, only_correct=only_correct):
            if isinstance(one, Record):
                yield one
            elif skipped is not None:
                skipped[one.reason] += 1


def find_sft_parts(paths: Sequence[Path]) -> list[Part]:
    """The parts of a source: files in order of their names, in parts as of texts.py, and TFDS folders.

    Raises UserError for a path that is missing, or where nothing can be read.
    """
    parts = grouped(found for path in paths for found in _files(Path(path)))
    if not parts:
        shown = ", ".join(map(str, paths)) or "nothing"
        raise UserError(f"{shown}: no file of a kind that can be read (JSON lines, JSON, parquet)")
    return parts


def find_split(folder: Path, split: str) -> list[Part]:
    """The parts of a benchmark's split: FOLDER/SPLIT.jsonl (or .json, .gz, .zst), else the folder FOLDER/SPLIT; or nothing."""
    files = [folder / f"{split}{ending}" for ending in ROWS]
    found = [file for file in files if file.is_file()] or [folder / split]
    return find_sft_parts(found[:1]) if found[0].exists() else []


def read_sft_part(part: Part, *, only_correct: bool = False) -> Iterator[Record | Skipped]:
    """The records of a part, and what was left out, in order."""
    for place, row in read_rows_of(part):
        try:
            found = _records(row, only_correct)
        except RowError as error:
            raise UserError(f"{place}: {error}") from error
        for record in found:
            yield _checked(record) if isinstance(record, Record) else record


def read_rows_of(part: Part) -> Iterator[tuple[str, Any]]:
    """(place, row) of a part, as they stand there. Raises UserError for what cannot be read."""
    for path in part.paths:
        try:
            yield from READERS[part.kind](path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def boxed_gsm8k(answer: str) -> str:
    """GSM8K's worked answer with its last line in a box, without calculator marks."""
    return FINAL.sub(lambda found: f"\nThe answer is \\boxed{{{found[1]}}}.", CALCULATION.sub("", answer))


# Files


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """(path, kind) of each file, or of the TFDS folder."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        kind = file_kind(path)
        if kind is None:
            raise UserError(f"{path}: not of a kind that can be read (JSON lines, JSON, parquet)")
        yield path, kind
    elif (path / INFO).is_file():
        yield path, "dataset"
    else:
        yield from _folder_files(path)


def _folder_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Its files and its folders', in order of their names; no links to folders, which may lead back to it."""
    for entry in sorted(folder.iterdir(), key=_numerically):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if kind := file_kind(entry):
                yield entry, kind
        elif not entry.is_symlink():
            yield from _files(entry)


def file_kind(file: Path) -> str | None:
    return "rows" if file.name.endswith(ROWS) else "parquet" if file.name.endswith(PARQUET) else None


def _numerically(file: Path) -> tuple[int, str]:
    """MATH's problems, a file each, in order of their numbers."""
    return (len(file.name), file.name) if file.name[0].isdigit() else (0, file.name)


def _read_dataset(folder: Path) -> Iterator[tuple[str, Any]]:
    rows = Dataset(folder, "train")
    for index in range(len(rows)):
        yield f"{folder}, record {index}", rows[index]


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "rows": read_rows,
    "parquet": read_parquet,
    "dataset": _read_dataset,
}

# Rows


def _records(row: Any, only_correct: bool) -> list[Record | Skipped]:
    if not isinstance(row, dict):
        raise RowError(f"a row must be an object, not {row!r:.40}")
    if isinstance(row.get("Instances"), list):
        return [one for instance in row["Instances"] for one in _records(instance, only_correct)]
    split = row.get("split")
    if split is not None and str(split).lower() != "train":
        return [Skipped(f"split {split!s:.20}")]
    if "messages" in row:
        return _conversation(row["messages"], "role", "content")
    if "conversations" in row:
        return _conversation(row["conversations"], "from", "value")
    if "code" in row and "question" in row:
        return _tora(row, only_correct)
    for question, program in (("Input", "Output Program"), ("input", "output_program")):
        if question in row and program in row:
            return _lila(row[question], row[program])
    return [_pair(row)]


def _pair(row: dict[str, Any]) -> Record:
    question = next((name for name in QUESTIONS if name in row), None)
    answer = next((name for name in ANSWERS if name in row), None)
    if question is None or answer is None:
        raise RowError(
            f"no question and answer in this row (it has {', '.join(map(str, row))[:80]}); it must have messages, or one "
            f"of {', '.join(QUESTIONS)} and one of {', '.join(ANSWERS)}"
        )
    asked, told = _text(row, question), _text(row, answer)
    if question == "instruction" and row.get("input"):
        asked = f"{asked}\n{_text(row, 'input')}"
    if (question, answer) == GSM8K and FINAL.search(told):
        told = boxed_gsm8k(told)
    return qa_record(asked.strip(), told.strip())


def _tora(row: dict[str, Any], only_correct: bool) -> list[Record | Skipped]:
    codes, predictions = row["code"], row.get("pred")
    if not _are_texts(codes):
        raise RowError("code must be a list of transcripts")
    if only_correct and not (
        isinstance(predictions, list) and len(predictions) == len(codes) and "gt" in row
    ):
        raise RowError("no pred for each transcript and gt in this row, by which correct ones are told")
    found: list[Record | Skipped] = []
    for i, code in enumerate(codes):
        if only_correct and not _same(predictions[i], row["gt"]):  # type: ignore[index]
            found.append(Skipped("wrong answer"))
        elif "\\boxed" not in code:
            found.append(Skipped("no final answer"))
        else:
            found.append(qa_record(_text(row, "question").strip(), code.strip()))
    return found


def _lila(question: Any, programs: Any) -> list[Record | Skipped]:
    programs = [programs] if isinstance(programs, str) else programs
    if not isinstance(question, str) or not (programs is None or _are_texts(programs)):
        raise RowError("its input must be text, its output program text or a list of texts")
    programs = [program.strip() for program in dict.fromkeys(programs or ()) if program.strip()]
    if not programs:
        return [Skipped("no program")]
    turns = [(Turn("user", question.strip()), Turn("assistant", program)) for program in programs]
    return [Record("pot", pair) for pair in turns]


def _conversation(messages: Any, role: str, content: str) -> list[Record | Skipped]:
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise RowError("its messages must be a list of objects")
    turns = [_turn(message, role, content) for message in messages]
    while turns and turns[-1].role != "assistant":  # asked, and never answered: nothing to learn from
        turns.pop()
    if not turns:
        return [Skipped("no answer")]
    if next(turn.role for turn in turns if turn.role != "system") != "user":
        return [Skipped("an answer before any question")]
    if any(one.role == other.role == "assistant" for one, other in pairwise(turns)):
        return [Skipped("an answer behind an answer")]  # the template has no such form
    return [make_record(turns)]


def _turn(message: dict[str, Any], role: str, content: str) -> Turn:
    speaker = SPEAKERS.get(str(message.get(role)))
    if speaker is None:
        raise RowError(
            f"a message's {role} is {message.get(role)!r:.40}; it must be one of {', '.join(SPEAKERS)}"
        )
    return Turn(speaker, _text(message, content).strip())


def _checked(record: Record) -> Record | Skipped:
    answers = [turn.text for turn in record.turns if turn.role == "assistant"]
    if not record.question:
        return Skipped("no question")
    if not all(answers):
        return Skipped("no answer")
    if any(map(is_open, answers)):
        return Skipped("tool output never closed")
    if any(map(is_unclear, answers)):
        return Skipped("tool output among other fences")
    return record


def _text(row: dict[str, Any], name: str) -> str:
    """The text in a field; null counts as an empty one."""
    value = row.get(name, 0)
    if not isinstance(value, str | None):
        raise RowError(f"its {name} is {row.get(name)!r:.40}; it must be text")
    return value or ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _same(prediction: Any, truth: Any) -> bool:
    """Equal as texts, or as decimal numbers; what is not there is equal to nothing."""
    if prediction in (None, "") or truth in (None, ""):
        return False
    one, other = (str(value).replace(",", "").strip() for value in (prediction, truth))
    try:
        return one == other or Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False
